"""Finds the bug in your distillation."""

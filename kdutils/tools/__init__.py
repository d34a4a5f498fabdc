"""Runs the notebooks, fills the README's tables, measures the engine."""

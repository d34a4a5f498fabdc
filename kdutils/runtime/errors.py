"""Errors with a name of their own, so that a caller can tell them from a bug."""

from __future__ import annotations


class DataError(ValueError):
    """Something is wrong with the data; the message says what, and what to do about it."""

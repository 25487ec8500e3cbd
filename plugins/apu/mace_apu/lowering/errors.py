"""The way a translation says no."""

from __future__ import annotations


class DeclinedError(Exception):
    """A node cannot be lowered; the text is the reason given to the user."""

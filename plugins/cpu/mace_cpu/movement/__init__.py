"""Operators that rearrange elements."""

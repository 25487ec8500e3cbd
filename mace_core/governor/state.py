"""The mode that the process is in, for those who only tell it."""

from __future__ import annotations

_text = ""


def set_governed(text: str) -> None:
    """What `governed` answers from now on."""
    global _text
    _text = text


def governed() -> str:
    """What the governor holds runs to, in words; "" where none runs."""
    return _text

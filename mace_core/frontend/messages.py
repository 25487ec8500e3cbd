"""Messages about files whose names can be anything."""

from __future__ import annotations


def tidy(message: str) -> str:
    """One line of bounded length: names in a damaged file can be anything."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in message)
    return printable if len(printable) <= 1000 else f"{printable[:700]} … {printable[-250:]}"

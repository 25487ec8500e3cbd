"""How results are shown to people: tables as text that fits its terminal, and as HTML.

What is shown is decided elsewhere; nothing here knows sessions or devices.
"""

from mace_core.presentation.table import Column, Table, fold, number, prose

__all__ = ["Column", "Table", "fold", "number", "prose"]

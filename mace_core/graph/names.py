"""Names that nothing has yet."""

from __future__ import annotations


def free_name(wanted: str, taken: set[str]) -> str:
    """``wanted``, with a number behind it where ``taken`` has it; the answer is put into ``taken``."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name

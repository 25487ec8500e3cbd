"""Which function says what an operator of com.microsoft is made of, and what those functions share."""

from __future__ import annotations

from mace_core.graph import Attribute, Node, Value
from mace_core.scheduler.rewriting import Bodies, BodyBuilder

BODIES = Bodies("com.microsoft")
body = BODIES.register


def given(node: Node, index: int) -> Value:
    """An input that must be there.

    Raises:
        ValueError: if it is left out.
    """
    value = node.input(index)
    if value is None:
        raise ValueError(f"node '{node.name}' ({node.qualified_op}) lacks input {index}")
    return value


def made(node: Node) -> Value:
    """The first output.

    Raises:
        ValueError: if it is left out.
    """
    value = node.output(0)
    if value is None:
        raise ValueError(f"node '{node.name}' ({node.qualified_op}) lacks its output")
    return value


def kept(node: Node, *dropped: str) -> dict[str, Attribute]:
    """The attributes but for some."""
    return {key: value for key, value in node.attributes.items() if key not in dropped}


def transposed(b: BodyBuilder, value: Value, rank: int) -> Value:
    """The last two axes exchanged."""
    return b.op("Transpose", [value], {"perm": [*range(rank - 2), rank - 1, rank - 2]})

"""Reading a node's inputs and attributes, as several families need it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import divisor, hint, is_symbolic, settled


def need(value: Value | None) -> Value:
    """A required input or output.

    Raises:
        ValueError: where it is left out (the model was not checked).
    """
    if value is None:
        raise ValueError("a required input or output is left out")
    return value


def fixed(view: GraphView, node: Node, index: int, what: str) -> str | None:
    """A reason if the input at ``index`` is there but its content is not known before the run."""
    value = node.input(index)
    if value is None or view.constant(value) is not None:
        return None
    return f"{what} ('{value.name}') is not known before the run"


def integers(view: GraphView, value: Value | None) -> list[int] | None:
    """The content of a constant integer tensor as a flat list; None where there is no such input."""
    found = view.constant(value)
    return None if found is None else [settled(size) if is_symbolic(size) else int(size) for size in found.tolist()]


def attribute_or_input(view: GraphView, node: Node, name: str, index: int) -> list[int] | None:
    """A list of integers that older opsets have as an attribute, newer ones as an input; None where it is not given."""
    given: Sequence[int] | None = node.attr(name)
    return [int(i) for i in given] if given is not None else integers(view, node.input(index))


def normal_axis(axis: int, rank: int) -> int:
    """A negative axis counted from the end."""
    return axis + rank if axis < 0 else axis


SHORTEST_ROW = 64
"""Elements of a row that are worth a unit of work."""


def even_rows(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, length): into which rows to cut the elements of a dense value so that threads can share them."""
    size = math.prod(shape)
    length = math.gcd(divisor(size), 4096)
    if length >= SHORTEST_ROW:
        return size // length, length
    if not is_symbolic(size):
        return 1, size
    outer, length = list(shape), 1
    while outer and hint(length) < SHORTEST_ROW:
        length *= outer.pop()
    return math.prod(outer), length

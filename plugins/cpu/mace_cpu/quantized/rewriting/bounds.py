"""Relu and Clip between an operator and its QuantizeLinear, as bounds of the quantized result.

Rounding keeps order, so quantizing a bounded number is bounding the quantized one.
"""

from __future__ import annotations

from mace_core.graph import Attribute, Node
from mace_cpu.quantized.integer_form import Encoding
from mace_cpu.quantized.rewriting.graph import Rewriting, integer
from mace_cpu.shared.program.operations import CLIP_BOUNDS_ARE_INPUTS_SINCE

Bounds = tuple[int | None, int | None]
FREE: Bounds = (None, None)

BOUNDING = frozenset({"Relu", "Clip"})


def bounds_of(rewriting: Rewriting, node: Node, encoding: Encoding) -> Bounds | str:
    """The bounds that a Relu or Clip sets, in steps; a reason where they are not known."""
    if node.op_type == "Relu":
        return _within(encoding, encoding.steps(0.0), None)
    found: list[int | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if rewriting.view.opset() < CLIP_BOUNDS_ARE_INPUTS_SINCE:
            real = node.attr(name)
        else:
            given = node.input(index)
            real = None if given is None else rewriting.number(given)
            if given is not None and real is None:
                return "its bounds are not known before the run"
        if real is not None and real != real:
            return "one of its bounds is not a number"
        found.append(None if real is None else encoding.steps(float(real)))
    return _within(encoding, found[0], found[1])


def _within(encoding: Encoding, low: int | None, high: int | None) -> Bounds:
    """Without bounds that the type sets anyway."""
    smallest, largest = encoding.steps(float("-inf")), encoding.steps(float("inf"))
    return (None if low is None or low <= smallest else low, None if high is None or high >= largest else high)


def both(inner: Bounds, outer: Bounds) -> Bounds:
    """The bounds of what is bounded twice: first by ``inner``, then by ``outer``.  A lower bound above the upper one
    gives way, as in Clip."""
    low, high = outer
    bounds = [_bounded(bound, low, high) for bound in inner]
    first = low if bounds[0] is None else bounds[0]
    second = high if bounds[1] is None else bounds[1]
    return first, second


def _bounded(value: int | None, low: int | None, high: int | None) -> int | None:
    if value is None:
        return None
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def as_attributes(bounds: Bounds) -> dict[str, Attribute]:
    """As attributes of a node of `INTEGERS`."""
    return {
        name: integer(bound) for name, bound in zip(("minimum", "maximum"), bounds, strict=True) if bound is not None
    }

"""Inputs that are computed on in place: caches to which a Concat appends, or into which rows are scattered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import InPlace, Node, Value
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.nodes import normal_axis
from mace_cpu.shared.parts.buffers import Buf, Place
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.parts.views import Strided


@dataclass(frozen=True, slots=True)
class Growth:
    """An input and the output that is computed behind it.

    Attributes:
        number: among what the view offers.
        source: the input.
        axis: along which it grows; None where it is written over.
        capacity: entries that its memory has room for.
        buf: that memory.
    """

    number: int
    source: Value
    axis: int | None
    capacity: int
    buf: Buf

    def strided(self, shape: Sequence[int]) -> Strided:
        """How the first entries lie that make up a tensor of this shape."""
        whole = [self.capacity if axis == self.axis else size for axis, size in enumerate(shape)]
        return Strided(self.buf, 0, tuple(shape), tuple(strides_of(whole)))


def growths(facts: Facts) -> dict[Value, Growth]:
    """The outputs that are computed in place: an input with something behind it, as Concat puts it there, or with
    some of its elements written anew."""
    view = facts.view
    found: dict[Value, Growth] = {}
    made = {value: node for node in view.nodes for value in node.outputs} if view.in_place else {}
    for number, offer in enumerate(view.in_place):
        if (_writes_over if offer.axis is None else _appends)(facts, offer, made[offer.target]):
            index = view.inputs.index(offer.source)
            buf = Buf(Place.INPUT, facts.nbytes(offer.source), index)
            found[offer.target] = Growth(number, offer.source, offer.axis, offer.capacity, buf)
    return found


def _appends(facts: Facts, offer: InPlace, node: Node) -> bool:
    if node.op_type != "Concat" or node.domain:
        return False
    axis = normal_axis(int(node.attr("axis", 1)), len(facts.shape(offer.target)))
    return axis == offer.axis and node.inputs[0] is offer.source and node.inputs.count(offer.source) == 1


def _writes_over(facts: Facts, offer: InPlace, node: Node) -> bool:
    """Whether a node writes into its first operand, which nobody else reads."""
    is_scatter = node.op_type in ("Scatter", "ScatterElements", "ScatterND", "TensorScatter") and not node.domain
    if not is_scatter or facts.dtype(offer.source).is_packed:
        return False
    users = facts.view.users(offer.source)
    return node.inputs[0] is offer.source and node.inputs.count(offer.source) == 1 and list(users) == [node]

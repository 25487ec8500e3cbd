"""How a convolution or product can be computed in parts: along which axis, and which of its operands are cut with it.

Most of that is said by the independent axes of the operators (`mace_core.operators.independence`).  Convolutions in
groups are cut between groups, which no lane tells, since the number of groups is an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mace_core.graph import Node, Value
from mace_core.operators.independence import Lane
from mace_core.scheduler.planning.lanes import lanes_of
from mace_core.scheduler.planning.stages import Stage
from mace_core.tensor import Tensor, TensorType
from mace_core.tensor.symbolic import SymbolicTensor

SPLIT = frozenset({"Conv", "ConvInteger", "QLinearConv", "MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"})
"""Operators of the default domain that are split."""

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
_SLICE_HAS_INPUTS_SINCE = 10
_MATRICES = "matrices"


@dataclass(frozen=True, slots=True)
class Cut:
    """An operand that is cut: the number of the input, the axis, and how many positions belong to one unit."""

    operand: int
    axis: int
    each: int = 1


@dataclass(frozen=True, slots=True)
class Way:
    """One way of computing a node in parts.

    Attributes:
        what: the units, for people: "output channels".
        units: how many there are to share out.
        cuts: the operands that are cut; the others are read whole by each part.
        axis: of the result, along which the parts are joined.
        each: positions of the result that one unit makes.
        in_groups: the units are groups of a convolution, whose number is an attribute.
    """

    what: str
    units: int
    cuts: tuple[Cut, ...]
    axis: int
    each: int = 1
    in_groups: bool = False

    @property
    def tag(self) -> str:
        """The same in a word, different for each way of computing a node."""
        word = self.what.rpartition(" ")[2]
        return f"{word}{self.axis}" if word == _MATRICES else word


class Facts:
    """What is known of the values of a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._opsets: Mapping[str, int] = stage.graph.opset_imports

    def content(self, value: Value) -> Tensor | None:
        """What a value holds, where the run does not tell."""
        found = value.constant if value.constant is not None else self._stage.known.get(value)
        return None if isinstance(found, SymbolicTensor) else found

    def type(self, value: Value) -> TensorType | None:
        """The type of a tensor of known shape."""
        content = self.content(value)
        if content is not None:
            return TensorType(content.dtype, content.shape)
        found = self._stage.types.get(value, value.type)
        return found if isinstance(found, TensorType) and found.is_concrete else None

    def shape(self, value: Value | None) -> tuple[int, ...] | None:
        """The shape where it is known in numbers."""
        found = None if value is None else self.type(value)
        return None if found is None else found.concrete_shape

    def lanes(self, node: Node) -> list[Lane]:
        """The independent axes of a node with one output."""
        if len([value for value in node.outputs if value is not None]) != 1:
            return []
        return lanes_of(node, self._stage.types, self._stage.known, self._opsets)

    @property
    def can_slice(self) -> bool:
        """Whether a piece can be taken out of a value that the run computes."""
        return self._opsets.get("", _SLICE_HAS_INPUTS_SINCE) >= _SLICE_HAS_INPUTS_SINCE


def ways_of(node: Node, facts: Facts) -> list[Way]:
    """The ways of computing ``node`` in parts, those first that cut nothing but constants; see `why_whole`."""
    if node.domain or node.op_type not in SPLIT or facts.shape(node.output(0)) is None:
        return []
    found = [way for way in (*_groups(node, facts), *_by_lanes(node, facts)) if way.units > 1]
    if not facts.can_slice:
        found = [way for way in found if _cuts_constants(node, way, facts)]
    return sorted(found, key=lambda way: (not _cuts_constants(node, way, facts), way.axis))


def why_whole(node: Node, facts: Facts) -> str:
    """Why there is no way; "" where there is one."""
    if node.domain or node.op_type not in SPLIT:
        return f"{node.qualified_op} is not computed in parts, only {', '.join(sorted(SPLIT))} are"
    if facts.shape(node.output(0)) is None:
        return "its shape is not known before the run"
    if not ways_of(node, facts):
        return "none of its axes can be shared out: each has one position, or cannot be cut"
    return ""


def _cuts_constants(node: Node, way: Way, facts: Facts) -> bool:
    return all(_is_constant(node.input(cut.operand), facts) for cut in way.cuts)


def _is_constant(value: Value | None, facts: Facts) -> bool:
    if value is None or facts.content(value) is not None:
        return True
    maker = value.producer
    return maker is not None and maker.op_type == "DequantizeLinear" and _is_constant(maker.input(0), facts)


def _by_lanes(node: Node, facts: Facts) -> Iterator[Way]:
    result = facts.shape(node.output(0)) or ()
    for lane in facts.lanes(node):
        if lane.inputs and not lane.stated:
            axis = lane.outputs[0][1]
            yield Way(_named(node, axis, len(result)), result[axis], tuple(Cut(*place) for place in lane.inputs), axis)


def _named(node: Node, axis: int, rank: int) -> str:
    if node.op_type in _CONVOLUTIONS:
        return ("images", "output channels")[axis]
    return {rank - 1: "columns", rank - 2: "rows"}.get(axis, _MATRICES)


def _groups(node: Node, facts: Facts) -> Iterator[Way]:
    """A convolution in groups, shared out group by group: its data are cut as well."""
    groups = int(node.attr("group", 1))
    if node.op_type not in _CONVOLUTIONS or groups == 1:
        return
    weight = {"QLinearConv": 3}.get(node.op_type, 1)
    data, weights = facts.shape(node.input(0)), facts.shape(node.input(weight))
    if data is None or weights is None or data[1] % groups or weights[0] % groups:
        return
    each = weights[0] // groups
    cuts = [Cut(0, 1, data[1] // groups), Cut(weight, 0, each)]
    for operand in {"Conv": (2,), "QLinearConv": (4, 5, 8), "ConvInteger": (3,)}[node.op_type]:
        shape = facts.shape(node.input(operand))
        if shape is not None and shape[:1] == (weights[0],) and (weights[0] > 1 or len(shape) == 1):
            cuts.append(Cut(operand, 0, each))
    yield Way("groups", groups, tuple(cuts), 1, each, in_groups=True)

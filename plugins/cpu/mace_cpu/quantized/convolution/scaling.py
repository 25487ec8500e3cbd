"""What stands behind a ConvInteger: a conversion to float, scales of which the run brings one, and a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.lower_whole import output_cast
from mace_cpu.shared.epilogue.requantize import STEP_FIRST, STEP_LAST
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program

Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class Scaling:
    """What becomes of the sums of a ConvInteger.

    Attributes:
        result: the value that is stored.
        is_float: as float32, else as int32.
        scales: (O,) factors that are known.
        scale: where the float32 lies that they are multiplied by in the run; None for 1.
        bias: (O,) that is added; None for none.
        order: when sums are multiplied by the size of a step, see `Requantization.step`; "" where there is none.
        step: where that lies.
    """

    result: Value
    is_float: bool
    scales: Floats
    scale: Buf | None = None
    bias: Floats | None = None
    order: str = ""
    step: Buf | None = None


def scaling_of(program: Program, node: Node, channels: int) -> Scaling:
    """Take the nodes behind ``node``, a ConvInteger with so many channels, that scale its result."""
    ones = np.ones(channels, np.float32)
    converted = output_cast(program, node)
    if converted is None:
        return Scaling(need(node.output(0)), False, ones)
    found = Scaling(converted, True, ones)
    if _take_step(program, found):
        return found
    _take_scales(program, found)
    user = program.fusion.sole_user(found.result)
    if user is not None and not user.domain and user.op_type == "Add":
        bias = _per_channel(program, _other(user, found.result), found.result, channels)
        if bias is not None and _keeps_shape(program, user, found.result):
            program.fusion.fuse(user)
            found.bias, found.result = bias, need(user.output(0))
    return found


def scaling_of_rows(program: Program, node: Node, size: Value, units: int, axis: int) -> Scaling:
    """Take the nodes behind ``node``, whose rows have steps of their own ``size``, that scale its result.

    ``axis``: along which there are so many units.
    """
    none = Scaling(need(node.output(0)), False, np.ones(units, np.float32))
    walk = _Walk(program, none.result, units, axis)
    if not walk.cast(DType.FLOAT32) or walk.next("Mul") is not size:
        return none
    scales, bias = _scales_and_bias(program, walk)
    if scales is None:
        return none
    for taken in walk.settled:
        program.fusion.fuse(taken)
    return Scaling(walk.result, True, scales, bias=bias, order=STEP_FIRST, step=program.values.read(size))


def _take_step(program: Program, found: Scaling) -> bool:
    """Take products with the size of a step and then with the scales, or the other way around, and a bias.

    Where scale and bias are rounded once, which the graph says in float64, the machine needs an instruction for it.
    """
    walk = _Walk(program, found.result, found.scales.size)
    first = walk.next("Mul")
    if first is None:
        return False
    scales = walk.per_channel(first)
    if scales is not None:
        second = walk.next("Mul")
        if second is None or not _is_one_number(program, second):
            return False
        order, step = STEP_LAST, second
        walk.settle()
        bias = walk.per_channel(walk.next("Add"))
        if bias is not None:
            walk.settle()
    else:
        if not _is_one_number(program, first):
            return False
        order, step = STEP_FIRST, first
        scales, bias = _scales_and_bias(program, walk)
        if scales is None:
            return False
    for node in walk.settled:
        program.fusion.fuse(node)
    found.order, found.step = order, program.values.read(step)
    found.scales, found.bias, found.result = scales, bias, walk.result
    return True


def _scales_and_bias(program: Program, walk: _Walk) -> tuple[Floats | None, Floats | None]:
    """Scales, and a bias that is added before anything is rounded."""
    if walk.cast(DType.FLOAT64):
        scales, bias = walk.per_channel(walk.next("Mul")), walk.per_channel(walk.next("Add"))
        if scales is None or bias is None or not walk.cast(DType.FLOAT32) or not rounds_once(program):
            return None, None
    else:
        scales, bias = walk.per_channel(walk.next("Mul")), None
        if scales is None:  # the walk is over, with nothing to take
            return None, None
    walk.settle()
    return scales, bias


def rounds_once(program: Program) -> bool:
    """Whether the machine multiplies and adds with one rounding."""
    target = program.settings.target
    return target.architecture != "x86_64" or target.has("fma")


class _Walk:
    """The nodes behind a value that alone read what the one before computes.

    Attributes:
        result: what the last of the settled ones computes.
        settled: the nodes that belong together.
    """

    def __init__(self, program: Program, value: Value, channels: int, axis: int = 1) -> None:
        self._program, self._channels, self._axis = program, channels, axis
        self._value: Value | None = value
        self._like = self.result = value
        self.settled: list[Node] = []
        self._seen: list[Node] = []

    def next(self, op_type: str) -> Value | None:
        """The other operand of the next node, if it is of this operator; else the walk is over."""
        value, self._value = self._value, None
        user = None if value is None else self._program.fusion.sole_user(value)
        if value is None or user is None or user.domain or user.op_type != op_type:
            return None
        if not _keeps_shape(self._program, user, self._like):
            return None
        self._seen.append(user)
        self._value = need(user.output(0))
        return _other(user, value)

    def cast(self, dtype: DType) -> bool:
        """Whether the next node is a Cast to this type, which is taken then."""
        user = None if self._value is None else self._program.fusion.sole_user(self._value)
        if user is None or user.domain or user.op_type != "Cast" or int(user.attr("to", 0)) != dtype.value:
            return False
        self._seen.append(user)
        self._value = need(user.output(0))
        return True

    def per_channel(self, value: Value | None) -> Floats | None:
        """A constant with a number for each channel, or for all; None where it is none, or no float32 holds it."""
        if value is None:
            return None
        return _per_channel(self._program, value, self._like, self._channels, self._axis, wide=True)

    def settle(self) -> None:
        """What was seen so far belongs together."""
        assert self._value is not None
        self.settled, self.result = list(self._seen), self._value


def _take_scales(program: Program, found: Scaling) -> None:
    """Take the product with one or two scales."""
    user = program.fusion.sole_user(found.result)
    if user is None or user.domain or user.op_type != "Mul" or not _keeps_shape(program, user, found.result):
        return
    factor = _other(user, found.result)
    made, parts = None, [factor]
    if not program.values.is_ready(factor):
        made = _maker(program, factor)
        if made is None or not program.fusion.is_free(made) or program.fusion.sole_user(factor) is not user:
            return
        parts = [need(made.input(0)), need(made.input(1))]
    elif not _is_one_number(program, factor) and (maker := _maker(program, factor)) is not None:
        parts = [need(maker.input(0)), need(maker.input(1))]  # it is computed already: for nobody, it may be
    known, scale = found.scales, None
    for part in parts:
        constant = _per_channel(program, part, found.result, found.scales.size)
        if constant is not None:
            known = known * constant
        elif scale is None and _is_one_number(program, part):
            scale = part
        else:
            return
    if made is not None:
        program.fusion.fuse(made)
    program.fusion.fuse(user)
    found.scales, found.result = known, need(user.output(0))
    found.scale = None if scale is None else program.values.read(scale)


def _maker(program: Program, value: Value) -> Node | None:
    """The Mul that computes a value."""
    found = next((node for node in program.facts.view.nodes if value in node.outputs), None)
    return None if found is None or found.domain or found.op_type != "Mul" else found


def _other(node: Node, value: Value) -> Value:
    return need(node.input(1) if node.input(0) is value else node.input(0))


def _keeps_shape(program: Program, node: Node, value: Value) -> bool:
    return program.facts.have_one_shape(need(node.output(0)), value)


def _is_one_number(program: Program, value: Value) -> bool:
    """Whether the run brings one float32, and has it by now."""
    facts = program.facts
    if facts.is_constant(value) or facts.dtype(value) is not DType.FLOAT32:
        return False
    return all(size == 1 for size in facts.shape(value)) and program.values.is_ready(value)


def _per_channel(
    program: Program, value: Value, like: Value, channels: int, channel_axis: int = 1, *, wide: bool = False
) -> Floats | None:
    """A float32 constant with one number for all or one for each channel of ``like``, as (O,); None for others.

    ``wide``: float64 is as good where its numbers are those of float32.
    """
    known: npt.NDArray[Any] | None = program.facts.constant_of(value)
    rank = len(program.facts.shape(like))
    if wide and known is not None and known.dtype == np.float64:
        narrow = known.astype(np.float32)
        known = narrow if np.array_equal(narrow, known) else None
    if known is None or known.dtype != np.float32 or known.ndim > rank:
        return None
    shape = (*(1,) * (rank - known.ndim), *known.shape)
    if any(size != 1 for axis, size in enumerate(shape) if axis != channel_axis):
        return None
    if shape and shape[channel_axis] not in (1, channels):
        return None
    return np.broadcast_to(known.reshape(-1), (channels,)).astype(np.float32)

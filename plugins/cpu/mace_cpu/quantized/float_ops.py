"""Operations in float32 between the sums of a product of bytes and what is stored.

Activations and residual sums that nobody quantizes before are computed in registers, on sums times their scales.  A
QuantizeLinear behind them is taken, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mace_core.graph import Node, Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import BYTES, INTEGERS, NUMBERS
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import FloatArray
from mace_cpu.shared.epilogue.requantize import FloatOps, Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.program.floats_last import show_floats_last
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.program.values import Postponed

MOST_BETWEEN = 12
"""Nodes that are followed back from an operand to the product it comes from."""


@dataclass(frozen=True, slots=True)
class FloatOperands:
    """The operands of `FloatOps`.

    Attributes:
        inverse: of the scale of the result.
        channels: arrays with a number per channel.
        tensors: where the others lie.
        encodings: the zero point and the scale of each of those.
    """

    inverse: float
    channels: Sequence[FloatArray]
    tensors: Sequence[Buf]
    encodings: Sequence[float]

    def words(self, place: Callable[[FloatArray], Word]) -> list[Word]:
        """As argument words; ``place`` makes one of an array."""
        return [self.inverse, *(place(channel) for channel in self.channels), *self.tensors, *self.encodings]


@dataclass(frozen=True, slots=True)
class Dequantized(Postponed):
    """Floats that stand for bytes and are computed where somebody wants them as floats.

    Attributes:
        numbers: the bytes.
        zero, scale: what they stand for.
    """

    numbers: Value
    zero: int
    scale: float


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of the floats that sums stand for.

    Attributes:
        spec: the requantization, with what is done before it.
        operands: of these operations; None where there are none.
        value: what is stored.
        zero, low, high: its zero point and bounds.
    """

    spec: Requantization
    operands: FloatOperands | None
    value: Value
    zero: int = 0
    low: int = 0
    high: int = 0


def end_of(
    program: Program,
    node: Node,
    spec: Requantization,
    layout: Layout,
    channel_axis: int,
    first: Epilogue | None = None,
    real: Value | None = None,
) -> Ending:
    """Take what is done to the float32 result of ``node`` alone.

    Args:
        program: that is being lowered.
        node: the current one.
        spec: of the float32 result.
        layout: in which tensors are read.
        channel_axis: along which operands per channel vary.
        first: what ``node`` itself does, if that belongs to it.
        real: the float32 that is computed so far, where it is not the result of ``node``.
    """

    def takes(other: Value) -> bool:
        return floats_at(program, other, layout, emits=False) is not None

    real = real or need(node.output(0))
    epilogue, final = match_epilogue(program, real, channel_axis=channel_axis, takes=takes, wide=True)
    if epilogue:
        program.steps.settle(f"float32 in registers, behind '{node.name}'")
    if first is not None:
        epilogue = first.then(epilogue)
        program.steps.settle_current("float32 in registers")
    user = program.fusion.sole_user(final)
    encoding = None if user is None else encoding_of_border(program, user)
    if user is None or encoding is None:
        if not epilogue:
            return Ending(spec, None, final)
        ops, operands = _operands(program, epilogue, layout, 1.0)
        return Ending(replace(spec, floats=ops), operands, final)
    program.fusion.fuse(user)
    numbers = need(user.output(0))
    held = np.iinfo(program.facts.dtype(numbers).numpy)
    scale, zero = encoding
    ops, operands = _operands(program, epilogue, layout, float(np.float32(1) / np.float32(scale)))
    rounded = replace(spec, result=program.facts.dtype(numbers).label, floats=ops, far=True)
    return Ending(rounded, operands, numbers, zero, int(held.min), int(held.max))


def leave(program: Program, node: Node, emit: Callable[[], None]) -> None:
    """Leave a DequantizeLinear, whose encoding is known, to those who read its result.

    ``emit``: emits the steps that compute it.
    """
    encoding = encoding_of_border(program, node)
    assert encoding is not None
    scale, zero = encoding
    program.values.postpone(need(node.output(0)), Dequantized(emit, node, need(node.input(0)), zero, scale))


def show_channels_last(program: Program, node: Node, value: Value, target: Buf) -> None:
    """See that ``value``, computed into ``target`` in the order of CHANNELS_LAST, can be read if it is of floats."""
    if program.facts.dtype(value) in NUMBERS:
        return
    show_floats_last(program, node, value, target)


def _operands(program: Program, epilogue: Epilogue, layout: Layout, inverse: float) -> tuple[FloatOps, FloatOperands]:
    kinds, tensors, encodings = [], [], []
    for tensor in epilogue.tensors:
        found = floats_at(program, tensor, layout)
        assert found is not None
        kinds.append(found[0])
        tensors.append(found[1])
        encodings += [float(found[2]), float(found[3])]
    return FloatOps(epilogue.ops, tuple(kinds)), FloatOperands(inverse, epilogue.channels, tensors, encodings)


def floats_at(
    program: Program, value: Value, layout: Layout, *, emits: bool = True
) -> tuple[str, Buf, int, float] | None:
    """Type, place, zero point and scale of a float operand; None if it does not lie in the order of ``layout``.

    ``emits``: whether steps may be emitted for it; the place means nothing otherwise.
    """
    values = program.values
    left = values.postponed(value)
    nowhere = Buf.scratch(0)
    if isinstance(left, Dequantized):
        place = values.read(left.numbers, layout) if emits else nowhere
        return program.facts.dtype(left.numbers).label, place, left.zero, left.scale
    _, *inner = program.facts.shape(value) or (1,)
    if layout is Layout.PLAIN or is_same(math.prod(inner[1:]), 1):
        return "float32", values.read(value) if emits else nowhere, 0, 1.0
    lies = values.shown_channels_last(value)
    return None if lies is None else ("float32", lies, 0, 1.0)


def encoding_of_border(program: Program, node: Node) -> tuple[float, int] | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear between float32 and bytes; None for any other."""
    facts = program.facts
    if node.domain or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    numbers = node.output(0) if node.op_type == "QuantizeLinear" else node.input(0)
    scale, zero = facts.constant_of(node.input(1)), facts.constant_of(node.input(2))
    if facts.dtype(need(numbers)) not in BYTES or scale is None or scale.dtype != np.float32 or scale.size != 1:
        return None
    if node.input(2) is not None and (zero is None or zero.size != 1):
        return None
    if int(node.attr("precision", 0)) not in (0, DType.FLOAT32.value) or node.attr("block_size", 0):
        return None
    with np.errstate(all="ignore"):
        inverse = np.float32(1) / scale.reshape(-1)[0]
    if not np.isfinite(inverse):
        return None
    return float(scale.reshape(-1)[0]), 0 if zero is None else int(zero.reshape(-1)[0])


def joins_product(program: Program, node: Node, real: Value) -> bool:
    """Whether ``node`` computes one value of ``real`` and of floats that come from a product of bytes."""
    if node.domain or node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return False
    other = next((value for value in node.inputs if value is not real), None)
    for _ in range(MOST_BETWEEN):
        producer = None if other is None else program.fusion.producers.get(other)
        if producer is None:
            return False
        if producer.domain == INTEGERS:
            return True
        inputs = (value for value in producer.inputs if value is not None)
        other = next((value for value in inputs if not program.facts.is_constant(value)), None)
    return False

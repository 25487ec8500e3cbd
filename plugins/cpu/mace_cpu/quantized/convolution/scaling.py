"""What stands behind a ConvInteger: a conversion to float, scales of which the run brings one, and a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.lower_whole import output_cast
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
    """

    result: Value
    is_float: bool
    scales: Floats
    scale: Buf | None = None
    bias: Floats | None = None


def scaling_of(program: Program, node: Node, channels: int) -> Scaling:
    """Take the nodes behind ``node``, a ConvInteger with so many channels, that scale its result."""
    ones = np.ones(channels, np.float32)
    converted = output_cast(program, node)
    if converted is None:
        return Scaling(need(node.output(0)), False, ones)
    found = Scaling(converted, True, ones)
    _take_scales(program, found)
    user = program.fusion.sole_user(found.result)
    if user is not None and not user.domain and user.op_type == "Add":
        bias = _per_channel(program, _other(user, found.result), found.result, channels)
        if bias is not None and _keeps_shape(program, user, found.result):
            program.fusion.fuse(user)
            found.bias, found.result = bias, need(user.output(0))
    return found


def _take_scales(program: Program, found: Scaling) -> None:
    """Take the product with one or two scales."""
    user = program.fusion.sole_user(found.result)
    if user is None or user.domain or user.op_type != "Mul" or not _keeps_shape(program, user, found.result):
        return
    factor = _other(user, found.result)
    made, parts = None, [factor]
    if not program.values.is_ready(factor):
        made = next((node for node in program.facts.view.nodes if factor in node.outputs), None)
        if made is None or made.domain or made.op_type != "Mul" or not program.fusion.is_free(made):
            return
        if program.fusion.sole_user(factor) is not user:
            return
        parts = [need(made.input(0)), need(made.input(1))]
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


def _per_channel(program: Program, value: Value, like: Value, channels: int) -> Floats | None:
    """A float32 constant with one number for all or one for each channel of ``like``, as (O,); None for others."""
    known: npt.NDArray[Any] | None = program.facts.constant_of(value)
    rank = len(program.facts.shape(like))
    if known is None or known.dtype != np.float32 or known.ndim > rank:
        return None
    shape = (*(1,) * (rank - known.ndim), *known.shape)
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(known.reshape(-1), (channels,)).astype(np.float32)

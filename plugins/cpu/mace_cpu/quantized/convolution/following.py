"""Operations on bytes that become part of the convolution or product before them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mace_core.graph import Node, Value
from mace_core.symbolic import is_symbolic
from mace_cpu.quantized.integer_form import INTEGERS, NUMBERS
from mace_cpu.shared.epilogue.requantize import Following
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.program.program import Program

MOST_FOLLOWING = 4
LARGEST_SUM = 1e9
"""Sums before rounding stay within int32."""


@dataclass(slots=True)
class Followers:
    """What follows a convolution or a product.

    Attributes:
        result: the value that is stored.
        operations: on the bytes.
        words: their arguments.
    """

    result: Value
    operations: list[Following] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The arguments of `follow` that say what may follow, and how it is read."""

    zero: int
    layout: Layout
    columns: int | None


def follow(
    program: Program, result: Value, zero: int, layout: Layout = Layout.CHANNELS_LAST, columns: int | None = None
) -> Followers:
    """Take the nodes that read ``result`` alone, one after another, as far as the kernels compute them.

    Args:
        program: that is being lowered.
        result: what the current node computes.
        zero: its zero point, which a sum has to know it by.
        layout: in which other tensors are read.
        columns: that a constant with a byte for each entry of the last axis is filled up to; None: such are not taken.
    """
    found = Followers(result)
    while len(found.operations) < MOST_FOLLOWING:
        user = program.fusion.sole_user(found.result)
        if user is None or user.domain != INTEGERS or not _take(program, user, found, _Reading(zero, layout, columns)):
            break
        program.fusion.fuse(user)
        found.result = need(user.output(0))
    return found


def _take(program: Program, node: Node, found: Followers, reading: _Reading) -> bool:
    if node.op_type == "Table":
        return _take_table(program, node, found)
    return node.op_type == "QLinearAdd" and _take_sum(program, node, found, reading)


def _take_table(program: Program, node: Node, found: Followers) -> bool:
    table = program.facts.constant_of(node.input(1))
    if table is None or table.size != 256 or table.dtype.itemsize != 1 or need(node.input(0)) is not found.result:
        return False
    found.operations.append(Following("table", _label(program, need(node.output(0)))))
    found.words.append(program.constants.put(np.ascontiguousarray(table.reshape(-1))))
    return True


def _take_sum(program: Program, node: Node, found: Followers, reading: _Reading) -> bool:
    facts, values = program.facts, program.values
    mine, its = (0, 3) if need(node.input(0)) is found.result else (3, 0)
    other, target = need(node.input(its)), need(node.output(0))
    per_column = None if reading.columns is None else _per_column(program, other, found.result, reading.columns)
    if other is found.result or not facts.have_one_shape(target, found.result):
        return False
    if per_column is None and (facts.is_constant(other) or not values.is_ready(other)):
        return False
    if per_column is None and not facts.have_one_shape(other, found.result):
        return False
    widths = {facts.dtype(value).bits for value in (found.result, other, target)}
    if facts.dtype(other) not in NUMBERS or len(widths) != 1:
        return False
    numbers = [facts.constant_of(node.input(i)) for i in (mine + 1, mine + 2, its + 1, its + 2, 6, 7)]
    if any(number is None or number.size != 1 for number in numbers):
        return False
    own_scale, own_zero, other_scale, other_zero, scale, zero = (n.reshape(-1)[0] for n in numbers if n is not None)
    if not found.operations and int(own_zero) != reading.zero:
        return False
    with np.errstate(all="ignore"):
        own_factor, other_factor = float(own_scale / scale), float(other_scale / scale)
    steps = 1 << widths.pop()
    if not math.isfinite(own_factor + other_factor) or steps * (abs(own_factor) + abs(other_factor)) > LARGEST_SUM:
        return False
    held = np.iinfo(facts.dtype(target).numpy)
    low, high = int(node.attr("minimum", held.min)), int(node.attr("maximum", held.max))
    is_bounded = (low, high) != (held.min, held.max)
    label = _label(program, target)
    found.operations.append(Following("add", label, _label(program, other), is_bounded, per_column is not None))
    address = values.read(other, reading.layout) if per_column is None else per_column
    found.words += [address, float(own_zero), float(other_zero), own_factor, other_factor, int(zero), low, high]
    return True


def _per_column(program: Program, value: Value, result: Value, columns: int) -> Buf | None:
    """A constant with a byte for each entry of the last axis of ``result``, filled up; None where it is not one."""
    known, size = program.facts.constant_of(value), program.facts.shape(result)[-1]
    if known is None or is_symbolic(size) or known.dtype.itemsize != 1 or not known.ndim or known.size != size:
        return None
    if known.shape[-1] != size or known.ndim > len(program.facts.shape(result)):
        return None
    full = np.zeros(columns, known.dtype)
    full[:size] = known.reshape(-1)
    return program.constants.put(full)


def _label(program: Program, value: Value) -> str:
    return program.facts.dtype(value).label

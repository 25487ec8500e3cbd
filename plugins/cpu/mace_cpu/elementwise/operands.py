"""How the operands of an elementwise kernel lie in memory: broadcasting as strides, dimensions collapsed into rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.elementwise.expression import CONTIGUOUS, ONE_BLOCK, ONE_ELEMENT
from mace_cpu.shared.layouts.blocks import pack_blocked, shape_in_blocks
from mace_cpu.shared.parts.buffers import Buf, Layout, element_bytes
from mace_cpu.shared.program.program import Program


@dataclass(frozen=True, slots=True)
class Rows:
    """Loop structure of one kernel call.

    Attributes:
        outer: outer dimensions, outermost first.
        length: elements per row.
        reads: how each operand's row is read.
        strides: bytes per step of each outer dimension, for each operand.
        block: lanes per block where some operand is read in blocks, else 0.
    """

    outer: tuple[int, ...]
    length: int
    reads: tuple[str, ...]
    strides: tuple[tuple[int, ...], ...]
    block: int = 0


def aligned(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """``shape`` with ones put in front up to ``rank`` dimensions."""
    return (1,) * (rank - len(shape)) + tuple(shape)


def dense_strides(shape: Sequence[int], itemsize: int) -> list[int]:
    """Bytes per step of each dimension of a row-major array; 0 for dimensions of one element."""
    strides = [0] * len(shape)
    step = itemsize
    for axis in reversed(range(len(shape))):
        strides[axis] = step if shape[axis] != 1 else 0
        step *= shape[axis]
    return strides


def fits(program: Program, value: Value, shape: Sequence[int], layout: Layout) -> bool:
    """Whether ``value``, which is ready, can be an operand of a kernel whose result has ``shape`` in ``layout``."""
    own = program.facts.shape(value)
    if math.prod(own) == 1:
        return True
    if len(own) > len(shape):
        return False
    if not all(is_same(a, 1) or is_same(a, b) for a, b in zip(aligned(own, len(shape)), shape, strict=True)):
        return False
    if layout is Layout.PLAIN:
        return True
    if program.facts.dtype(value) is not DType.FLOAT32:
        return False
    own = aligned(own, len(shape))
    if own[1] == 1:  # the same for all channels: read as it lies
        return program.facts.constant_of(value) is not None or program.values.has(value, Layout.PLAIN)
    whole = all(a == b for a, b in zip(own[2:], shape[2:], strict=True))
    one_pixel = all(a == 1 for a in own[2:])
    if not whole and not one_pixel:
        return False
    if program.facts.constant_of(value) is not None:
        return True
    if len(program.facts.shape(value)) != len(shape):
        return False
    return program.values.has(value, Layout.BLOCKED) or one_pixel


def place(program: Program, value: Value, shape: Sequence[int], layout: Layout) -> tuple[Buf, list[int]]:
    """The buffer of an operand that `fits`, and its strides in bytes along `loop_shape`."""
    own = aligned(program.facts.shape(value), len(shape))
    itemsize = element_bytes(program.facts.dtype(value))
    if math.prod(own) == 1:
        return program.values.read(value), [0] * (len(shape) + (layout is Layout.BLOCKED))
    if layout is Layout.PLAIN:
        return program.values.read(value), dense_strides(own, itemsize)
    if own[1] == 1:
        return program.values.read(value), [*dense_strides(own, itemsize), 0]
    constant = program.facts.constant_of(value)
    if constant is None:
        buf = program.values.read(value, Layout.BLOCKED)
    else:
        buf = program.constants.put(pack_blocked(constant.reshape(own), program.settings.block))
    return buf, dense_strides(shape_in_blocks(own, program.settings.block), itemsize)


def loop_shape(program: Program, shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The dimensions a kernel loops over: those of the result, spare lanes included."""
    return tuple(shape) if layout is Layout.PLAIN else shape_in_blocks(shape, program.settings.block)


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]], itemsizes: Sequence[int], block: int) -> Rows:
    """Merge what can be walked in one go.

    Args:
        shape: dimensions to loop over; the result lies densely in them.
        strides: for each operand, bytes per step along them (0 where it is broadcast).
        itemsizes: bytes per element of each operand.
        block: lanes of a block where the last dimension is one, else 0.
    """
    dims: list[int] = []
    steps: list[list[int]] = []  # per kept dimension, per operand
    for axis, dim in enumerate(shape):
        here = [s[axis] for s in strides]
        if is_same(dim, 1):
            continue
        if dims and all(is_same(before, now * dim) for before, now in zip(steps[-1], here, strict=True)):
            dims[-1] *= dim
            steps[-1] = here
        else:
            dims.append(dim)
            steps.append(here)
    if not dims:
        return Rows((), 1, tuple(CONTIGUOUS for _ in strides), tuple(() for _ in strides))
    inner = steps.pop()
    length = dims.pop()
    reads = [CONTIGUOUS if step else ONE_ELEMENT for step in inner]
    used_block = 0
    if block and length == block and dims:
        merged = [
            _merged_read(step, outer, itemsize, block)
            for step, outer, itemsize in zip(inner, steps[-1], itemsizes, strict=True)
        ]
        if all(merged):
            reads = merged
            length *= dims.pop()
            steps.pop()
            used_block = block
    per_operand = tuple(tuple(step[i] for step in steps) for i in range(len(strides)))
    return Rows(tuple(dims), length, tuple(reads), per_operand, used_block)


def _merged_read(inner: int, outer: int, itemsize: int, block: int) -> str:
    """How an operand is read along pixels and lanes taken together; "" where that is not one of the ways."""
    if inner == itemsize and outer == itemsize * block:
        return CONTIGUOUS
    if inner == itemsize and outer == 0:
        return ONE_BLOCK
    if inner == 0 and outer == 0:
        return ONE_ELEMENT
    return ""

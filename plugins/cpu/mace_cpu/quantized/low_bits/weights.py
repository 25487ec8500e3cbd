"""Weights of few bits as a model stores them, brought into the order in which kernels read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.tensor.files import release_pages
from mace_cpu.quantized.low_bits.arguments import VECTORS, WORD_BITS, Form
from mace_cpu.shared.parts.buffers import Buf, aligned_empty
from mace_cpu.shared.parts.constants import ConstantPool

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.uint8]

SCALE_BYTES = 5
"""Of a block: a float32 scale, a byte for the zero point."""

FLOAT_BYTES = 4

COLUMNS_AT_A_TIME = 512
"""So many columns are unpacked and laid out anew at a time: the codes of all would take several times the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A constant matrix of (steps, columns) numbers in blocks along the steps.

    Attributes:
        form: how the numbers are coded.
        steps, columns: size of the matrix.
        block: steps that share a scale, a multiple of ``form.group``; at least ``steps`` if all do.  Where there is an
            ``order``, places in it that do.
        source: the stored array that codes are made of, which tells equal weights apart.
        codes: the codes of columns from a first one up to another, as (columns, steps), a byte each.
        scales: float32 (columns, blocks).
        zeros: what is subtracted, (columns, blocks): int8 or float32 as ``form.zeros`` says; None where that is "".
        read: arrays of the model that are not needed any more when all is packed.
        order: which step lies at each place, -1 for none; None if they lie as they are.  A multiple of ``form.group``.
        factors: float32 (steps,) that the input is multiplied by first; None for none.
    """

    form: Form
    steps: int
    columns: int
    block: int
    source: Array
    codes: Callable[[int, int], Codes]
    scales: npt.NDArray[np.float32]
    zeros: Array | None = None
    read: tuple[Array, ...] = ()
    order: npt.NDArray[np.int32] | None = None
    factors: npt.NDArray[np.float32] | None = None

    @property
    def places(self) -> int:
        """Steps of a column as they lie, those that fill up blocks and words with them."""
        return -(-self.steps // self.form.group) * self.form.group if self.order is None else self.order.size

    @property
    def groups(self) -> int:
        """Words of a column."""
        return self.places // self.form.group

    @property
    def blocks(self) -> int:
        """Scales of a column."""
        return -(-self.places // self.block)

    def packed(self, constants: ConstantPool, lanes: int) -> tuple[Buf, Buf, Buf | None]:
        """Codes, scales and zero points as the kernels read them, shared with all who have equal ones."""
        order = "" if self.order is None else hashlib.sha256(self.order.tobytes()).hexdigest()
        way = ("low bits", self.form.tag, self.steps, self.columns, lanes, order)
        codes = constants.packed(self.source, way, lambda: self._packed_codes(lanes))
        scales = constants.put(_by_panels(self.scales, lanes), in_place=True)
        zeros = None if self.zeros is None else constants.put(_by_panels(self.zeros, lanes), in_place=True)
        for array in self.read:
            release_pages(array)
        return codes, scales, zeros

    def _packed_codes(self, lanes: int) -> Array:
        """[panel][group][vector][lane] words."""
        form, width = self.form, VECTORS * lanes
        panels = -(-self.columns // width)
        packed = aligned_empty((panels, self.groups, width)).view(np.uint32)
        at_a_time = max(COLUMNS_AT_A_TIME // width, 1)
        for first in range(0, panels, at_a_time):
            last = min(first + at_a_time, panels)
            begin, end = first * width, min(last * width, self.columns)
            # what fills up words and panels is never multiplied by anything but zeros
            codes = np.full(
                ((last - first) * width, self.groups * form.group), 0 if form.kind else form.middle, np.uint8
            )
            if self.order is None:
                codes[: end - begin, : self.steps] = self.codes(begin, end)
            else:
                taken = np.flatnonzero(self.order >= 0)
                codes[: end - begin, taken] = self.codes(begin, end)[:, self.order[taken]]
            words = np.zeros(((last - first) * width, self.groups), np.uint32)
            for step in range(form.group):
                words |= codes[:, step :: form.group].astype(np.uint32) << np.uint32(form.place(step))
            packed[first:last] = words.reshape(last - first, width, self.groups).transpose(0, 2, 1)
        return packed


def by_blocks(numbers: Array, form: Form) -> tuple[npt.NDArray[np.int32], int, npt.NDArray[np.int64]]:
    """Steps laid out so that those with one scale lie in blocks of whole words.

    Args:
        numbers: which scale each step has.

    Returns:
        The order of `Weights`, the size of a block, and which scale each block has.
    """
    steps = np.argsort(numbers, kind="stable")
    owners, starts, counts = np.unique(numbers[steps], return_index=True, return_counts=True)

    def nbytes(words: int) -> int:
        blocks = int((-(-counts // (words * form.group))).sum())
        return blocks * (words * WORD_BITS // 8 + SCALE_BYTES)

    size = form.group * min(range(1, -(-int(counts.max()) // form.group) + 1), key=nbytes)
    blocks = -(-counts // size)
    first = np.cumsum(blocks) - blocks
    rank = np.repeat(np.arange(owners.size), counts)
    order = np.full(int(blocks.sum()) * size, -1, np.int32)
    order[first[rank] * size + np.arange(steps.size) - starts[rank]] = steps
    return order, size, np.repeat(owners, blocks)


def is_worth_packing(places: int, steps: int, blocks: int, form: Form) -> bool:
    """Whether a column takes less memory packed than as floats."""
    return places * form.bits // 8 + blocks * SCALE_BYTES < steps * FLOAT_BYTES


def _by_panels(array: Array, lanes: int) -> Array:
    """(columns, blocks) as [panel][block][column of the panel], 64-byte aligned."""
    width = VECTORS * lanes
    columns, blocks = array.shape
    panels = -(-columns // width)
    words = aligned_empty((-(-panels * blocks * width * array.itemsize // 4),)).view(np.uint8)
    laid = words[: panels * blocks * width * array.itemsize].view(array.dtype).reshape(panels, blocks, width)
    full = np.zeros((panels * width, blocks), array.dtype)
    full[:columns] = array
    laid[...] = full.reshape(panels, width, blocks).transpose(0, 2, 1)
    return laid


def unpacked(data: Codes, bits: int) -> Codes:
    """Codes of ``bits`` bits from the bytes of the last axis, lowest bits first."""
    if bits == 8:
        return data
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread: Codes = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*data.shape[:-1], -1)

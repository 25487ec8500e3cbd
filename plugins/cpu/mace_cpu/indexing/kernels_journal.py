"""What a scatter is about to write over, kept until the run has ended.

Each kernel runs in one chunk before the scatter that it belongs to.  For every row that the scatter writes, it notes
where the row is, in bytes of the target, or -1 for an index that leads nowhere, and what it holds.  When all is there
it says so in the words ``noted``: address of the journal, rows, bytes of a row, address of the target.
"""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, helper, i64
from mace_cpu.shared.kernels.indices import offset_of
from mace_cpu.shared.kernels.primitives import POINTERS, copy_bytes, quotient

WORDS = {
    "note_elements": "indices target journal noted entries row_bytes units size stride rank sizes[rank] strides[rank]",
    "note_tuples": "indices target journal noted entries row_bytes units depth sizes[depth] strides[depth]",
    "note_rows": "starts target journal noted entries row_bytes units prefixes length size circular",
}


@helper
def _note(args: Any, entry: Any, place: Any) -> None:
    """Keep the row at byte ``place`` of the target, or nothing where that is negative."""
    target, journal, entries, row = args[1], args[2], args[4], args[5]
    i64(journal)[entry] = place
    if place >= 0:
        copy_bytes(journal + 8 * entries + entry * row, target + place, row)


@helper
def _finish(args: Any, end: Any) -> None:
    """Say that all is there, once it is."""
    if end == args[6]:
        noted = i64(args[3])
        noted[1], noted[2], noted[3] = args[4], args[5], args[1]
        noted[0] = args[2]


def note_elements(index: str) -> Kernel:
    """One unit is a row of the indices; ``stride`` and ``strides`` are the target's, in elements."""
    pointer_to_index = POINTERS[index]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        indices = pointer_to_index(args[0])
        size, stride, rank = args[7], args[8], args[9]
        length, step = args[10 + rank - 1], args[10 + 2 * rank - 1]
        for unit in range(begin, end):
            base = offset_of(unit, args, 10, 10 + rank, rank - 1)
            for i in range(length):
                at = int(indices[unit * length + i])
                if at < 0:
                    at += size
                place = (base + i * step + at * stride) * args[5] if 0 <= at < size else -1
                _note(args, unit * length + i, place)
        _finish(args, end)

    return kernel


def note_tuples(index: str) -> Kernel:
    """One unit is one index tuple; ``strides`` are the target's, in bytes."""
    pointer_to_index = POINTERS[index]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        indices = pointer_to_index(args[0])
        depth = args[7]
        for unit in range(begin, end):
            place = 0
            for i in range(depth):
                at, size = int(indices[unit * depth + i]), args[8 + i]
                if at < 0:
                    at += size
                if at < 0 or at >= size:
                    place = -1
                    break
                place += at * args[8 + depth + i]
            _note(args, unit, place)
        _finish(args, end)

    return kernel


def note_rows() -> Kernel:
    """One unit is one row of the updates of a TensorScatter, as `tensor_scatter` has them."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        per_batch, length, cache = args[7], args[8], args[9]
        for unit in range(begin, end):
            prefix = quotient(unit, length)
            start = i64(args[0])[quotient(prefix, per_batch)] if args[0] != 0 else 0
            at = start + unit - prefix * length
            if args[10] != 0:
                at %= cache
            _note(args, unit, (prefix * cache + at) * args[5] if 0 <= at < cache else -1)
        _finish(args, end)

    return kernel

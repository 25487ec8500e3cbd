"""Gather and Scatter in all forms.

An index outside its axis is never followed: the kernel writes 1 and the index to the status words and goes on.
"""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, helper, i64
from mace_cpu.shared.kernels.indices import entry_of, offset_of
from mace_cpu.shared.kernels.primitives import POINTERS, WORD_POINTERS, copy_bytes, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.shared.kernels.indices")

WORDS = {
    "gather": "source indices target status size count inner",
    "gather_nd": ("source indices target status depth tuples batch_bytes inner_bytes sizes[depth] strides[depth]"),
    "gather_elements": "source indices target status size stride rank sizes[rank] strides[rank]",
    "scatter_elements": "updates indices target status size stride rank sizes[rank] strides[rank]",
    "scatter_nd": "updates indices target status depth inner sizes[depth] strides[depth]",
    "tensor_scatter": "updates starts target status prefixes length size row_bytes circular",
}


def gather(width: str, index: str) -> Kernel:
    """One unit is one of ``count`` indices of one outer position; the axis has ``size`` entries.

    ``width`` is the bytes of an element, ``inner`` elements follow each index; "0" for rows of ``inner`` bytes.
    """
    rows = width == "0"
    pointer = WORD_POINTERS["1" if rows else width]
    pointer_to_index = POINTERS[index]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        indices = pointer_to_index(args[1])
        target = pointer(args[2])
        size = args[4]
        count = args[5]
        inner = args[6]
        for unit in range(begin, end):
            outer = quotient(unit, count)
            at = entry_of(int(indices[unit - outer * count]), size, args[3])
            if at < 0:
                continue
            from_word = (outer * size + at) * inner
            if rows:
                copy_bytes(args[2] + unit * inner, args[0] + from_word, inner)
            else:
                for i in range(inner):
                    target[unit * inner + i] = source[from_word + i]

    return kernel


def gather_nd(index: str) -> Kernel:
    """One unit is one index tuple, ``tuples`` of them in each batch; sizes and strides, in bytes, are the source's."""
    pointer_to_index = POINTERS[index]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        indices = pointer_to_index(args[1])
        depth = args[4]
        tuples = args[5]
        batch_bytes = args[6]
        inner = args[7]
        for unit in range(begin, end):
            offset = quotient(unit, tuples) * batch_bytes
            valid = True
            for i in range(depth):
                at = entry_of(int(indices[unit * depth + i]), args[8 + i], args[3])
                if at < 0:
                    valid = False
                    break
                offset += at * args[8 + depth + i]
            if valid:
                copy_bytes(args[2] + unit * inner, args[0] + offset, inner)

    return kernel


def gather_elements(width: str, index: str) -> Kernel:
    """One unit is one innermost row of the target.

    ``size`` and ``stride`` are of the gathered axis of the source, ``sizes`` of the indices, ``strides`` of the source
    with 0 for the gathered axis.
    """
    pointer = WORD_POINTERS[width]
    pointer_to_index = POINTERS[index]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        indices = pointer_to_index(args[1])
        target = pointer(args[2])
        size = args[4]
        stride = args[5]
        rank = args[6]
        length = args[7 + rank - 1]
        step = args[7 + 2 * rank - 1]
        for unit in range(begin, end):
            base = offset_of(unit, args, 7, 7 + rank, rank - 1)
            for i in range(length):
                at = entry_of(int(indices[unit * length + i]), size, args[3])
                if at >= 0:
                    target[unit * length + i] = source[base + i * step + at * stride]

    return kernel


@helper(inline="always")  # type: ignore[untyped-decorator]
def _replace(target: Any, place: Any, update: Any) -> None:
    target[place] = update


@helper(inline="always")  # type: ignore[untyped-decorator]
def _add(target: Any, place: Any, update: Any) -> None:
    target[place] += update


@helper(inline="always")  # type: ignore[untyped-decorator]
def _multiply(target: Any, place: Any, update: Any) -> None:
    target[place] *= update


@helper(inline="always")  # type: ignore[untyped-decorator]
def _largest(target: Any, place: Any, update: Any) -> None:
    if update > target[place] or update != update:
        target[place] = update


@helper(inline="always")  # type: ignore[untyped-decorator]
def _smallest(target: Any, place: Any, update: Any) -> None:
    if update < target[place] or update != update:
        target[place] = update


MERGES: dict[str, Any] = {"none": _replace, "add": _add, "mul": _multiply, "max": _largest, "min": _smallest}
"""What an update does to an element, by the attribute ``reduction``."""


def scatter_elements(dtype: str, index: str, reduction: str) -> Kernel:
    """As `gather_elements`, in the other direction; run in one chunk, because indices may repeat.

    ``stride`` and ``strides`` are the target's.
    """
    pointer = POINTERS[dtype]
    pointer_to_index = POINTERS[index]
    merge = MERGES[reduction]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        updates = pointer(args[0])
        indices = pointer_to_index(args[1])
        target = pointer(args[2])
        size = args[4]
        stride = args[5]
        rank = args[6]
        length = args[7 + rank - 1]
        step = args[7 + 2 * rank - 1]
        for unit in range(begin, end):
            base = offset_of(unit, args, 7, 7 + rank, rank - 1)
            for i in range(length):
                at = entry_of(int(indices[unit * length + i]), size, args[3])
                if at < 0:
                    continue
                place = base + i * step + at * stride
                merge(target, place, updates[unit * length + i])

    return kernel


def scatter_nd(dtype: str, index: str, reduction: str) -> Kernel:
    """One unit is one index tuple; run in one chunk, because indices may repeat.

    Sizes and strides, in elements, are the target's.
    """
    pointer = POINTERS[dtype]
    pointer_to_index = POINTERS[index]
    merge = MERGES[reduction]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        updates = pointer(args[0])
        indices = pointer_to_index(args[1])
        target = pointer(args[2])
        depth = args[4]
        inner = args[5]
        for unit in range(begin, end):
            first = 0
            valid = True
            for i in range(depth):
                at = entry_of(int(indices[unit * depth + i]), args[6 + i], args[3])
                if at < 0:
                    valid = False
                    break
                first += at * args[6 + depth + i]
            if not valid:
                continue
            for place in range(first, first + inner):
                merge(target, place, updates[unit * inner + place - first])

    return kernel


def tensor_scatter() -> Kernel:
    """One unit is one row of the updates: a place along the axis, of one prefix.

    ``starts`` are where each batch is written, or 0; ``prefixes`` are those of one batch.  Along the axis the updates
    have ``length`` rows, the cache ``size``.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        per_batch, length, cache, row = args[4], args[5], args[6], args[7]
        for unit in range(begin, end):
            prefix = quotient(unit, length)
            start = i64(args[1])[quotient(prefix, per_batch)] if args[1] != 0 else 0
            at = start + unit - prefix * length
            if args[8] != 0:
                at %= cache
            if at < 0 or at >= cache:
                status = i64(args[3])
                status[0] = 1
                status[1] = start
                continue
            copy_bytes(args[2] + (prefix * cache + at) * row, args[0] + unit * row, row)

    return kernel

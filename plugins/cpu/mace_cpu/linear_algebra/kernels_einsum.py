"""Sums of products over any indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, i64, stop_requested
from mace_cpu.shared.kernels.indices import offset_of
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.shared.kernels.indices")

WORDS = {
    "einsum": "target operands[{operands}] table kept summed",
}


def einsum(dtype: str, operands: str) -> Kernel:
    """One unit is one element of the target; ``kept`` and ``summed`` say how many indices there are of each.

    The table (int64) holds the sizes of the output's and the summed indices, then for each operand the strides of all
    of them, 0 where it has not got the index.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]
    count = int(operands)
    accumulator: Any = np.float64 if dtype in ("float32", "float64") else np.int64
    two = count == 2

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = pointer(args[0])
        table = i64(args[1 + count])
        kept = args[2 + count]
        summed = args[3 + count]
        rank = kept + summed
        total_terms = 1
        for axis in range(kept, rank):
            total_terms *= table[axis]
        length = table[rank - 1] if summed > 0 else 1
        rows = quotient(total_terms, length) if length > 0 else 0
        work = 0
        for unit in range(begin, end):
            total = accumulator(0)
            for row in range(rows):
                work += (length + rank) * count
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                if two:
                    # the usual case: the innermost sum runs over two strided lines
                    x_at, y_at = 0, 0
                    rest = unit
                    for axis in range(kept - 1, -1, -1):
                        outer = quotient(rest, table[axis])
                        at = rest - outer * table[axis]
                        x_at += at * table[rank + axis]
                        y_at += at * table[2 * rank + axis]
                        rest = outer
                    rest = row
                    for axis in range(rank - 2, kept - 1, -1):
                        outer = quotient(rest, table[axis])
                        at = rest - outer * table[axis]
                        x_at += at * table[rank + axis]
                        y_at += at * table[2 * rank + axis]
                        rest = outer
                    x, y = pointer(args[1]), pointer(args[2])
                    x_step = table[2 * rank - 1] if summed > 0 else 0
                    y_step = table[3 * rank - 1] if summed > 0 else 0
                    for _ in range(length):
                        total += accumulator(x[x_at]) * accumulator(y[y_at])
                        x_at += x_step
                        y_at += y_step
                else:
                    for term in range(row * length, (row + 1) * length):
                        product = accumulator(1)
                        for k in range(count):
                            steps = (k + 1) * rank
                            at_element = offset_of(unit, table, 0, steps, kept)
                            at_element += offset_of(term, table, kept, steps + kept, rank - kept)
                            product *= accumulator(pointer(args[1 + k])[at_element])
                        total += product
            target[unit] = scalar(total)

    return kernel

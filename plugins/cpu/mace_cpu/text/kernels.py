"""Counting n-grams of token numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, f32, i64, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "count_ngrams": "tokens target pool table weights length results grams longest_skip shortest longest counts",
}


def count_ngrams(dtype: str) -> Kernel:
    """One unit is one row of tokens; ``weights`` may be 0.

    The table (int64) holds for each gram its first token in the pool, its size and its place in the result.  With
    ``counts`` 1 a gram counts as often as it occurs, else once; then it is multiplied by its weight.
    """
    pointer = POINTERS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tokens, target, pool, table, weights = pointer(args[0]), f32(args[1]), i64(args[2]), i64(args[3]), f32(args[4])
        length, results, grams = args[5], args[6], args[7]
        work = 0
        for unit in range(begin, end):
            row = unit * length
            for i in range(results):
                target[unit * results + i] = 0
            for gram in range(grams):
                first, size, place = table[3 * gram], table[3 * gram + 1], table[3 * gram + 2]
                if size < args[9] or size > args[10]:
                    continue
                found = 0
                for skip in range(1, args[8] + 2):
                    work += 4 * length
                    if work > POLL_WORK:
                        work = 0
                        if stop_requested(args):
                            return
                    for start in range(length - (size - 1) * skip):
                        same = True
                        for i in range(size):
                            if np.int64(tokens[row + start + i * skip]) != pool[first + i]:
                                same = False
                                break
                        found += 1 if same else 0
                    if size == 1:  # single tokens have nothing to skip
                        break
                if found > 0:
                    value = np.float32(found) if args[11] != 0 else np.float32(1)
                    if args[4] != 0:
                        value *= weights[gram]
                    target[unit * results + place] += value

    return kernel

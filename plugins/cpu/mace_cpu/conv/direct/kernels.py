"""Packing of weights that are known only in a run."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, f32
from mace_cpu.shared.kernels.primitives import quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {"pack_weights": "source target first tiles columns group_out group_in in_blocks step taps"}


def pack_weights() -> Kernel:
    """(groups * group_out, group_in, taps) as [group][tile][in block][tap][step][columns], zeros where there are none.

    ``first`` is the first channel of each group's result that is packed.  Unit: (group * tiles + tile) * in_blocks + in
    block.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        first, tiles, columns, group_out, group_in = args[2], args[3], args[4], args[5], args[6]
        in_blocks, step, taps = args[7], args[8], args[9]
        for unit in range(begin, end):
            of_tile = quotient(unit, in_blocks)
            channel = (unit - of_tile * in_blocks) * step
            group = quotient(of_tile, tiles)
            start = first + (of_tile - group * tiles) * columns
            wide = min(columns, group_out - start)
            deep = min(step, group_in - channel)
            to = unit * taps * step * columns
            for i in range(taps * step * columns):
                target[to + i] = 0
            # written in order, read with gaps: a line of the source serves the taps and channels that come next
            for tap in range(taps):
                for c in range(deep):
                    at = to + (tap * step + c) * columns
                    lie = ((group * group_out + start) * group_in + channel + c) * taps + tap
                    for column in range(wide):
                        target[at + column] = source[lie + column * group_in * taps]

    return kernel

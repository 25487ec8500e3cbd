"""Moving channels between BLOCKED values."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel
from mace_cpu.shared.kernels.lanes import COPY_LANES
from mace_cpu.shared.kernels.primitives import quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.shared.kernels.lanes")

WORDS = {
    "lane_groups": "source target groups pixels block source_blocks target_blocks source_group target_group",
}


def lane_groups(group: str) -> Kernel:
    """Moves groups of channels between BLOCKED values whose blocks they fill only in part.

    One unit is one group of ``group`` channels of one image; ``source_group`` and ``target_group`` are the first ones.
    """
    copy = COPY_LANES[group]
    lanes = int(group)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        groups = args[2]
        pixels = args[3]
        block = args[4]
        per_block = quotient(block, lanes)
        step = block * 4
        for unit in range(begin, end):
            image = quotient(unit, groups)
            here = unit - image * groups + args[7]
            there = unit - image * groups + args[8]
            from_block = quotient(here, per_block)
            to_block = quotient(there, per_block)
            source = (
                args[0] + (image * args[5] + from_block) * pixels * step + (here - from_block * per_block) * lanes * 4
            )
            target = args[1] + (image * args[6] + to_block) * pixels * step + (there - to_block * per_block) * lanes * 4
            for pixel in range(pixels):
                copy(source + pixel * step, target + pixel * step)

    return kernel

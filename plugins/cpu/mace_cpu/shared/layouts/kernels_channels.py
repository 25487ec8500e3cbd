"""Moving channels between BLOCKED values."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel
from mace_cpu.shared.kernels.lanes import COPY_LANES, KEEP_LANES
from mace_cpu.shared.kernels.primitives import quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.shared.kernels.lanes")

WORDS = {
    "lane_groups": "source target groups pixels block source_blocks target_blocks source_group target_group",
    "pad_channels": "source target fill channels pixels unit_pixels block_units "
    "source_blocks target_blocks first_block",
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


def pad_channels(block: str) -> Kernel:
    """Puts channels of one value before and behind those of a BLOCKED value.

    One unit is a stretch of ``unit_pixels`` pixels of one block of the target; ``block_units`` are one block.  The
    source begins with the target's block ``first_block``; lanes behind its last channel are filled.
    """
    keep = KEEP_LANES[block]
    lanes = int(block)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        channels = args[3]
        pixels = args[4]
        blocks = args[8]
        step = lanes * 4
        for unit in range(begin, end):
            row = quotient(unit, args[6])
            first = (unit - row * args[6]) * args[5]
            last = min(first + args[5], pixels)
            image = quotient(row, blocks)
            here = row - image * blocks - args[9]
            kept = min(channels - here * lanes, lanes)
            source = args[0] + (image * args[7] + here) * pixels * step
            target = args[1] + row * pixels * step
            if here < 0 or kept <= 0:
                kept = 0
                source = target  # nothing of it is kept, and the source may have nothing there
            for pixel in range(first, last):
                keep(source + pixel * step, target + pixel * step, args[2], kept)

    return kernel

"""Reading and copying values that lie in blocks of channels."""

from __future__ import annotations

import math

from mace_core.graph import Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import divisor, hint, maximum
from mace_core.tensor import DType
from mace_cpu.shared.layouts.blocks import PIXELS_PER_UNIT, shape_in_blocks
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.program import Program

COPYING = "mace_cpu.shared.layouts.kernels_channels"
SMALLEST_LANE_GROUP = 4


def blocked_shape(program: Program, value: Value) -> tuple[int, ...]:
    """(N, blocks, *spatial, block): the BLOCKED layout as a plain shape."""
    return shape_in_blocks(program.facts.shape(value), program.settings.block)


def is_worth_blocks(program: Program, value: Value) -> bool:
    """Whether a value in plain order is brought into blocks for a kernel that looks at pixels around each other: with
    lanes that are neighbors in a row it takes several times as long, which is more than moving them."""
    if program.facts.dtype(value) is not DType.FLOAT32 or program.facts.constant_of(value) is not None:
        return False
    shape = program.facts.shape(value)
    return len(shape) > 2 and 2 * hint(shape[1]) >= program.settings.block


def read_axes(program: Program, value: Value) -> tuple[Buf, list[list[tuple[int, int]]]]:
    """The buffer of ``value`` and, per axis, the (size, stride) pairs that make it up.

    A BLOCKED value whose channels fill the blocks is read where it lies: its channel axis has two parts.
    """
    shape = program.facts.shape(value)
    if program.values.prefers_blocked(value) and shape[1] % program.settings.block == 0:
        physical = blocked_shape(program, value)
        strides = strides_of(physical)
        axes = [[(size, stride)] for size, stride in zip(physical[:-1], strides, strict=False)]
        axes[1].append((program.settings.block, 1))
        return program.values.read(value, Layout.BLOCKED), axes
    return program.values.read(value), [[pair] for pair in zip(shape, strides_of(shape), strict=True)]


def lane_group(program: Program, *channels: int) -> int:
    """The most channels that divide all of these numbers and the block; 0 where that is too few to be worth it."""
    group = math.gcd(program.settings.block, *map(divisor, channels))
    return group if group >= SMALLEST_LANE_GROUP else 0


def emit_channels(
    program: Program, source: Value, target: Value, buf: Buf, *, group: int, count: int, first: int = 0, at: int = 0
) -> None:
    """Copy ``count`` channels from ``first`` on to ``at`` between BLOCKED values, alike but for their channels.

    Args:
        buf: where ``target`` is written in the BLOCKED layout.
        group: channels moved together, less than a block; divides ``first`` and ``at``.  If it does not divide
            ``count``, these are the last channels of the target, and what follows them goes to spare lanes.
    """
    n, _, *spatial = program.facts.shape(source)
    pixels = math.prod(spatial)
    groups = -(-count // group)
    source_blocks, target_blocks = (
        -(-program.facts.shape(value)[1] // program.settings.block) for value in (source, target)
    )
    program.steps.emit(
        numba_source(COPYING, "lane_groups", group=str(group)),
        {
            "source": program.values.read(source, Layout.BLOCKED),
            "target": buf,
            "groups": groups,
            "pixels": pixels,
            "block": program.settings.block,
            "source_blocks": source_blocks,
            "target_blocks": target_blocks,
            "source_group": first // group,
            "target_group": at // group,
        },
        extent=n * groups,
        work=n * count * pixels / 4,
    )


def emit_padded_channels(program: Program, source: Value, target: Value, before: int, fill: Buf) -> None:
    """Write ``target`` in the BLOCKED layout: ``source`` behind ``before`` channels, which fill blocks, and with
    others behind it; all of these hold the number in ``fill``."""
    n, channels, *spatial = program.facts.shape(source)
    block = program.settings.block
    pixels = math.prod(spatial)
    source_blocks, target_blocks = (-(-program.facts.shape(value)[1] // block) for value in (source, target))
    parts = maximum(-(-pixels // PIXELS_PER_UNIT), 1)
    program.steps.emit(
        numba_source(COPYING, "pad_channels", block=str(block)),
        {
            "source": program.values.read(source, Layout.BLOCKED),
            "target": program.values.write(target, Layout.BLOCKED),
            "fill": fill,
            "channels": channels,
            "pixels": pixels,
            "unit_pixels": PIXELS_PER_UNIT,
            "block_units": parts,
            "source_blocks": source_blocks,
            "target_blocks": target_blocks,
            "first_block": before // block,
        },
        extent=n * target_blocks * parts,
        work=n * target_blocks * block * pixels / 4,
    )

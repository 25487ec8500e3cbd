"""Weights that a run computes, in the order in which the direct kernel reads them: packed before the convolution."""

from __future__ import annotations

import math
from dataclasses import replace

from mace_core.graph import Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_symbolic
from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import ChannelSplit


def can_be_given(geometry: Geometry) -> bool:
    """Whether the sizes of the weights are known, so that tiles can be chosen for them."""
    return not any(map(is_symbolic, (geometry.in_channels, geometry.out_channels, *geometry.kernel)))


def emit_given_weights(program: Program, weights: Value, shape: Geometry, split: ChannelSplit, step: int) -> Buf:
    """Pack (O, C / groups, kh, kw) as [group][channel tile][in block][kh][kw][channel in block][columns].

    Args:
        shape: of two axes.
        split: the channels of the result that are packed.
        step: input channels of a block.
    """
    columns = split.blocks * program.settings.block
    in_blocks = -(-shape.group_in // step)
    taps = math.prod(shape.kernel)
    size = shape.groups * split.tiles * in_blocks * taps * step * columns
    target = Buf.scratch(4 * size)
    program.steps.emit(
        numba_source("mace_cpu.conv.direct.kernels", "pack_weights"),
        {
            "source": program.values.read(weights),
            "target": target,
            "first": split.first * program.settings.block,
            "tiles": split.tiles,
            "columns": columns,
            "group_out": shape.group_out,
            "group_in": shape.group_in,
            "in_blocks": in_blocks,
            "step": step,
            "taps": taps,
        },
        extent=shape.groups * split.tiles * in_blocks,
        work=size,
        name="PackWeights",
    )
    return target


def emit_given_bias(program: Program, bias: Value, shape: Geometry, split: ChannelSplit) -> Buf:
    """Pack (O,) as [group][channel tile][columns], zeros for channels that do not exist."""
    one = replace(shape, in_channels=shape.groups, kernel=(1, 1))
    return emit_given_weights(program, bias, one, split, 1)

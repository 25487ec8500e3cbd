"""Emits depthwise convolutions of bytes: packing, arguments."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_core.symbolic import hint
from mace_cpu.conv.geometry import Geometry
from mace_cpu.quantized.convolution.arguments_depthwise import Arg, Variant
from mace_cpu.quantized.convolution.dense import Key, Requantized, int32_bias
from mace_cpu.quantized.convolution.reading import is_one_row, turned
from mace_cpu.quantized.convolution.weights import Bytes, Weights
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import QUAD, QuadUnit, aligned_bytes

MOST_TAPS = 81
"""The taps of a kernel are unrolled."""

WIDE, NARROW = 4, 2
"""Pixels of a tile: the more, the more often an interleaved pixel is used, until registers are spilled."""

MOST_TAPS_OF_WIDE = 9
LEAST_USED = 0.9
"""How much of the tiles of a row has to be inside it."""

WORK_PER_MAC = 1 / 16


def fits_depthwise(geometry: Geometry) -> bool:
    """Whether the depthwise kernel covers it."""
    return (
        geometry.group_in == 1
        and geometry.group_out == 1
        and geometry.groups > 1
        and math.prod(geometry.kernel) <= MOST_TAPS
    )


def emit_depthwise(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Weights,
    key: Key,
    result: Requantized,
    target: Buf,
    zero: int,
) -> None:
    """As `emit_dense`, for as many groups as channels."""
    machine = program.settings.target
    unit = depthwise_unit(machine)
    is_signed = program.facts.dtype(x).name.startswith("INT")
    offset = 0 if unit is None else unit.left_offset(is_signed)
    shape = geometry.with_rank(2)
    if is_one_row(shape):
        shape = turned(shape)
    block = QUAD * machine.vector_bits // 32
    channels = shape.out_channels
    blocks = -(-channels // block)
    variant = Variant(
        _pixels(shape),
        shape.kernel[0],
        shape.kernel[1],
        shape.strides[1],
        shape.dilations[1],
        unit,
        is_signed,
        channels % block != 0,
        result.spec,
    )
    array, way = key
    pack = functools.partial(
        pack_depthwise, weights.bytes.reshape(channels, *shape.kernel), block, quads=unit is not None
    )
    order = functools.partial(_in_blocks, block=block, interleaved=variant.interleaved)
    starts = functools.partial(_in_blocks, block=block, interleaved=unit is not None)
    put = program.constants.put
    rows = shape.batch * shape.output[0]
    words: Words = {
        Arg.INPUT: program.values.read(x, Layout.CHANNELS_LAST),
        Arg.WEIGHTS: program.constants.packed(array, (*way, "depthwise", block, unit, shape.kernel), pack),
        Arg.BIAS: put(starts(int32_bias(result.bias, weights, zero + offset))),
        Arg.SCALES: put(order(result.scales)),
        Arg.FLOAT_BIAS: 0 if result.float_bias is None else put(order(result.float_bias)),
        Arg.OUTPUT: target,
        Arg.PADDING: put(np.full(block, zero & 255, np.uint8)),
        Arg.CHANNELS: channels,
        Arg.BLOCKS: blocks,
        Arg.IN_ROWS: shape.image[0],
        Arg.IN_WIDTH: shape.image[1],
        Arg.OUT_ROWS: shape.output[0],
        Arg.OUT_WIDTH: shape.output[1],
        Arg.ROW_DILATION: shape.dilations[0],
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
        "requantization": result.words(lambda array: put(order(array))),
    }
    work = geometry.macs * WORK_PER_MAC + 2 * math.prod((rows, shape.output[1], channels)) / block
    program.steps.emit(depthwise_kernel(variant), words, extent=rows, work=work)


def _pixels(shape: Geometry) -> int:
    """Pixels of a tile."""
    width = max(hint(shape.output[1]), 1)
    is_light = shape.strides[1] == 1 and math.prod(shape.kernel) <= MOST_TAPS_OF_WIDE
    if is_light and width >= LEAST_USED * -(-width // WIDE) * WIDE:
        return WIDE
    return min(NARROW, width)


def depthwise_unit(target: Target) -> QuadUnit | None:
    """What multiplies quads in the depthwise kernel: only x86-64 interleaves bytes fast enough for it to pay."""
    return QuadUnit.of(target) if target.architecture == "x86_64" else None


def pack_depthwise(weights: Bytes, block: int, *, quads: bool) -> Bytes:
    """(C, kh, kw) as [block][kw][quad of rows][vector][lane][4] or, without quads, [block][kw][kh][channel]."""
    channels, rows, taps = weights.shape
    blocks = -(-channels // block)
    groups = -(-rows // QUAD)
    full = np.zeros((blocks * block, groups * QUAD if quads else rows, taps), np.int8)
    full[:channels, :rows] = weights
    if quads:
        ordered = _in_blocks(full, block=block, interleaved=True)  # [block][channel as interleaved][row][tap]
        ordered = ordered.reshape(blocks, block, groups, QUAD, taps).transpose(0, 4, 2, 1, 3)
    else:
        ordered = full.reshape(blocks, block, rows, taps).transpose(0, 3, 2, 1)
    target = aligned_bytes(ordered.shape)
    target[...] = ordered
    return target


def _in_blocks(values: npt.NDArray[Any], block: int, *, interleaved: bool) -> npt.NDArray[Any]:
    """(C, ...) as [block][channel], zeros for channels that do not exist; of each 16, four in each of four vectors."""
    blocks = -(-values.shape[0] // block)
    full = np.zeros((blocks * block, *values.shape[1:]), values.dtype)
    full[: values.shape[0]] = values
    whole = full.reshape(blocks, block, *values.shape[1:])
    if not interleaved:
        return whole
    split = whole.reshape(blocks, block // 16, 4, 4, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(whole.shape)


def depthwise_kernel(variant: Variant) -> KernelSource:
    """The depthwise kernel of a variant."""
    words = functools.partial(WordLayout.of, Arg, requantization=variant.spec.words)
    generator = "mace_cpu.quantized.convolution.generate_depthwise"
    return generated(generator, f"bytes_depthwise_{variant.tag}", variant, words=words)

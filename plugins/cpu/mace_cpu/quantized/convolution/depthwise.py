"""Emits depthwise convolutions of bytes and of words of 16 bits: packing, arguments."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
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
from mace_cpu.quantized.convolution.given import WORD_SIGN
from mace_cpu.quantized.convolution.opened import Opened, emit_opened, emit_padding
from mace_cpu.quantized.convolution.reading import is_one_row, turned
from mace_cpu.quantized.convolution.weights import Bytes, Weights
from mace_cpu.quantized.integer_form import WORDS
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import QuadUnit, aligned_bytes

MOST_TAPS = 81
"""The taps of a kernel are unrolled."""

WIDE, NARROW = 4, 2
"""Pixels of a tile: the more, the more often an interleaved pixel is used, until registers are spilled."""

MOST_TAPS_OF_WIDE = 9
LEAST_USED = 0.9
"""How much of the tiles of a row has to be inside it."""

WORK_PER_MAC = 1 / 16

WORD_STEPS = 65535
"""From any word to any zero point of its type."""

LARGEST_ADDED = 1 << 20
"""Steps that may be added in float32 without being off by a tenth of one."""


def fits_depthwise(geometry: Geometry) -> bool:
    """Whether the depthwise kernel covers it."""
    return (
        geometry.group_in == 1
        and geometry.group_out == 1
        and geometry.groups > 1
        and math.prod(geometry.kernel) <= MOST_TAPS
    )


def for_words(weights: Weights, result: Requantized) -> Requantized | None:
    """What becomes of sums of words, which are those of the whole numbers in int32.

    A bias with which they would not fit is added in float; None where that would be too coarse.
    """
    largest = weights.largest // 255 * WORD_STEPS
    if largest + int(np.abs(result.bias).max(initial=0)) < 1 << 31:
        return result
    before = 0.0 if result.float_bias is None else result.float_bias
    added = result.bias * result.scales.astype(np.float64) + before
    if np.abs(added).max(initial=0) > LARGEST_ADDED:
        return None
    spec = replace(result.spec, float_bias=True)
    return replace(result, spec=spec, bias=np.zeros_like(result.bias), float_bias=added.astype(np.float32))


def emit_depthwise(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Weights,
    key: Key,
    result: Requantized,
    target: Buf,
    zero: int | Opened,
) -> None:
    """As `emit_dense`, for as many groups as channels."""
    machine = program.settings.target
    dtype = program.facts.dtype(x)
    is_signed, is_wide = dtype.name.startswith("INT"), dtype in WORDS
    unit = depthwise_unit(machine, is_wide=is_wide)
    if is_wide:
        offset = 0 if unit is None or is_signed else -WORD_SIGN
    else:
        offset = 0 if unit is None else unit.left_offset(is_signed)
    shape = geometry.with_rank(2)
    if is_one_row(shape):
        shape = turned(shape)
    vectors = 2 if is_wide else 4
    block = vectors * machine.vector_bits // 32
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
        is_wide,
        channels % block != 0,
        result.spec,
    )
    array, way = key
    own = weights.bytes.reshape(channels, *shape.kernel)
    pack = functools.partial(pack_depthwise, own, block, vectors, folded=unit is not None)
    order = functools.partial(_in_blocks, block=block, vectors=vectors if variant.interleaved else 1)
    starts = functools.partial(_in_blocks, block=block, vectors=vectors if unit is not None else 1)
    put = program.constants.put
    rows = shape.batch * shape.output[0]
    if isinstance(zero, Opened):
        fixed, each = (int32_bias(bias, weights, by) for bias, by in ((result.bias, offset), (0 * result.bias, 1)))
        begin, scales = emit_opened(program, zero, starts(fixed), starts(each), order(result.scales))
        padding = emit_padding(program, zero, block)
    else:
        begin, scales = put(starts(int32_bias(result.bias, weights, zero + offset))), put(order(result.scales))
        padding = put(np.full(block, zero, dtype.numpy))
    words: Words = {
        Arg.INPUT: program.values.read(x, Layout.CHANNELS_LAST),
        Arg.WEIGHTS: program.constants.packed(array, (*way, "depthwise", block, vectors, unit, shape.kernel), pack),
        Arg.BIAS: begin,
        Arg.SCALES: scales,
        Arg.FLOAT_BIAS: 0 if result.float_bias is None else put(order(result.float_bias)),
        Arg.OUTPUT: target,
        Arg.PADDING: padding,
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
    work = (
        geometry.macs * WORK_PER_MAC * (2 if is_wide else 1) + 2 * math.prod((rows, shape.output[1], channels)) / block
    )
    program.steps.emit(depthwise_kernel(variant), words, extent=rows, work=work)


def _pixels(shape: Geometry) -> int:
    """Pixels of a tile."""
    width = max(hint(shape.output[1]), 1)
    is_light = shape.strides[1] == 1 and math.prod(shape.kernel) <= MOST_TAPS_OF_WIDE
    if is_light and width >= LEAST_USED * -(-width // WIDE) * WIDE:
        return WIDE
    return min(NARROW, width)


def depthwise_unit(target: Target, *, is_wide: bool) -> QuadUnit | None:
    """What multiplies quads in the depthwise kernel, or pairs of words; None: numbers are widened and multiplied."""
    unit = QuadUnit.of(target)
    if target.architecture == "x86_64" or (unit is QuadUnit.DOT and not is_wide):
        return unit
    return None


def pack_depthwise(weights: Bytes, block: int, vectors: int, *, folded: bool) -> npt.NDArray[Any]:
    """(C, kh, kw) as [block][kw][rows folded][vector][lane][row of them], words where numbers are; or, not folded, as
    [block][kw][kh][channel].

    As many rows are folded as there are vectors: four of bytes, two of words.
    """
    channels, rows, taps = weights.shape
    blocks = -(-channels // block)
    groups = -(-rows // vectors)
    kind = np.dtype(np.int16 if folded and vectors == 2 else np.int8)
    full = np.zeros((blocks * block, groups * vectors if folded else rows, taps), kind)
    full[:channels, :rows] = weights
    if folded:
        ordered = _in_blocks(full, block=block, vectors=vectors)  # [block][channel as interleaved][row][tap]
        ordered = ordered.reshape(blocks, block, groups, vectors, taps).transpose(0, 4, 2, 1, 3)
    else:
        ordered = full.reshape(blocks, block, rows, taps).transpose(0, 3, 2, 1)
    target = aligned_bytes((ordered.size * kind.itemsize,)).view(kind).reshape(ordered.shape)
    target[...] = ordered
    return target


def _in_blocks(values: npt.NDArray[Any], block: int, vectors: int) -> npt.NDArray[Any]:
    """(C, ...) as [block][channel], zeros for channels that do not exist; of each 4 times ``vectors`` channels four are
    in each vector, if there are several."""
    blocks = -(-values.shape[0] // block)
    full = np.zeros((blocks * block, *values.shape[1:]), values.dtype)
    full[: values.shape[0]] = values
    whole = full.reshape(blocks, block, *values.shape[1:])
    if vectors == 1:
        return whole
    split = whole.reshape(blocks, block // (4 * vectors), vectors, 4, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(whole.shape)


def depthwise_kernel(variant: Variant) -> KernelSource:
    """The depthwise kernel of a variant."""
    words = functools.partial(WordLayout.of, Arg, requantization=variant.spec.words)
    generator = "mace_cpu.quantized.convolution.generate_depthwise"
    return generated(generator, f"bytes_depthwise_{variant.tag}", variant, words=words)

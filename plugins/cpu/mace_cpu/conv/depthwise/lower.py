"""Depthwise convolutions: as many groups as channels."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_core.symbolic import hint
from mace_cpu.conv.depthwise.arguments import Arg, Variant
from mace_cpu.conv.direct.lower import Floats
from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.pairs import halves_of
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.forms import WindowForm
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import fitting_rows

WIDEST_KERNEL = 32
"""The taps of a row are unrolled."""

TILE_PIXELS = {512: 14, 256: 7, 128: 4}
"""Accumulators per tile, by vector width."""

LANE_PIXELS, HOISTED_TAPS = 7, 3

SCALAR_WORK_PER_MAC = 1 / 4


def _most_pixels(target: Target, taps: int) -> int:
    """The widest tile: wider where there are many registers, but not enough for all weights of the kernel."""
    if target.architecture == "aarch64" and taps > HOISTED_TAPS:
        return LANE_PIXELS
    return TILE_PIXELS[target.vector_bits]


@dataclass(frozen=True, slots=True)
class RowSums:
    """The sums of each row's pixels, as (N, blocks, rows, block)."""

    buf: Buf
    rows: int


def fits_depthwise(geometry: Geometry) -> bool:
    """Whether the depthwise kernel covers it."""
    return (
        geometry.group_in == 1
        and geometry.groups > 1
        and len(geometry.image) <= 2
        and geometry.is_generated
        and geometry.kernel[-1] <= WIDEST_KERNEL
    )


@dataclass(frozen=True, slots=True)
class Result:
    """Where a result goes: a BLOCKED buffer, one in the PAIRS layout, or both."""

    floats: Buf | None
    pairs: Buf | None = None

    @property
    def stores(self) -> str:
        """ "floats", "pairs" or "both"."""
        return "floats" if self.pairs is None else "pairs" if self.floats is None else "both"


def emit_depthwise(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Floats,
    bias: Floats,
    epilogue: Epilogue,
    result: Result,
    *,
    row_sums: bool = False,
) -> RowSums | None:
    """Emit the steps of a depthwise convolution of constant weights (O, 1, kernel).

    With ``row_sums`` it sums up the pixels of each row, too, and the answer is where.
    """
    block = program.settings.block
    shape = geometry.with_rank(2)
    from_pairs = shape.group_out == 1 and program.values.has_only(x, Layout.PAIRS)
    source = program.values.read(x, Layout.PAIRS if from_pairs else Layout.BLOCKED)
    if shape.group_out > 1:
        source = _repeated(program, shape, source)
    if shape.image[1] == 1 and shape.output[1] == 1 and shape.kernel[1] == 1 and hint(shape.output[0]) > 1:
        shape = _turned(shape)
    blocks = -(-shape.out_channels // block)
    pixels = fitting_rows(shape.output[1], _most_pixels(program.settings.target, shape.kernel[1]), 1)
    has_pairs = from_pairs or result.pairs is not None
    pair_form = (from_pairs, result.stores, program.settings.pair_unit if has_pairs else None)
    tile = (pixels, block, shape.kernel[1], shape.strides[1], shape.dilations[1])
    kernel = depthwise_kernel(tile, epilogue, row_sums, pair_form)
    rows = shape.batch * blocks * shape.output[0]
    sums = RowSums(Buf.scratch(4 * block * rows), shape.output[0]) if row_sums else None
    weights = weights.reshape(shape.out_channels, *shape.kernel)
    packed: npt.NDArray[Any] = _in_blocks(weights, block).transpose(0, 2, 3, 1)
    unit, note = program.settings.pair_unit, ""
    in_halves = Variant(*tile, False, *pair_form).in_halves
    if unit is not None and unit.takes_halves:
        note = unit.note if in_halves else "float32: its input is stored so, or its kernel is wide"
    if in_halves:
        packed = halves_of(packed)
    words: Words = {
        Arg.INPUT: source,
        Arg.WEIGHTS: program.constants.put(packed.copy()),
        Arg.BIAS: program.constants.put(_in_blocks(bias, block)),
        Arg.OUTPUT: 0 if result.floats is None else result.floats,
        Arg.BLOCKS: blocks,
        **_geometry_words(shape),
        Arg.PAIR_OUTPUT: 0 if result.pairs is None else result.pairs,
        Arg.SUMS: 0 if sums is None else sums.buf,
        "channels": [program.constants.put(_in_blocks(channel, block)) for channel in epilogue.channels],
        "tensors": [program.values.read(tensor, Layout.BLOCKED) for tensor in epilogue.tensors],
    }
    form = WindowForm(
        shape.batch * blocks,
        shape.image[0],
        shape.image[1],
        shape.output[0],
        shape.strides[0],
        shape.pads[0],
        (shape.kernel[0] - 1) * shape.dilations[0] + 1,
    )
    program.steps.emit(
        kernel,
        words,
        extent=rows,
        work=geometry.macs * SCALAR_WORK_PER_MAC,
        note=note,
        form=form if not from_pairs and result.pairs is None else None,
    )
    return sums


def _geometry_words(shape: Geometry) -> Words:
    return {
        Arg.IN_ROWS: shape.image[0],
        Arg.IN_WIDTH: shape.image[1],
        Arg.OUT_ROWS: shape.output[0],
        Arg.OUT_WIDTH: shape.output[1],
        Arg.KERNEL_ROWS: shape.kernel[0],
        Arg.ROW_DILATION: shape.dilations[0],
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
    }


def _turned(shape: Geometry) -> Geometry:
    """A column of pixels taken as a row."""
    return replace(
        shape,
        image=shape.image[::-1],
        kernel=shape.kernel[::-1],
        output=shape.output[::-1],
        strides=shape.strides[::-1],
        dilations=shape.dilations[::-1],
        pads=shape.pads[::-1],
    )


def _in_blocks(values: Floats, block: int) -> Floats:
    """(O, ...) as (blocks, block, ...), zeros for channels that do not exist."""
    blocks = -(-values.shape[0] // block)
    full = np.zeros((blocks * block, *values.shape[1:]), np.float32)
    full[: values.shape[0]] = values
    return full.reshape(blocks, block, *values.shape[1:])


def _repeated(program: Program, shape: Geometry, source: Buf) -> Buf:
    """The input with each channel as often as there are outputs made from it."""
    pixels = math.prod(shape.image)
    blocks = -(-shape.out_channels // program.settings.block)
    target = Buf.scratch(4 * shape.batch * blocks * program.settings.block * pixels)
    program.steps.emit(
        numba_source("mace_cpu.conv.general.kernels", "repeat_channels"),
        {
            "source": source,
            "target": target,
            "channels": shape.in_channels,
            "times": shape.group_out,
            "pixels": pixels,
            "block": program.settings.block,
        },
        extent=shape.batch * blocks,
        work=shape.batch * shape.out_channels * pixels,
        name="RepeatChannels",
    )
    return target


Form = tuple[bool, str, PairUnit | None]
"""Whether the input is in pairs, what is stored, and the unit of which they are."""


def depthwise_kernel(
    tile: tuple[int, int, int, int, int],
    epilogue: Epilogue,
    sums: bool = False,
    form: Form = (False, "floats", None),
) -> KernelSource:
    """The depthwise kernel for a tile (pixels, block, taps, stride and dilation along a row), an epilogue, and the form
    of input and result."""
    tag = epilogue.tag
    pixels, block, taps, stride, dilation = tile
    reads_pairs, stores, unit = form
    kind = f"{'p' if reads_pairs else 'b'}{block}"
    if unit is not None:
        kind += f"_{unit.tag}_{stores}"
    symbol = f"depthwise_{kind}_{pixels}_k{taps}_s{stride}_d{dilation}" + "_sums" * sums + (f"_{tag}" if tag else "")
    words = functools.partial(WordLayout.of, Arg, **epilogue.operand_counts)
    return generated("mace_cpu.conv.depthwise.generate", symbol, Variant(*tile, sums, *form), epilogue.ops, words=words)

"""Matrix products through the generated kernel: packing of the right operand, choice of tiles, arguments."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.native.kernel import KernelSource
from mace_core.native.target import Target
from mace_cpu.codegen.epilogue import Epilogue
from mace_cpu.codegen.gemm_arguments import Arg
from mace_cpu.codegen.version import generator_version
from mace_cpu.lowering.conv_tiles import ChannelSplit, choose_rows, most_rows, split_channels
from mace_cpu.lowering.moving_kernels import panels_kernel
from mace_cpu.program import At, Buf, Program, aligned_empty

Floats = npt.NDArray[np.float32]
Table = npt.NDArray[np.int64]

KERNELS = "mace_cpu.kernels.gemm"
UNROLL = 4
MOST_ROWS = 8
"""Each row of the left operand takes an address register."""

PACKED_STEPS = 32
"""Steps per unit of packing: rows of the source that are read at a time."""

MOST_ROWS_IN_PLACE = 16
"""For so few rows packing a right operand at run time costs more than reading it where it lies."""

CACHED_LEFT_BYTES = 1 << 20
SEGMENT_TILES = 8
SCALAR_WORK_PER_MAC = 1 / 8


@dataclass(frozen=True, slots=True)
class Product:
    """Sizes of ``products`` independent matrix products.

    Attributes:
        rows, steps, columns: (rows, steps) @ (steps, columns).
        left, right: where the operands of each product start, in matrices.
        transposed_left, transposed_right: the operand lies transposed.
    """

    rows: int
    steps: int
    columns: int
    left: tuple[int, ...] = (0,)
    right: tuple[int, ...] = (0,)
    transposed_left: bool = False
    transposed_right: bool = False

    @property
    def macs(self) -> int:
        return len(self.left) * self.rows * self.steps * self.columns


def emit_product(
    program: Program,
    product: Product,
    left: Buf,
    right: Floats | Buf,
    bias: Floats,
    epilogue: Epilogue,
    tensors: Sequence[Buf],
    target: Buf,
) -> None:
    """Emit ``target = epilogue(left @ right + bias)``, all operands float32 and dense.

    Args:
        right: the matrices (any, steps, columns) if they are known (transposed if ``transposed_right``), else where
            they will lie.
        bias: (columns,).
        epilogue: its per-channel operands vary along the columns.
        tensors: the buffers of its tensor operands.
    """
    lanes = max(program.target.vector_bits // 32, 4)
    widest = 4 if program.target.vector_bits >= 512 or program.target.architecture == "aarch64" else 2
    in_place = (
        isinstance(right, Buf)
        and not product.transposed_right
        and product.rows <= MOST_ROWS_IN_PLACE
        and product.columns >= lanes
    )
    if in_place:
        vectors = min(widest, product.columns // lanes)
        splits = [ChannelSplit(0, -(-product.columns // (vectors * lanes)), vectors)]
    else:
        splits = split_channels(-(-product.columns // lanes), widest)
    for split in splits:
        rows = choose_rows(product.rows, min(most_rows(program.target, lanes, split.blocks), MOST_ROWS), split.blocks)
        width = split.blocks * lanes
        panel = product.steps * width
        segment = min(-(-product.rows // rows), SEGMENT_TILES) * rows
        segments = -(-product.rows // segment)
        band = segments
        if 4 * panel * split.tiles < CACHED_LEFT_BYTES:
            band = max(min(CACHED_LEFT_BYTES // max(4 * segment * product.steps, 1), segments), 1)
        values = {
            Arg.OUT_MATRIX: product.rows * product.columns,
            Arg.UNITS: segments * split.tiles,
            Arg.ROWS: product.rows,
            Arg.STEPS: product.steps,
            Arg.COLUMNS: product.columns,
            Arg.FIRST_COLUMN: split.first * lanes,
            Arg.PANELS: split.tiles,
            Arg.LAST_PANEL: product.columns - width if in_place else split.tiles * width,
            Arg.RIGHT_STEP: product.columns if in_place else width,
            Arg.RIGHT_COLUMN: 1 if in_place else product.steps,
            Arg.LEFT_STRIDE: product.rows if product.transposed_left else product.steps,
            Arg.OUT_ROW: product.columns,
            Arg.SEGMENT: segment,
            Arg.SEGMENTS: segments,
            Arg.BAND: band,
        }
        right_size = product.steps * product.columns if in_place else split.tiles * panel
        arguments: list[int | float | Buf | At] = [values.get(arg, 0) for arg in Arg]
        arguments[Arg.LEFT] = left
        if in_place and isinstance(right, Buf):
            arguments[Arg.RIGHT] = right
        else:
            arguments[Arg.RIGHT] = _packed_right(program, product, right, split, width)
        arguments[Arg.BIAS] = program.constant(_per_column(bias, split, lanes))
        arguments[Arg.OUTPUT] = target
        arguments[Arg.LEFT_OFFSETS] = program.constant(_table(product.left, product.rows * product.steps))
        arguments[Arg.RIGHT_OFFSETS] = program.constant(_table(product.right, right_size))
        arguments.extend(program.constant(_per_column(c, split, lanes)) for c in epilogue.channels)
        arguments.extend(tensors)
        share = split.tiles * split.blocks / sum(s.tiles * s.blocks for s in splits)
        program.emit(
            gemm_kernel(rows, split.blocks, lanes, product.transposed_left, epilogue),
            arguments,
            extent=len(product.left) * segments * split.tiles,
            work=product.macs * share * SCALAR_WORK_PER_MAC,
        )


def _table(matrices: Sequence[int], size: int) -> Table:
    return np.asarray(matrices, np.int64) * size


def _packed_right(program: Program, product: Product, right: Floats | Buf, split: ChannelSplit, width: int) -> Buf:
    """The panels of one split: a constant, or scratch memory filled by a step of its own."""
    first = split.first * (width // split.blocks)
    if isinstance(right, Buf):
        matrices = max(product.right) + 1
        units = -(-product.steps // PACKED_STEPS)
        sizes = (product.steps, product.columns, first, width, split.tiles)
        panels = program.scratch(4 * matrices * split.tiles * product.steps * width)
        program.emit(
            panels_kernel(program.target.vector_bits // 32, product.transposed_right),
            [right, panels, *sizes, PACKED_STEPS, units],
            extent=matrices * units,
            work=matrices * split.tiles * product.steps * width,
            name="Pack",
        )
        return panels
    matrices = max(product.right) + 1
    if product.transposed_right:
        dense = right.reshape(matrices, product.columns, product.steps).transpose(0, 2, 1)
    else:
        dense = right.reshape(matrices, product.steps, product.columns)
    part = dense[:, :, first : first + split.tiles * width]
    if part.shape[2] != split.tiles * width:
        full = np.zeros((matrices, product.steps, split.tiles * width), np.float32)
        full[:, :, : part.shape[2]] = part
        part = full
    tiled = part.reshape(matrices, product.steps, split.tiles, width).transpose(0, 2, 1, 3)
    packed = aligned_empty(tiled.shape)
    packed[...] = tiled
    return program.constant(packed, in_place=True)


def _per_column(values: Floats, split: ChannelSplit, lanes: int) -> Floats:
    """The columns of one split, zeros beyond the last one."""
    part = values[split.first * lanes :][: split.tiles * split.blocks * lanes]
    full = np.zeros(split.tiles * split.blocks * lanes, np.float32)
    full[: part.size] = part
    return full


_kernels: dict[tuple[object, ...], KernelSource] = {}


def gemm_kernel(rows: int, vectors: int, lanes: int, transposed_left: bool, epilogue: Epilogue) -> KernelSource:
    """The product kernel for a tile and an epilogue."""
    tag = epilogue.tag
    symbol = f"gemm_{'t' if transposed_left else 'n'}{lanes}_{rows}x{vectors}" + (f"_{tag}" if tag else "")
    key = (symbol, epilogue.ops)
    if key not in _kernels:
        build = functools.partial(_build, symbol, rows, vectors, lanes, transposed_left, Epilogue(epilogue.ops))
        _kernels[key] = KernelSource(symbol, generator_version(), build)
    return _kernels[key]


def _build(
    symbol: str, rows: int, vectors: int, lanes: int, transposed_left: bool, epilogue: Epilogue, target: Target
) -> str:
    from mace_cpu.codegen import gemm

    variant = gemm.Variant(rows, vectors, lanes, transposed_left, UNROLL)
    return gemm.build(symbol, variant, epilogue, target.features)

"""Winograd's convolution: when it pays, the size of patches and bands, transformed weights, arguments."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import ceiling, hint, minimum
from mace_cpu.conv.direct.choose_tiling import FAR_INPUT_BYTES
from mace_cpu.conv.direct.lower import SCALAR_WORK_PER_MAC
from mace_cpu.conv.geometry import Geometry
from mace_cpu.conv.winograd.arguments import TAPS, Arg, Variant
from mace_cpu.conv.winograd.matrices import transforms
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.parts.buffers import Buf, Layout, aligned_empty
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.arguments import MOST_KEPT, STEPS_PER_FETCH
from mace_cpu.shared.tiles.choose import (
    ChannelSplit,
    choose_rows,
    has_many_registers,
    most_rows,
    split_channels,
    widest_tile,
)
from mace_cpu.shared.tiles.kept import KeptSteps, kept_note, used_by_tiles

Floats = npt.NDArray[np.float32]

RESULTS = (2, 3, 4)
"""Sides of a patch to choose from.  Larger ones need fewer multiplications, but their transforms lose digits."""

WORTH_LOSING_DIGITS = 0.95

SCRATCH_BYTES = 5 << 18
"""What a unit of work keeps between its stages: it should stay in the second level cache beside the weights."""

CACHED_WEIGHT_BYTES = 1 << 20
"""Weights beyond this come from far memory each time they are swept."""

FAR_FLOAT_COST = 2.2
"""What a float from far memory takes, in vector multiplications."""

TRANSFORM_COST = {2: (75.0, 65.0), 3: (160.0, 140.0), 4: (290.0, 260.0)}
"""What the transforms of a patch's input and result take per channel block, in vector multiplications."""

SPILLED = 1.25
"""How much longer the transforms take with 16 registers, which hold few of a patch's values."""

MANY_BANDS = 6
CHUNKS_PER_THREAD = 2
"""With so many bands per thread, chunks enough that a thread that is held up leaves some to the others.  Each chunk has
scratch memory of its own, which is cold when a thread turns to it."""

WORTH_IT = 0.8
PADDING_FLOATS = 16
"""Between points, so that equal places of all points do not compete for the same lines of the cache."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a convolution is divided.

    Attributes:
        results: of a patch, along each side.
        band: patches per band.
        parts: into which the output channels are divided.
        cost: in vector multiplications.
        sparse: only the input channels are multiplied that a tile's output channels have weights for.
    """

    results: int
    band: int
    parts: int
    cost: float
    sparse: bool = False

    @property
    def points(self) -> int:
        return (self.results + TAPS - 1) ** 2

    def patches(self, geometry: Geometry) -> tuple[int, int]:
        """Along the rows, along the columns."""
        rows, columns = (ceiling(size, self.results) for size in geometry.output)
        return rows, columns


def fits_winograd(geometry: Geometry) -> bool:
    """Whether the kernel covers it: two axes, 3x3 taps that lie and move by one pixel, one group."""
    return (
        geometry.groups == 1
        and geometry.kernel == (TAPS, TAPS)
        and set(geometry.strides) == {1}
        and set(geometry.dilations) == {1}
    )


def winograd_plan(program: Program, geometry: Geometry, direct_cost: float, share: float = 1.0) -> Plan | None:
    """The best plan for the shapes at hand, if it is clearly cheaper than ``direct_cost`` vector multiplications.

    It is right for all shapes.

    Args:
        share: of the input channels that a tile multiplies; see `channel_share`.
    """
    if not (program.settings.winograd and fits_winograd(geometry)):
        return None
    best = _plan(program, geometry, RESULTS[0], share)
    for results in RESULTS[1:]:
        larger = _plan(program, geometry, results, share)
        if larger.cost < best.cost * WORTH_LOSING_DIGITS:
            best = larger
    return best if best.cost < direct_cost * WORTH_IT else None


def weight_cost(floats: float, sweeps: float) -> float:
    """What fetching weights takes where they do not stay in a cache near by, in vector multiplications."""
    return floats * sweeps * FAR_FLOAT_COST if 4 * floats > CACHED_WEIGHT_BYTES else 0.0


def _plan(program: Program, geometry: Geometry, results: int, share: float) -> Plan:
    block = program.settings.block
    vectors = max(block * 32 // program.settings.target.vector_bits, 1)
    in_blocks, out_blocks = -(-geometry.in_channels // block), -(-geometry.out_channels // block)
    height, width = (-(-size // results) for size in geometry.output)
    total = geometry.batch * height * width
    points = (results + TAPS - 1) ** 2
    widest = min(widest_tile(program.settings.target, block), out_blocks)
    tallest = most_rows(program.settings.target, block, widest)
    oc_tiles = -(-out_blocks // widest)
    band = _band(total, tallest, 4 * points * block * (in_blocks + widest), oc_tiles, program.settings.threads)
    bands = -(-total // band)
    # with one band the threads share the channels, and each transforms the input for itself
    parts = min(program.settings.threads, oc_tiles) if bands == 1 else 1
    rows = choose_rows(band, tallest, widest * vectors)
    tiles = -(-band // rows) * bands
    into, out_of = TRANSFORM_COST[results]
    accumulators = rows * widest * vectors
    product = tiles * points * oc_tiles * (share * geometry.in_channels * (accumulators + 1.0) + 2 * accumulators)
    weights = share * points * geometry.in_channels * out_blocks * block
    product = max(product, weight_cost(weights, bands))
    transform = total * vectors * (in_blocks * into * parts + out_blocks * out_of)
    if not has_many_registers(program.settings.target):
        transform *= SPILLED
    # read in squares, of which nothing is fetched ahead
    image = geometry.batch * in_blocks * block * math.prod(geometry.image)
    far = image * FAR_FLOAT_COST if 4 * image > FAR_INPUT_BYTES else 0.0
    return Plan(results, band, parts, product + transform + far, sparse=share < 1)


def _band(total: int, tallest: int, patch_bytes: int, oc_tiles: int, threads: int) -> int:
    """Patches per band: as many as fit into scratch memory, evenly spread; bands enough to share out, or one."""
    most = max(SCRATCH_BYTES // patch_bytes // tallest, 1) * tallest
    bands = -(-total // most)
    if bands == 1 and (oc_tiles >= threads or total < threads * tallest):
        return total
    even = -(-total // (-(-bands // threads) * threads))
    return -(-even // tallest) * tallest if threads == 1 else even


def emit_winograd(
    program: Program,
    geometry: Geometry,
    plan: Plan,
    x: Value,
    weights: Floats,
    bias: Floats,
    epilogue: Epilogue,
    target: Buf,
) -> None:
    """Emit the steps of a convolution of constant weights (O, C, 3, 3) into a BLOCKED buffer."""
    block = program.settings.block
    source = program.values.read(x, Layout.BLOCKED)
    tensors = [program.values.read(t, Layout.BLOCKED) for t in epilogue.tensors]
    in_blocks, out_blocks = -(-geometry.in_channels // block), -(-geometry.out_channels // block)
    bands = -(-geometry.batch * math.prod(plan.patches(geometry)) // plan.band)
    for split in split_channels(out_blocks, widest_tile(program.settings.target, block)):
        vectors = split.blocks * max(block * 32 // program.settings.target.vector_bits, 1)
        rows = choose_rows(plan.band, most_rows(program.settings.target, block, split.blocks), vectors)
        columns = split.blocks * block
        parts = min(plan.parts, split.tiles)
        input_point = in_blocks * plan.band * block + PADDING_FLOATS
        product_point = plan.band * columns + PADDING_FLOATS
        scratch_floats = plan.points * (input_point + product_point)
        kept = kept_channels(weights, block, split) if plan.sparse else None
        if kept is not None and not kept.is_worth_it:
            kept = None
        channels = geometry.in_channels if kept is None else kept.count
        runs = in_blocks * -(-block // STEPS_PER_FETCH) if kept is None else -(-channels // STEPS_PER_FETCH)
        tile_fetch = -(-channels * columns // -(-plan.band // rows))
        per_thread = CHUNKS_PER_THREAD if hint(bands) >= MANY_BANDS * program.settings.threads else 1
        chunks = minimum(bands * parts, program.settings.threads * per_thread)
        words: Words = {
            Arg.INPUT: source,
            Arg.WEIGHTS: program.constants.packed(
                weights,
                ("winograd", plan.results, block, split, kept is not None),
                functools.partial(_pack, weights, plan.results, block, split, kept),
            ),
            Arg.BIAS: program.constants.put(_per_channel(bias, block, split)),
            Arg.OUTPUT: target,
            Arg.SCRATCH: Buf.scratch(4 * scratch_floats * chunks),
            "channels": [program.constants.put(_per_channel(channel, block, split)) for channel in epilogue.channels],
            "tensors": tensors,
            Arg.SCRATCH_FLOATS: scratch_floats,
            Arg.PRODUCTS_AT: plan.points * input_point,
            Arg.INPUT_POINT: input_point,
            Arg.PRODUCT_POINT: product_point,
            Arg.OC_TILES: split.tiles,
            Arg.PARTS: parts,
            Arg.BAND: plan.band,
            Arg.OUT_BLOCKS: out_blocks,
            Arg.FIRST_OUT_BLOCK: split.first,
            **_geometry_words(geometry, plan, block),
            Arg.IN_CHANNELS: channels,
            Arg.TILE_FETCH: tile_fetch,
            Arg.STEPS_FETCH: -(-tile_fetch // runs),
            Arg.KEPT: 0 if kept is None else program.constants.put(_places(kept, plan.band, block)),
        }
        kernel = winograd_kernel(plan.results, rows, split.blocks, block, epilogue, kept=kept is not None)
        work = geometry.macs * split.tiles * split.blocks / out_blocks * SCALAR_WORK_PER_MAC
        program.steps.emit(kernel, words, extent=bands * parts, work=work, chunks=chunks, note=kept_note(kept))


def _geometry_words(geometry: Geometry, plan: Plan, block: int) -> dict[Arg, int]:
    in_blocks = -(-geometry.in_channels // block)
    rows, columns = plan.patches(geometry)
    return {
        Arg.PATCHES: geometry.batch * rows * columns,
        Arg.PATCH_ROWS: rows,
        Arg.PATCH_COLUMNS: columns,
        Arg.IN_ROWS: geometry.image[0],
        Arg.IN_WIDTH: geometry.image[1],
        Arg.IN_BLOCKS: in_blocks,
        Arg.LAST_RUN: geometry.in_channels - (in_blocks - 1) * block,
        Arg.PAD_TOP: geometry.pads[0],
        Arg.PAD_LEFT: geometry.pads[1],
        Arg.OUT_ROWS: geometry.output[0],
        Arg.OUT_WIDTH: geometry.output[1],
    }


def channel_share(weights: Floats, program: Program) -> float:
    """How much of the input channels a tile multiplies, where it leaves out those for which it has no weights.

    Args:
        weights: (O, C, 3, 3).
    """
    block = program.settings.block
    splits = split_channels(-(-weights.shape[0] // block), widest_tile(program.settings.target, block))
    share = max(kept_channels(weights, block, split).share for split in splits)
    return share if share <= MOST_KEPT else 1.0


def kept_channels(weights: Floats, block: int, split: ChannelSplit) -> KeptSteps:
    """Which input channels the tiles of a split need, as [channel tile][channel]."""
    columns = split.blocks * block
    part = weights[split.first * block :][: split.tiles * columns]
    used = used_by_tiles(part, columns)
    return KeptSteps.of(np.asarray(used.reshape(*used.shape[:2], -1).any(axis=-1)))


def _places(kept: KeptSteps, band: int, block: int) -> npt.NDArray[np.int32]:
    """Where the channels that are kept lie in the transformed input of a band."""
    return kept.order // block * np.int32(band * block) + kept.order % block


def _pack(weights: Floats, results: int, block: int, split: ChannelSplit, kept: KeptSteps | None = None) -> Floats:
    """(O, C, 3, 3) as [channel tile][point][channel][columns], zeros for channels that do not exist.

    The points of a kernel are ``g @ kernel @ g.T``.  With ``kept``, only those channels.
    """
    g = np.array([[float(v) for v in row] for row in transforms(results, TAPS).g])
    both = np.kron(g, g).astype(np.float32)  # (points, taps)
    in_channels, columns = weights.shape[1] if kept is None else kept.count, split.blocks * block
    packed = aligned_empty((split.tiles, len(both), in_channels, columns))
    for tile in range(split.tiles):
        first = split.first * block + tile * columns
        part = weights[first : first + columns]
        if kept is not None:
            part = part[:, kept.order[tile]]
        taps = np.zeros((TAPS * TAPS, in_channels, columns), np.float32)
        taps[:, :, : part.shape[0]] = part.reshape(-1, in_channels, TAPS * TAPS).transpose(2, 1, 0)
        np.matmul(both, taps.reshape(TAPS * TAPS, -1), out=packed[tile].reshape(len(both), -1))
    return packed


def _per_channel(values: Floats, block: int, split: ChannelSplit) -> Floats:
    """The channels of one split, zeros for those that do not exist."""
    full = np.zeros(split.tiles * split.blocks * block, np.float32)
    part = values[split.first * block :][: full.size]
    full[: part.size] = part
    return full


def winograd_kernel(
    results: int, rows: int, blocks: int, block: int, epilogue: Epilogue, *, kept: bool = False
) -> KernelSource:
    """Winograd's kernel for a size of patches, a tile and an epilogue."""
    tag = epilogue.tag
    form = "kept_" if kept else ""
    symbol = f"conv_winograd{results}_{form}b{block}_{rows}x{blocks}" + (f"_{tag}" if tag else "")
    words = functools.partial(WordLayout.of, Arg, **epilogue.operand_counts)
    return generated(
        "mace_cpu.conv.winograd.generate",
        symbol,
        Variant(results, rows, blocks, block, kept),
        epilogue.ops,
        words=words,
    )

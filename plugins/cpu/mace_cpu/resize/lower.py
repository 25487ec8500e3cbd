"""Resize and Upsample in all modes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint, is_symbolic
from mace_core.tensor import DType
from mace_cpu.resize.arguments import Arg
from mace_cpu.resize.tables import (
    COORDINATE_MODES,
    NEAREST_MODES,
    ResizedAxis,
    Sampling,
    nearest_table,
    taps_of,
    weight_table,
)
from mace_cpu.shared.checks import NUMBERS, all_concrete, dtype_in, movable
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.blocks import pack_blocked
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.nodes import fixed, integers, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout, element_bytes
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.program.blocked import blocked_shape, is_worth_blocks
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.resize.kernels"
TABLE_KERNELS = "mace_cpu.resize.kernels_tables"


# --- reading the node -------------------------------------------------------------------------------------------------


def sampling_of(view: GraphView, node: Node) -> Sampling:
    """How samples are taken; Upsample and Resize of opset 10 know less and do it the asymmetric way."""
    mode = str(node.attr("mode", "nearest"))
    mode = {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)
    if node.op_type == "Upsample" or view.opset() < 11:
        return Sampling(mode, "asymmetric", "floor", -0.75, False, False)
    return Sampling(
        mode,
        str(node.attr("coordinate_transformation_mode", "half_pixel")),
        str(node.attr("nearest_mode", "round_prefer_floor")),
        float(node.attr("cubic_coeff_a", -0.75)),
        bool(node.attr("exclude_outside", 0)),
        bool(node.attr("antialias", 0)),
    )


def _inputs_of(view: GraphView, node: Node) -> tuple[int | None, int | None, int | None]:
    """Input numbers of region, scales and sizes, None where this opset has none."""
    if node.op_type == "Upsample":
        return (None, None, None) if view.opset() < 9 else (None, 1, None)
    return (None, 1, None) if view.opset() < 11 else (1, 2, 3)


def resized_axes(view: GraphView, node: Node) -> list[ResizedAxis]:
    """The axes whose length or coordinates change."""
    shape, target = view.shape(need(node.input(0))), view.shape(need(node.output(0)))
    region_input, scales_input, sizes_input = _inputs_of(view, node)
    given = node.attr("axes")
    axes = [normal_axis(int(a), len(shape)) for a in given] if given is not None else list(range(len(shape)))
    scales = _numbers(view, node, scales_input)
    if node.op_type == "Upsample" and view.opset() < 9:
        scales = [float(s) for s in node.attr("scales")]
    wanted = [0] * len(axes)
    if not scales:
        sizes = [] if sizes_input is None else integers(view, node.input(sizes_input)) or []
        policy = node.attr("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":
            wanted = [_wanted(size, shape[axis]) for size, axis in zip(sizes, axes, strict=True)]
        scales = [
            0.0 if later else 1.0 if size == shape[axis] else size / max(shape[axis], 1)
            for size, axis, later in zip(sizes, axes, wanted, strict=True)
        ]
        if policy != "stretch":
            scales = [min(scales) if policy == "not_larger" else max(scales)] * len(axes)
    crop = node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    region = (_numbers(view, node, region_input) if crop else []) or [0.0] * len(axes) + [1.0] * len(axes)
    found = []
    for i, (axis, scale) in enumerate(zip(axes, scales, strict=True)):
        bounds = (region[i], region[i + len(axes)])
        if scale != 1.0 or target[axis] != shape[axis] or (crop and bounds != (0.0, 1.0)):
            found.append(ResizedAxis(axis, shape[axis], target[axis], scale, bounds, wanted[i]))
    return found


def _wanted(size: int, before: int) -> int:
    """What a length that a run decides is to become; 0 where it is decided, or remains as it is."""
    if not (is_symbolic(size) or is_symbolic(before)):
        return 0
    return 0 if size == before else size


def _numbers(view: GraphView, node: Node, index: int | None) -> list[float]:
    found = None if index is None else view.constant(node.input(index))
    return [] if found is None else [float(x) for x in found.numpy().reshape(-1)]


def check_resize(view: GraphView, node: Node) -> str | None:
    """A reason if a Resize, or an Upsample, is none that there are kernels for."""
    reason = all_concrete(view, node)
    for index, what in zip(_inputs_of(view, node), ("the region", "the scales", "the sizes"), strict=True):
        if index is not None:
            reason = reason or fixed(view, node, index, what)
    if reason is not None:
        return reason
    sampling = sampling_of(view, node)
    if sampling.mode not in ("nearest", "linear", "cubic"):
        return f"there is no interpolation mode '{sampling.mode}'"
    if sampling.coordinates not in COORDINATE_MODES:
        return f"there is no coordinate transformation '{sampling.coordinates}'"
    if sampling.nearest not in NEAREST_MODES:
        return f"there is no nearest mode '{sampling.nearest}'"
    if sampling.mode == "nearest":
        found = view.tensor_type(need(node.input(0)))
        if found is None or found.dtype.bits > 64:
            return "elements of 16 bytes are not resized"
        return movable(view, node)
    return dtype_in(view, node.input(0), NUMBERS)


# --- steps ------------------------------------------------------------------------------------------------------------


@lowers("Resize", "Upsample", check=check_resize)
def lower_resize(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    if program.facts.size(target) == 0:
        program.values.write(target)
        return
    axes = resized_axes(program.facts.view, node)
    sampling = sampling_of(program.facts.view, node)
    lies_so = program.values.prefers_blocked(source) or (bool(axes) and is_worth_blocks(program, source))
    blocked = lies_so and all(axis.axis != 1 for axis in axes)
    layout = Layout.BLOCKED if blocked else Layout.PLAIN
    if not axes:
        program.values.alias(target, program.values.read(source, layout), layout)
        return
    shape = blocked_shape(program, source) if blocked else program.facts.shape(source)
    fill = float(node.attr("extrapolation_value", 0.0))
    if sampling.mode == "nearest":
        tables = _index_tables(program, shape, axes, sampling)
        if layout is Layout.BLOCKED and len(tables.sizes) > 2 and not tables.fills:
            _emit_nearest_blocks(program, source, target, shape, tables)
        else:
            _emit_nearest(program, source, target, layout, shape, tables, fill)
    else:
        _emit_interpolation(program, source, target, layout, shape, axes, sampling, fill)


@dataclass(frozen=True, slots=True)
class _IndexTables:
    """For each index along the axes up to the last one resized, the index in the source (int32).

    Attributes:
        joined: the tables, axis after axis.
        sizes: their lengths.
        fills: whether some may be -1, which stands for the extrapolation value.
    """

    joined: Buf
    sizes: list[int]
    fills: bool

    @property
    def starts(self) -> list[int]:
        return [sum(self.sizes[:i]) for i in range(len(self.sizes))]


def _index_tables(
    program: Program, shape: Sequence[int], axes: Sequence[ResizedAxis], sampling: Sampling
) -> _IndexTables:
    """Tables for all axes of ``shape`` up to the last one resized: a constant, or written at each run."""
    resized = {axis.axis: axis for axis in axes}
    rank = max(resized) + 1
    sizes = [resized[i].target if i in resized else shape[i] for i in range(rank)]
    if all(axis.is_decided for axis in axes) and not any(map(is_symbolic, sizes)):
        tables = [nearest_table(resized[i], sampling) if i in resized else np.arange(shape[i]) for i in range(rank)]
        joined = program.constants.put(np.concatenate(tables).astype(np.int32))
        return _IndexTables(joined, sizes, any(bool((table < 0).any()) for table in tables))
    joined = Buf.scratch(4 * sum(sizes))
    each = [resized.get(i, ResizedAxis(i, shape[i], shape[i], 0.0)) for i in range(rank)]
    program.steps.emit(
        numba_source(TABLE_KERNELS, "nearest", coordinates=sampling.coordinates, rounding=sampling.nearest),
        {
            "tables": joined,
            "rank": rank,
            "lengths": sizes,
            "sizes": [axis.size for axis in each],
            "scales": [axis.scale for axis in each],
            "wanted": [axis.wanted for axis in each],
            "begins": [axis.region[0] for axis in each],
            "ends": [axis.region[1] for axis in each],
        },
        extent=1,
        work=8 * sum(sizes),
        name="ResizeTables",
    )
    return _IndexTables(joined, sizes, sampling.coordinates == "tf_crop_and_resize")


def _emit_nearest(
    program: Program,
    source: Value,
    target: Value,
    layout: Layout,
    shape: Sequence[int],
    tables: _IndexTables,
    fill: float,
) -> None:
    dtype = program.facts.dtype(source)
    sizes, joined = tables.sizes, tables.joined
    inner = math.prod(shape[len(sizes) :])
    geometry: dict[str, int | list[int]] = {
        "rank": len(sizes),
        "sizes": sizes,
        "strides": list(strides_of(shape)[: len(sizes)]),
        "starts": tables.starts,
    }
    width = str(element_bytes(dtype))
    read, write = program.values.read(source, layout), program.values.write(target, layout)
    rows, work = math.prod(sizes[:-1]), math.prod(sizes) * inner
    if tables.fills:
        outside = program.constants.put(np.array([fill], dtype.numpy))
        # the padding kernel counts its last stride per index, and knows no run that is contiguous here
        program.steps.emit(
            numba_source("mace_cpu.shared.layouts.kernels_tables", "pad", width=width),
            {
                "source": read,
                "target": write,
                "fill": outside,
                "tables": joined,
                "inner": inner,
                "mask": 0,
                "low": 0,
                "high": 0,
                **geometry,
            },
            extent=rows,
            work=work,
        )
        return
    program.steps.emit(
        numba_source(KERNELS, "take", width=width, inner="one" if inner == 1 else "many"),
        {"source": read, "target": write, "tables": joined, "inner": inner, **geometry},
        extent=rows,
        work=work,
    )


def _emit_nearest_blocks(
    program: Program, source: Value, target: Value, shape: Sequence[int], tables: _IndexTables
) -> None:
    """Blocks of channels, and what is done to the result alone."""
    epilogue, final = match_epilogue(program, target)
    sizes = tables.sizes
    rank = len(sizes)
    inner = math.prod(shape[rank:])
    channels = [pack_blocked(c.reshape(1, -1, 1), program.settings.block) for c in epilogue.channels]
    tensors = [program.values.read(value, Layout.BLOCKED) for value in epilogue.tensors]
    program.steps.emit(
        nearest_kernel(rank, program.settings.block, epilogue),
        {
            Arg.SOURCE: program.values.read(source, Layout.BLOCKED),
            Arg.TARGET: program.values.write(final, Layout.BLOCKED),
            Arg.TABLES: tables.joined,
            Arg.INNER: inner,
            Arg.ROWS_PER_BLOCK: math.prod(sizes[2:-1]),
            Arg.BLOCKS: sizes[1],
            "sizes": sizes,
            "strides": strides_of(shape)[:rank],
            "starts": tables.starts,
            "channels": [program.constants.put(c) for c in channels],
            "tensors": tensors,
        },
        extent=math.prod(sizes[:-1]),
        work=math.prod(sizes) * inner / 4,
    )


def nearest_kernel(rank: int, block: int, epilogue: Epilogue) -> KernelSource:
    """The generated kernel for so many axes up to the last one resized."""
    symbol = f"resize_nearest_{rank}_{block}" + (f"_{epilogue.tag}" if epilogue.tag else "")
    words = functools.partial(WordLayout.of, Arg, sizes=rank, strides=rank, starts=rank, **epilogue.operand_counts)
    return generated("mace_cpu.resize.generate", symbol, rank, block, epilogue.ops, words=words)


def _emit_interpolation(
    program: Program,
    source: Value,
    target: Value,
    layout: Layout,
    shape: Sequence[int],
    axes: Sequence[ResizedAxis],
    sampling: Sampling,
    fill: float,
) -> None:
    """One axis after another, those that shrink first."""
    order = sorted(axes, key=lambda axis: (hint(axis.target) / hint(axis.size), -axis.axis))
    dtype = program.facts.dtype(source)
    between = DType.FLOAT32 if dtype is DType.FLOAT32 else DType.FLOAT64
    now, now_dtype, sizes = program.values.read(source, layout), dtype, list(shape)
    for axis in order:
        final = axis is order[-1]
        next_dtype = dtype if final else between
        sizes[axis.axis] = axis.target
        out = program.values.write(target, layout) if final else Buf.scratch(next_dtype.nbytes(math.prod(sizes)))
        outer, inner = math.prod(sizes[: axis.axis]), math.prod(sizes[axis.axis + 1 :])
        _emit_axis(program, now, out, now_dtype, next_dtype, outer, inner, axis, sampling, fill, layout)
        now, now_dtype = out, next_dtype


def _emit_axis(
    program: Program,
    source: Buf,
    target: Buf,
    source_dtype: DType,
    target_dtype: DType,
    outer: int,
    inner: int,
    axis: ResizedAxis,
    sampling: Sampling,
    fill: float,
    layout: Layout,
) -> None:
    single = source_dtype is DType.FLOAT32 and target_dtype is DType.FLOAT32
    taps = taps_of(axis, sampling)
    indices, weights = weights_of(program, axis, sampling, taps, DType.FLOAT32 if single else DType.FLOAT64)
    arguments: dict[str, Word] = {
        "source": source,
        "target": target,
        "indices": indices,
        "weights": weights,
        "source_length": axis.size,
        "target_length": axis.target,
        "taps": taps,
        "inner": inner,
        "fill": fill,
    }
    units = outer
    if layout is Layout.BLOCKED and inner == program.settings.block:
        kernel = numba_source(KERNELS, "interpolate_blocked", lanes=str(program.settings.block))
    else:
        kernel = numba_source(
            KERNELS,
            "interpolate",
            source=source_dtype.label,
            target=target_dtype.label,
            inner="one" if inner == 1 else "many",
        )
        units = outer if inner == 1 else outer * axis.target
    program.steps.emit(kernel, arguments, extent=units, work=outer * axis.target * inner * taps)


def weights_of(program: Program, axis: ResizedAxis, sampling: Sampling, taps: int, dtype: DType) -> tuple[Buf, Buf]:
    """Indices (int32) and weights (target length, taps) of one axis: constants, or written at each run."""
    if axis.is_decided:
        indices, weights = weight_table(axis, sampling)
        return program.constants.put(indices.astype(np.int32)), program.constants.put(weights.astype(dtype.numpy))
    made = Buf.scratch(4 * axis.target * taps), Buf.scratch(dtype.nbytes(axis.target * taps))
    flags = {
        name: "yes" if flag else "no"
        for name, flag in (("antialias", sampling.antialias), ("exclude_outside", sampling.exclude_outside))
    }
    kernel = numba_source(
        TABLE_KERNELS, "weights", coordinates=sampling.coordinates, mode=sampling.mode, dtype=dtype.label, **flags
    )
    program.steps.emit(
        kernel,
        {
            "indices": made[0],
            "weights": made[1],
            "length": axis.target,
            "size": axis.size,
            "scale": axis.scale,
            "wanted": axis.wanted,
            "begin": axis.region[0],
            "end": axis.region[1],
            "taps": taps,
            "cubic": sampling.cubic,
        },
        extent=1,
        work=8 * axis.target * taps,
        name="ResizeTables",
    )
    return made

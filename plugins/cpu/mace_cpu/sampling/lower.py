"""GridSample, RoiAlign, DeformConv, Col2Im and MaxUnpool."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.checks import NUMBERS, all_concrete, dtype_in
from mace_cpu.shared.nodes import fixed, integers, need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.sampling.kernels"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})
MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
PADDINGS = {"zeros": 0, "border": 1, "reflection": 2}


def _floats(view: GraphView, node: Node) -> str | None:
    """A reason if the tensors are not all of known shape and one float type."""
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)
    found = view.tensor_type(need(node.input(0)))
    return reason or (None if found is None else dtype_in(view, node.input(1), frozenset({found.dtype})))


def _check_grid(view: GraphView, node: Node) -> str | None:
    reason = _floats(view, node)
    if reason is None and not 3 <= len(view.shape(need(node.input(0)))) <= 5:
        return "the kernel samples 1 to 3 spatial dimensions"
    if reason is None and node.attr("mode", "linear") not in MODES:
        return f"there is no mode '{node.attr('mode')}'"
    if reason is None and node.attr("padding_mode", "zeros") not in PADDINGS:
        return f"there is no padding mode '{node.attr('padding_mode')}'"
    return reason


@lowers("GridSample", check=_check_grid)
def lower_grid_sample(program: Program, node: Node) -> None:
    source, grid, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    images, channels, *sizes = program.facts.shape(source)
    places = math.prod(program.facts.shape(target)[2:])
    mode = MODES[node.attr("mode", "linear")]
    program.steps.emit(
        numba_source(KERNELS, "grid_sample", dtype=program.facts.dtype(source).label, mode=mode),
        {
            "x": program.values.read(source),
            "grid": program.values.read(grid),
            "y": program.values.write(target),
            "channels": channels,
            "places": places,
            "padding": PADDINGS[node.attr("padding_mode", "zeros")],
            "align_corners": int(node.attr("align_corners", 0)),
            "rank": len(sizes),
            "sizes": sizes,
        },
        extent=images * places if math.prod(sizes) and channels else 0,
        work=images * places * (20 + channels * TAPS[mode] ** len(sizes) * 8 * len(sizes)),
    )


def _check_regions(view: GraphView, node: Node) -> str | None:
    reason = _floats(view, node) or dtype_in(view, node.input(2), frozenset({DType.INT32, DType.INT64}))
    if reason is None and node.attr("mode", "avg") not in ("avg", "max"):
        return f"there is no mode '{node.attr('mode')}'"
    return reason


@lowers("RoiAlign", check=_check_regions)
def lower_roi_align(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    images, channels, height, width = program.facts.shape(source)
    regions, _, rows, columns = program.facts.shape(target)
    default = "half_pixel" if program.facts.view.opset() >= 16 else "output_half_pixel"
    half_pixel = node.attr("coordinate_transformation_mode", default) == "half_pixel"
    which = need(node.input(2))
    program.steps.emit(
        numba_source(
            KERNELS,
            "roi_align",
            dtype=program.facts.dtype(source).label,
            index=program.facts.dtype(which).label,
            mode=node.attr("mode", "avg"),
        ),
        {
            "x": program.values.read(source),
            "regions": program.values.read(need(node.input(1))),
            "images": program.values.read(which),
            "y": program.values.write(target),
            "scale": float(node.attr("spatial_scale", 1.0)),
            "status": program.steps.report(f"'{which.name}' names image {{value}}, of which there are {images!s}"),
            "channels": channels,
            "height": height,
            "width": width,
            "rows": rows,
            "columns": columns,
            "sampling_ratio": int(node.attr("sampling_ratio", 0)),
            "half_pixel": int(half_pixel),
            "image_count": images,
        },
        extent=regions * channels if rows and columns else 0,
        work=program.facts.size(target) * 40,
    )


def _check_deform(view: GraphView, node: Node) -> str | None:
    reason = _floats(view, node)
    if reason is None and len(view.shape(need(node.input(0)))) != 4:
        return "the kernel deforms 2 spatial dimensions"
    return reason


@lowers("DeformConv", check=_check_deform)
def lower_deform_conv(program: Program, node: Node) -> None:
    source, weight, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    images, channels, height, width = program.facts.shape(source)
    _, outputs, rows, columns = program.facts.shape(target)
    bias, mask = node.input(3), node.input(4)
    program.steps.emit(
        numba_source(KERNELS, "deform_conv", dtype=program.facts.dtype(source).label),
        {
            "x": program.values.read(source),
            "w": program.values.read(weight),
            "offsets": program.values.read(need(node.input(2))),
            "bias": 0 if bias is None else program.values.read(bias),
            "mask": 0 if mask is None else program.values.read(mask),
            "y": program.values.write(target),
            "in_channels": channels,
            "out_channels": outputs,
            "groups": int(node.attr("group", 1)),
            "offset_groups": int(node.attr("offset_group", 1)),
            "height": height,
            "width": width,
            "rows": rows,
            "columns": columns,
            "kernel": program.facts.shape(weight)[2:],
            "strides": _numbers(node, "strides", 2, 1),
            "dilations": _numbers(node, "dilations", 2, 1),
            "pads": _numbers(node, "pads", 4, 0)[:2],
        },
        extent=images * rows if columns else 0,
        work=program.facts.size(target) * math.prod(program.facts.shape(weight)[1:]) * 4,
    )


def _numbers(node: Node, name: str, count: int, default: int) -> list[int]:
    given: Sequence[int] = node.attr(name) or (default,) * count
    return [int(number) for number in given]


def _check_col2im(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS)
    return reason or fixed(view, node, 1, "the image's shape") or fixed(view, node, 2, "the block's shape")


@lowers("Col2Im", check=_check_col2im)
def lower_col2im(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    sizes, block = integers(program.facts.view, node.input(1)), integers(program.facts.view, node.input(2))
    assert sizes is not None and block is not None
    rank = len(sizes)
    strides, dilations = _numbers(node, "strides", rank, 1), _numbers(node, "dilations", rank, 1)
    pads = _numbers(node, "pads", 2 * rank, 0)
    counts = [
        (sizes[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(rank)
    ]
    images, channels = program.facts.shape(target)[:2]
    program.steps.emit(
        numba_source(KERNELS, "col2im", dtype=program.facts.dtype(source).label),
        {
            "columns": program.values.read(source),
            "image": program.values.write(target),
            "blocks": program.facts.shape(source)[2],
            "rank": rank,
            "sizes": sizes,
            "block": block,
            "counts": counts,
            "strides": strides,
            "dilations": dilations,
            "pads": pads[:rank],
        },
        extent=images * channels if math.prod(sizes) else 0,
        work=program.facts.size(source) * 10,
    )


def _check_unpool(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS)
    return reason or dtype_in(view, node.input(1), frozenset({DType.INT64}))


@lowers("MaxUnpool", check=_check_unpool)
def lower_max_unpool(program: Program, node: Node) -> None:
    source, indices, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    shape, results = program.facts.shape(source), program.facts.shape(target)
    kernel = _numbers(node, "kernel_shape", len(shape) - 2, 1)
    strides = _numbers(node, "strides", len(kernel), 1)
    pads = _numbers(node, "pads", 2 * len(kernel), 0)
    pooled = [(size - 1) * strides[i] - pads[i] - pads[len(kernel) + i] + kernel[i] for i, size in enumerate(shape[2:])]
    sizes = [*shape[:2], *pooled]
    if any(small > large for small, large in zip(sizes, results, strict=True)):
        sizes = list(results)
    program.steps.emit(
        numba_source(KERNELS, "max_unpool", dtype=program.facts.dtype(source).label),
        {
            "values": program.values.read(source),
            "indices": program.values.read(indices),
            "target": program.values.write(target),
            "status": program.steps.report(
                f"'{indices.name}' holds the index {{value}}, which is outside {math.prod(sizes)!s} elements"
            ),
            "count": program.facts.size(source),
            "rank": len(sizes),
            "pooled": sizes,
            "sizes": results,
        },
        extent=1 if program.facts.size(target) else 0,
        chunks=1,
    )

"""NonZero, NonMaxSuppression, Unique: outputs whose shape only the run tells.  (Compress is with the gathers.)"""

from __future__ import annotations

import math

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.checks import FIXED_WIDTH, FLOAT32, NUMBERS, concrete, dtype_in
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

CORNERS = 5
"""Floats that the kernel notes of a box."""

KERNELS = "mace_cpu.selection.kernels_unsized"
HALVES = frozenset({DType.FLOAT16, DType.BFLOAT16})
COMPLEX = frozenset({DType.COMPLEX64, DType.COMPLEX128})


def inputs_concrete(view: GraphView, node: Node) -> str | None:
    """A reason if some input has no known shape."""
    for value in node.inputs:
        reason = concrete(view, value)
        if reason is not None:
            return reason
    return None


def _check_non_zero(view: GraphView, node: Node) -> str | None:
    return inputs_concrete(view, node) or dtype_in(view, node.input(0), FIXED_WIDTH - COMPLEX)


@lowers("NonZero", check=_check_non_zero)
def lower_non_zero(program: Program, node: Node) -> None:
    source = need(node.input(0))
    shape, dtype = program.facts.shape(source), program.facts.dtype(source)
    size = math.prod(shape)
    target, dims = program.values.write_unsized(node.output(0), DType.INT64, len(shape) * size, 2)
    program.steps.emit(
        numba_source(KERNELS, "non_zero", width=str(dtype.bits // 8), kind="float" if dtype.is_float else "integer"),
        {
            "source": program.values.read(source),
            "target": target,
            "dims": dims,
            "size": size,
            "rank": len(shape),
            "shape": shape,
        },
        extent=1,
        chunks=1,
    )


def _check_suppression(view: GraphView, node: Node) -> str | None:
    reason = inputs_concrete(view, node)
    for index in (0, 1, 3, 4):
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    return reason or dtype_in(view, node.input(2), frozenset({DType.INT64}))


@lowers("NonMaxSuppression", check=_check_suppression)
def lower_non_max_suppression(program: Program, node: Node) -> None:
    batches, classes, boxes = program.facts.shape(need(node.input(1)))
    most = program.facts.constant_of(node.input(2)) if node.input(2) is not None else None
    per_class = boxes if most is None else max(min(boxes, int(most.reshape(-1)[0])), 0)
    target, dims = program.values.write_unsized(node.output(0), DType.INT64, 3 * batches * classes * per_class, 2)
    scalars = [node.input(index) for index in (2, 3, 4)]
    program.steps.emit(
        numba_source(KERNELS, "non_max_suppression", centered=str(int(node.attr("center_point_box", 0)))),
        {
            "boxes": program.values.read(need(node.input(0))),
            "scores": program.values.read(need(node.input(1))),
            **{
                name: 0 if value is None else program.values.read(value)
                for name, value in zip(("most", "threshold", "lowest"), scalars, strict=True)
            },
            "target": target,
            "dims": dims,
            "order": Buf.scratch(8 * boxes),
            "batches": batches,
            "classes": classes,
            "count": boxes,
            "corners": Buf.scratch(4 * CORNERS * (boxes + 1)),
        },
        extent=1,
        chunks=1,
    )


def _check_unique(view: GraphView, node: Node) -> str | None:
    return inputs_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS | HALVES | {DType.BOOL})


@lowers("Unique", check=_check_unique)
def lower_unique(program: Program, node: Node) -> None:
    source = need(node.input(0))
    shape, dtype = program.facts.shape(source), program.facts.dtype(source)
    given = node.attr("axis")
    if given is None:
        shape, axis = (math.prod(shape),), 0
    else:
        axis = normal_axis(int(given), len(shape))
    items = shape[axis]
    values, values_dims = program.values.write_unsized(node.output(0), dtype, math.prod(shape), len(shape))
    indices, indices_dims = program.values.write_unsized(node.output(1), DType.INT64, items, 1)
    inverse, inverse_dims = program.values.write_unsized(node.output(2), DType.INT64, items, 1)
    counts, counts_dims = program.values.write_unsized(node.output(3), DType.INT64, items, 1)
    narrow = dtype in HALVES
    program.steps.emit(
        numba_source(KERNELS, "unique", dtype="uint16" if narrow else dtype.label, halves=str(int(narrow))),
        {
            "source": program.values.read(source),
            "values": values,
            "indices": indices,
            "inverse": inverse,
            "counts": counts,
            "values_dims": values_dims,
            "indices_dims": indices_dims,
            "inverse_dims": inverse_dims,
            "counts_dims": counts_dims,
            "scratch": Buf.scratch(24 * items),
            "outer": math.prod(shape[:axis]),
            "items": items,
            "inner": math.prod(shape[axis + 1 :]),
            "sorted": int(node.attr("sorted", 1)),
            "rank": len(shape),
            "axis": axis,
            "shape": shape,
        },
        extent=1,
        chunks=1,
    )

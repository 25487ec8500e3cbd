"""Gather, GatherElements, GatherND, ScatterElements, Scatter, ScatterND, TensorScatter and Compress."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.tensor import DType
from mace_cpu.shared.checks import NUMBERS, concrete, dtype_in, is_movable, movable
from mace_cpu.shared.layouts.strided import Axis, emit_bytes, emit_strided, strides_of
from mace_cpu.shared.nodes import integers, need, normal_axis
from mace_cpu.shared.parts.buffers import At, Buf, element_bytes
from mace_cpu.shared.parts.steps import Word, Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.indexing.kernels"
JOURNAL = "mace_cpu.indexing.kernels_journal"
INDEX_TYPES = frozenset({DType.INT32, DType.INT64})
LONGEST_ELEMENT_LOOP = 16
UNSIGNED = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}


def _check_gather(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node) or dtype_in(view, node.input(1), INDEX_TYPES)
    if reason is None and node.op_type == "Gather":
        known = integers(view, node.input(1))
        shape = view.shape(need(node.input(0)))
        size = shape[normal_axis(int(node.attr("axis", 0)), len(shape))]
        for index in known or ():
            if not -size <= index < size:
                return f"index {index} is outside an axis of {size} elements"
    return reason


def _report(program: Program, node: Node, what: str = "") -> At:
    indices = need(node.input(1))
    return program.steps.report(f"'{indices.name}' holds the index {{value}}, which is outside its axis{what}")


@lowers("Gather", check=_check_gather)
def lower_gather(program: Program, node: Node) -> None:
    source, indices, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    shape = program.facts.shape(source)
    axis = normal_axis(int(node.attr("axis", 0)), len(shape))
    known = integers(program.facts.view, indices)
    if known is not None and len(known) == 1 and len(program.facts.shape(indices)) == 0:
        if program.values.can_show(source):
            index = normal_axis(known[0], shape[axis])
            program.values.show(target, program.values.strided(source).picked(axis, index), node)
        else:
            _emit_one_index(program, source, target, axis, known[0])
        return
    emit_gather(
        program, node, program.values.read(indices), program.facts.dtype(indices), axis, program.facts.size(indices)
    )


def _emit_one_index(program: Program, source: Value, target: Value, axis: int, index: int) -> None:
    """One fixed index is a part of the source, contiguous rows."""
    shape = program.facts.shape(source)
    row = math.prod(shape[axis + 1 :])
    outer = math.prod(shape[:axis])
    nbytes = element_bytes(program.facts.dtype(source))
    start = normal_axis(index, shape[axis]) * row * nbytes
    if outer == 1:
        emit_bytes(
            program.steps, At(program.values.read(source), start), At(program.values.write(target)), row * nbytes
        )
        return
    axes = [Axis(outer, shape[axis] * row, row), Axis(row, 1, 1)]
    emit_strided(
        program.steps,
        program.facts.dtype(source),
        program.values.read(source),
        program.values.write(target),
        axes,
        source_offset=start // nbytes,
    )


def emit_gather(program: Program, node: Node, indices: Buf, index: DType, axis: int, count: int) -> None:
    """Take ``count`` entries of the node's first input along ``axis``."""
    source, target = need(node.input(0)), need(node.output(0))
    shape = program.facts.shape(source)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    width = element_bytes(program.facts.dtype(source))
    if width == 16 or inner > LONGEST_ELEMENT_LOOP:
        width, inner = 0, inner * width
    program.steps.emit(
        numba_source(KERNELS, "gather", width=str(width), index=index.label),
        {
            "source": program.values.read(source),
            "indices": indices,
            "target": program.values.write(target),
            "status": _report(program, node, f" of {shape[axis]!s} elements"),
            "size": shape[axis],
            "count": count,
            "inner": inner,
        },
        extent=0 if inner == 0 else outer * count,
        work=program.facts.size(target),
    )


def _check_gather_nd(view: GraphView, node: Node) -> str | None:
    return movable(view, node) or dtype_in(view, node.input(1), INDEX_TYPES)


@lowers("GatherND", check=_check_gather_nd)
def lower_gather_nd(program: Program, node: Node) -> None:
    source, indices, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    shape, lookup = program.facts.shape(source), program.facts.shape(indices)
    batch = int(node.attr("batch_dims", 0))
    depth = lookup[-1]
    width = element_bytes(program.facts.dtype(source))
    strides = strides_of(shape)
    inner = math.prod(shape[batch + depth :]) * width
    program.steps.emit(
        numba_source(KERNELS, "gather_nd", index=program.facts.dtype(indices).label),
        {
            "source": program.values.read(source),
            "indices": program.values.read(indices),
            "target": program.values.write(target),
            "status": _report(program, node),
            "depth": depth,
            "tuples": max(math.prod(lookup[batch:-1]), 1),
            "batch_bytes": math.prod(shape[batch:]) * width,
            "inner_bytes": inner,
            "sizes": shape[batch : batch + depth],
            "strides": [stride * width for stride in strides[batch : batch + depth]],
        },
        extent=0 if inner == 0 else math.prod(lookup[:-1]),
        work=program.facts.size(target),
    )


def _check_elements(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node) or dtype_in(view, node.input(1), INDEX_TYPES)
    found = view.tensor_type(need(node.input(0)))
    if reason is None and (found is None or found.dtype.bits == 128):
        return "elements of 16 bytes are not gathered or scattered one by one"
    reduction = node.attr("reduction", "none")
    if reason is None and reduction != "none":
        if reduction not in ("add", "mul", "max", "min"):
            return f"there is no reduction '{reduction}'"
        return dtype_in(view, node.input(0), NUMBERS)
    return reason


@lowers("GatherElements", check=_check_elements)
def lower_gather_elements(program: Program, node: Node) -> None:
    source, indices, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    width = element_bytes(program.facts.dtype(source))
    program.steps.emit(
        numba_source(KERNELS, "gather_elements", width=str(width), index=program.facts.dtype(indices).label),
        {
            "source": program.values.read(source),
            "indices": program.values.read(indices),
            "target": program.values.write(target),
            **_along_axis(program, node, source),
        },
        extent=_rows(program, indices),
        work=program.facts.size(indices),
    )


@lowers("ScatterElements", "Scatter", check=_check_elements)
def lower_scatter_elements(program: Program, node: Node) -> None:
    source, indices, updates = need(node.input(0)), need(node.input(1)), need(node.input(2))
    buf, is_in_place = _copied(program, source, need(node.output(0)))
    if is_in_place:
        along = _along_axis(program, node, source)
        words: Words = {name: along[name] for name in ("size", "stride", "rank", "sizes", "strides")}
        words["indices"] = program.values.read(indices)
        kernel = numba_source(JOURNAL, "note_elements", index=program.facts.dtype(indices).label)
        width, rows = element_bytes(program.facts.dtype(source)), _rows(program, indices)
        _keep(
            program,
            kernel,
            {"indices": program.values.read(indices), **words},
            buf,
            program.facts.size(indices),
            width,
            rows,
        )
    program.steps.emit(
        numba_source(
            KERNELS,
            "scatter_elements",
            dtype=_element(program, source, node),
            index=program.facts.dtype(indices).label,
            reduction=node.attr("reduction", "none"),
        ),
        {
            "updates": program.values.read(updates),
            "indices": program.values.read(indices),
            "target": buf,
            **_along_axis(program, node, source),
        },
        extent=_rows(program, indices),
        work=program.facts.size(indices) * 8,
        chunks=1,
    )


@lowers("ScatterND", check=_check_elements)
def lower_scatter_nd(program: Program, node: Node) -> None:
    source, indices, updates = need(node.input(0)), need(node.input(1)), need(node.input(2))
    shape, lookup = program.facts.shape(source), program.facts.shape(indices)
    depth = lookup[-1]
    inner = math.prod(shape[depth:])
    buf, is_in_place = _copied(program, source, need(node.output(0)))
    if is_in_place:
        width, tuples = element_bytes(program.facts.dtype(source)), math.prod(lookup[:-1])
        words: Words = {
            "indices": program.values.read(indices),
            "depth": depth,
            "sizes": shape[:depth],
            "strides": [stride * width for stride in strides_of(shape)[:depth]],
        }
        kernel = numba_source(JOURNAL, "note_tuples", index=program.facts.dtype(indices).label)
        _keep(program, kernel, words, buf, tuples, inner * width, tuples)
    program.steps.emit(
        numba_source(
            KERNELS,
            "scatter_nd",
            dtype=_element(program, source, node),
            index=program.facts.dtype(indices).label,
            reduction=node.attr("reduction", "none"),
        ),
        {
            "updates": program.values.read(updates),
            "indices": program.values.read(indices),
            "target": buf,
            "status": _report(program, node),
            "depth": depth,
            "inner": inner,
            "sizes": shape[:depth],
            "strides": strides_of(shape)[:depth],
        },
        extent=0 if inner == 0 else math.prod(lookup[:-1]),
        work=program.facts.size(updates) * 8,
        chunks=1,
    )


def _copied(program: Program, source: Value, target: Value) -> tuple[Buf, bool]:
    """Where a scatter writes: a copy of its first operand, or (True) that itself."""
    place = program.values.written_over(target)
    if place is not None:
        program.steps.remark("in place")
        return place, True
    read, buf = program.values.read(source), program.values.write(target)
    emit_bytes(program.steps, At(read), At(buf), program.facts.nbytes(source))
    return buf, False


def _keep(
    program: Program,
    kernel: KernelSource,
    words: Words,
    target: Buf,
    entries: int,
    row_bytes: int,
    units: int,
) -> None:
    """Keep what is written over, ``entries`` rows, until the run has ended."""
    if entries == 0 or units == 0 or row_bytes == 0:
        return
    journal = program.values.keep(entries, row_bytes)
    words |= {
        "target": target,
        "journal": journal.data,
        "noted": journal.noted,
        "entries": entries,
        "row_bytes": row_bytes,
        "units": units,
    }
    program.steps.emit(kernel, words, extent=units, work=entries * 8, chunks=1, name="Journal")


def _element(program: Program, value: Value, node: Node) -> str:
    """The element type a scatter computes in: any type of the right width where nothing is combined."""
    dtype = program.facts.dtype(value)
    return UNSIGNED[element_bytes(dtype)] if node.attr("reduction", "none") == "none" else dtype.label


def _along_axis(program: Program, node: Node, value: Value) -> dict[str, Word | Sequence[Word]]:
    """The words from the status on; ``strides`` are those of ``value`` with 0 at the axis."""
    shape = program.facts.shape(value)
    strides = strides_of(shape)
    axis = normal_axis(int(node.attr("axis", 0)), len(shape))
    size, stride = shape[axis], strides[axis]
    strides[axis] = 0
    status = _report(program, node, f" of {size!s} elements")
    return {
        "status": status,
        "size": size,
        "stride": stride,
        "rank": len(shape),
        "sizes": program.facts.shape(need(node.input(1))),
        "strides": strides,
    }


def _rows(program: Program, indices: Value) -> int:
    return 0 if program.facts.size(indices) == 0 else math.prod(program.facts.shape(indices)[:-1])


def _check_compress(view: GraphView, node: Node) -> str | None:
    reason = concrete(view, node.input(0)) or concrete(view, node.input(1))
    found = view.tensor_type(need(node.input(0)))
    if reason is None and (found is None or not is_movable(found.dtype) or found.dtype.is_packed):
        return f"'{need(node.input(0)).name}' has no elements of whole bytes to move"
    return reason


@lowers("Compress", check=_check_compress)
def lower_compress(program: Program, node: Node) -> None:
    """With a fixed condition this is a gather of fixed indices."""
    source = need(node.input(0))
    condition = program.facts.constant_of(node.input(1))
    if condition is None:
        _compress_unsized(program, node, source)
        return
    kept = np.flatnonzero(condition).astype(np.int64)
    axis = node.attr("axis")
    if axis is None:
        _gather_flat(program, node, source, kept)
        return
    axis = normal_axis(int(axis), len(program.facts.shape(source)))
    emit_gather(program, node, program.constants.put(kept), DType.INT64, axis, kept.size)


def _compress_unsized(program: Program, node: Node, source: Value) -> None:
    shape, dtype = program.facts.shape(source), program.facts.dtype(source)
    given = node.attr("axis")
    if given is None:
        shape, axis = (math.prod(shape),), 0
    else:
        axis = normal_axis(int(given), len(shape))
    target, dims = program.values.write_unsized(node.output(0), dtype, math.prod(shape), len(shape))
    program.steps.emit(
        numba_source("mace_cpu.indexing.kernels_compress", "compress"),
        {
            "source": program.values.read(source),
            "condition": program.values.read(need(node.input(1))),
            "target": target,
            "dims": dims,
            "scratch": Buf.scratch(program.facts.size(need(node.input(1)))),
            "outer": math.prod(shape[:axis]),
            "size": shape[axis],
            "row_bytes": math.prod(shape[axis + 1 :]) * element_bytes(dtype),
            "entries": program.facts.size(need(node.input(1))),
            "rank": len(shape),
            "axis": axis,
            "shape": shape,
        },
        extent=1,
        chunks=1,
    )


def _gather_flat(program: Program, node: Node, source: Value, kept: np.ndarray) -> None:
    width = element_bytes(program.facts.dtype(source))
    rows = width == 16
    program.steps.emit(
        numba_source(KERNELS, "gather", width="0" if rows else str(width), index="int64"),
        {
            "source": program.values.read(source),
            "indices": program.constants.put(kept),
            "target": program.values.write(need(node.output(0))),
            "status": _report(program, node),
            "size": program.facts.size(source),
            "count": kept.size,
            "inner": 16 if rows else 1,
        },
        extent=kept.size,
        work=kept.size,
    )


def _check_tensor_scatter(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node) or dtype_in(view, node.input(2), frozenset({DType.INT64}))
    if reason is None and node.attr("mode", "linear") not in ("linear", "circular"):
        return f"there is no mode '{node.attr('mode')}'"
    return reason


@lowers("TensorScatter", check=_check_tensor_scatter)
def lower_tensor_scatter(program: Program, node: Node) -> None:
    cache, updates, starts = need(node.input(0)), need(node.input(1)), node.input(2)
    shape, part = program.facts.shape(cache), program.facts.shape(updates)
    axis = normal_axis(int(node.attr("axis", -2)), len(shape))
    buf, is_in_place = _copied(program, cache, need(node.output(0)))
    name = starts.name if starts is not None else ""
    if is_in_place:
        words: Words = {
            "starts": 0 if starts is None else program.values.read(starts),
            "prefixes": math.prod(shape[1:axis]),
            "length": part[axis],
            "size": shape[axis],
            "circular": int(node.attr("mode", "linear") == "circular"),
        }
        rows, row_bytes = (
            math.prod(part[: axis + 1]),
            math.prod(shape[axis + 1 :]) * element_bytes(program.facts.dtype(cache)),
        )
        _keep(program, numba_source(JOURNAL, "note_rows"), words, buf, rows, row_bytes, rows)
    program.steps.emit(
        numba_source(KERNELS, "tensor_scatter"),
        {
            "updates": program.values.read(updates),
            "starts": 0 if starts is None else program.values.read(starts),
            "target": buf,
            "status": program.steps.report(f"'{name}' holds {{value}}, which leads outside a cache of {shape[axis]!s}"),
            "prefixes": math.prod(shape[1:axis]),
            "length": part[axis],
            "size": shape[axis],
            "row_bytes": math.prod(shape[axis + 1 :]) * element_bytes(program.facts.dtype(cache)),
            "circular": int(node.attr("mode", "linear") == "circular"),
        },
        extent=math.prod(part[: axis + 1]) if math.prod(shape[axis + 1 :]) else 0,
        work=program.facts.size(updates),
        chunks=1,
    )

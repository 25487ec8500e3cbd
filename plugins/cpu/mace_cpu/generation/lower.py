"""Constants, Shape, Size, ConstantOfShape, EyeLike, Range, OneHot, Trilu, CumSum, CumProd and ReverseSequence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_symbolic, maximum, minimum
from mace_core.tensor import DType, Tensor
from mace_cpu.shared.checks import NUMBERS, all_concrete, concrete, dtype_in, is_movable, movable
from mace_cpu.shared.layouts.strided import Axis, emit_strided
from mace_cpu.shared.nodes import integers, need, normal_axis
from mace_cpu.shared.parts.buffers import element_bytes
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.generation.kernels"
HALVES = frozenset({DType.FLOAT16, DType.BFLOAT16})
RANGE_TYPES = frozenset({DType.FLOAT32, DType.FLOAT64, DType.INT16, DType.INT32, DType.INT64})
CUMULATIVE_TYPES = frozenset(
    {DType.FLOAT32, DType.FLOAT64, DType.INT32, DType.INT64, DType.UINT32, DType.UINT64}
)  # fmt: skip


# --- constants --------------------------------------------------------------------------------------------------------


def _constant_content(node: Node) -> npt.NDArray[Any] | None:
    """What a Constant node holds; None for strings and sparse tensors."""
    tensor = node.attr("value")
    if isinstance(tensor, Tensor):
        return None if tensor.dtype is DType.STRING else tensor.numpy()
    for name, dtype in (
        ("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64),
    ):  # fmt: skip
        if name in node.attributes:
            return np.array(node.attr(name), dtype)
    return None


def _check_constant(view: GraphView, node: Node) -> str | None:
    content = _constant_content(node)
    if content is None:
        return "string and sparse constants are not held in dense memory"
    if not is_movable(DType.from_numpy(content.dtype)):
        return "constants of packed element types are not computed with"
    return None


@lowers("Constant", check=_check_constant)
def lower_constant(program: Program, node: Node) -> None:
    content = _constant_content(node)
    assert content is not None
    program.values.alias(need(node.output(0)), program.constants.put(content))


def _check_shape(view: GraphView, node: Node) -> str | None:
    return concrete(view, node.input(0))


@lowers("Shape", "Size", check=_check_shape)
def lower_shape(program: Program, node: Node) -> None:
    """The signature fixes the shape, so these are constants."""
    shape = program.facts.shape(need(node.input(0)))
    if node.op_type == "Size":
        sizes = [math.prod(shape)]
    else:
        sizes = list(shape[slice(node.attr("start", 0), node.attr("end"))])
    program.values.alias(need(node.output(0)), program.table(sizes))


def _check_output_movable(view: GraphView, node: Node) -> str | None:
    reason = concrete(view, node.output(0))
    found = view.tensor_type(need(node.output(0)))
    if reason is None and (found is None or not is_movable(found.dtype)):
        return "its output has no elements of whole bytes"
    return reason


@lowers("ConstantOfShape", check=_check_output_movable)
def lower_constant_of_shape(program: Program, node: Node) -> None:
    target = need(node.output(0))
    given = node.attr("value")
    value = given.numpy().reshape(1) if isinstance(given, Tensor) else np.zeros(1, np.float32)
    size = program.facts.size(target)
    emit_strided(
        program.steps,
        program.facts.dtype(target),
        program.constants.put(value),
        program.values.write(target),
        [Axis(size, 0, 1)],
    )


@lowers("EyeLike", check=_check_output_movable)
def lower_eye_like(program: Program, node: Node) -> None:
    target = need(node.output(0))
    (rows, columns), dtype = program.facts.shape(target), program.facts.dtype(target)
    diagonal = int(node.attr("k", 0))
    if not (is_symbolic(rows) or is_symbolic(columns)):
        eye = np.eye(rows, columns, diagonal, dtype=dtype.numpy)
        program.values.alias(target, program.constants.put(eye))
        return
    zero, one = (program.constants.put(np.full(1, number, dtype.numpy)) for number in (0, 1))
    buf = program.values.write(target)
    emit_strided(program.steps, dtype, zero, buf, [Axis(rows * columns, 0, 1)])
    row, column = max(-diagonal, 0), max(diagonal, 0)
    count = maximum(minimum(rows - row, columns - column), 0)
    ones = [Axis(count, 0, columns + 1)]
    emit_strided(program.steps, dtype, one, buf, ones, target_offset=row * columns + column)


# --- ranges and one-hot -----------------------------------------------------------------------------------------------


def _check_range(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), RANGE_TYPES | HALVES)
    stash = int(node.attr("stash_type", DType.FLOAT32.value))
    if reason is None and stash != DType.FLOAT32.value and dtype_in(view, node.output(0), HALVES) is None:
        return "a range of half precision is computed in float32 only"
    return reason


@lowers("Range", check=_check_range)
def lower_range(program: Program, node: Node) -> None:
    target = need(node.output(0))
    count = program.facts.size(target)
    program.steps.emit(
        numba_source(
            KERNELS,
            "half_range" if program.facts.dtype(target) in HALVES else "number_range",
            dtype=program.facts.dtype(target).label,
        ),
        {
            "start": program.values.read(need(node.input(0))),
            "step": program.values.read(need(node.input(2))),
            "target": program.values.write(target),
        },
        extent=count,
        work=count,
    )


def _check_one_hot(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS)
    found = view.tensor_type(need(node.input(2)))
    if reason is None and (found is None or not is_movable(found.dtype) or found.dtype.bits > 64):
        return f"'{need(node.input(2)).name}' has elements that the kernel does not move"
    return reason


@lowers("OneHot", check=_check_one_hot)
def lower_one_hot(program: Program, node: Node) -> None:
    indices, values, target = need(node.input(0)), need(node.input(2)), need(node.output(0))
    shape = program.facts.shape(target)
    axis = normal_axis(int(node.attr("axis", -1)), len(shape))
    program.steps.emit(
        numba_source(
            KERNELS,
            "one_hot",
            index=program.facts.dtype(indices).label,
            width=str(element_bytes(program.facts.dtype(values))),
        ),
        {
            "indices": program.values.read(indices),
            "values": program.values.read(values),
            "target": program.values.write(target),
            "depth": shape[axis],
            "inner": math.prod(shape[axis + 1 :]),
        },
        extent=0 if program.facts.size(target) == 0 else math.prod(shape[:axis]),
        work=program.facts.size(target),
    )


# --- along an axis ----------------------------------------------------------------------------------------------------


def _check_trilu(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node)
    found = view.tensor_type(need(node.input(0)))
    if reason is None and (found is None or found.dtype.bits > 64):
        return "elements of 16 bytes are not moved one by one"
    return reason


@lowers("Trilu", check=_check_trilu)
def lower_trilu(program: Program, node: Node) -> None:
    source, target, diagonal = need(node.input(0)), need(node.output(0)), node.input(1)
    *_, rows, columns = program.facts.shape(source)
    program.steps.emit(
        numba_source(
            KERNELS,
            "triangle",
            width=str(element_bytes(program.facts.dtype(source))),
            part="upper" if node.attr("upper", 1) else "lower",
        ),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            "diagonal": program.constants.put(np.zeros(1, np.int64))
            if diagonal is None
            else program.values.read(diagonal),
            "rows": rows,
            "columns": columns,
        },
        extent=0 if program.facts.size(source) == 0 else program.facts.size(source) // columns,
        work=program.facts.size(source),
    )


def _check_cumulative(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.input(0), CUMULATIVE_TYPES)


@lowers("CumSum", "CumProd", check=_check_cumulative)
def lower_cumulative(program: Program, node: Node) -> None:
    """The axis may be known only at run time; where it is known, what lies before it is split over the threads."""
    source, axis, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    shape, known = program.facts.shape(source), integers(program.facts.view, axis)
    units = 1
    if known is not None and program.facts.size(source):
        first = normal_axis(known[0], len(shape))
        units = math.prod(shape[:first])
        shape = (1,) * first + shape[first:]
    program.steps.emit(
        numba_source(
            KERNELS,
            "running",
            dtype=program.facts.dtype(source).label,
            axis=program.facts.dtype(axis).label,
            operation="product" if node.op_type == "CumProd" else "sum",
        ),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            "axis": program.values.read(axis),
            "status": program.steps.report(f"'{axis.name}' holds {{value}}, which is not an axis of {len(shape)}"),
            "exclusive": int(node.attr("exclusive", 0)),
            "reverse": int(node.attr("reverse", 0)),
            "rank": len(shape),
            "sizes": shape,
        },
        extent=0 if program.facts.size(source) == 0 else units,
        work=program.facts.size(source),
    )


@lowers("ReverseSequence", check=movable)
def lower_reverse_sequence(program: Program, node: Node) -> None:
    source, lengths, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    first, second, *rest = program.facts.shape(source)
    nbytes = math.prod(rest) * element_bytes(program.facts.dtype(source))
    steps = first if node.attr("time_axis", 0) == 0 else second
    status = program.steps.report(f"'{lengths.name}' holds the length {{value}} for sequences of {steps!s} steps")
    program.steps.emit(
        numba_source(KERNELS, "reverse_sequence"),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            "lengths": program.values.read(lengths),
            "status": status,
            "first": first,
            "second": second,
            "row_bytes": nbytes,
            "time_axis": int(node.attr("time_axis", 0)),
        },
        extent=0 if nbytes == 0 else first * second,
        work=program.facts.size(source),
    )

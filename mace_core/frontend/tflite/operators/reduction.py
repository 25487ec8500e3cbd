"""Sums, means, extremes and their places along axes."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.graph import Value
from mace_core.tensor import DType

_REDUCTIONS = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}


@converter(*_REDUCTIONS, options="ReducerOptions")
def reduction(op: Operation) -> None:
    """Without axes nothing is reduced."""
    attributes = {"keepdims": int(op.option("KeepDims")), "noop_with_empty_axes": 1}
    op.finish(op.emit(_REDUCTIONS[op.file.builtin], [op.real(0), _axes(op)], attributes))


@converter("REDUCE_ANY", "REDUCE_ALL", options="ReducerOptions")
def logical(op: Operation) -> None:
    """Of truth values: the greatest or the least."""
    kind = "ReduceMax" if op.file.builtin == "REDUCE_ANY" else "ReduceMin"
    attributes = {"keepdims": int(op.option("KeepDims")), "noop_with_empty_axes": 1}
    found = op.emit(kind, [op.cast(op.stored(0), DType.UINT8), _axes(op)], attributes)
    op.keep(op.cast(found, DType.BOOL))


@converter("ARG_MAX", options="ArgMaxOptions")
@converter("ARG_MIN", options="ArgMinOptions")
def place_of_extreme(op: Operation) -> None:
    """The first of equals."""
    (axis,) = op.whole(1, "the axis")
    kind = "ArgMax" if op.file.builtin == "ARG_MAX" else "ArgMin"
    x = op.stored(0)
    if op.dtype(0) is DType.BOOL:  # which ONNX does not compare
        x = op.cast(x, DType.UINT8)
    found = op.emit(kind, [x], {"axis": op.axis(axis, op.rank(0)), "keepdims": 0})
    op.keep(found if op.result_dtype() is DType.INT64 else op.cast(found, op.result_dtype()))


@converter("TOPK_V2", options="TopKV2Options")
def largest(op: Operation) -> None:
    """The greatest along the last axis, in order, and their places."""
    count = op.emit("Reshape", [op.sizes(1), op.number([1])])
    values, places = op.several("TopK", [op.stored(0), count], 2, {"axis": -1, "largest": 1, "sorted": 1})
    op.keep(values, 0)
    op.keep(op.cast(places, op.result_dtype(1)), 1)


@converter("CUMSUM", options="CumsumOptions")
def running_sum(op: Operation) -> None:
    (axis,) = op.whole(1, "the axis")
    attributes = {"exclusive": int(op.option("Exclusive")), "reverse": int(op.option("Reverse"))}
    op.finish(op.emit("CumSum", [op.real(0), op.number(op.axis(axis, op.rank(0)))], attributes))


def _axes(op: Operation) -> Value:
    content = op.constant(1)
    if content is None:
        return op.emit("Reshape", [op.sizes(1), op.number([-1])])
    return op.number(sorted({op.axis(int(axis), op.rank(0)) for axis in content.reshape(-1)}))

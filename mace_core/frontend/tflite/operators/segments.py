"""Rows put together by the number of their segment, and values sorted into buckets."""

from __future__ import annotations

import numpy as np

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.graph import Value
from mace_core.tensor import DType

_REDUCTIONS = {
    "UNSORTED_SEGMENT_SUM": "add",
    "UNSORTED_SEGMENT_PROD": "mul",
    "UNSORTED_SEGMENT_MAX": "max",
    "UNSORTED_SEGMENT_MIN": "min",
}


@converter(*_REDUCTIONS)
def unsorted_segments(op: Operation) -> None:
    """Inputs: data, the segment of each row, how many segments.  Segments without rows get the neutral number."""
    _reduced(op, _REDUCTIONS[op.file.builtin], op.emit("Reshape", [op.sizes(2), op.number([1])]))


@converter("SEGMENT_SUM")
def segments(op: Operation) -> None:
    """As many segments as the last number says."""
    last = op.emit("ReduceMax", [op.sizes(1)], {"keepdims": 0})
    _reduced(op, "add", op.emit("Reshape", [op.emit("Add", [last, op.number(1)]), op.number([1])]))


def _reduced(op: Operation, reduction: str, count: Value) -> None:
    data, dtype = op.stored(0), op.dtype(0)
    rank = op.rank(1)
    neutral = {"add": 0, "mul": 1}.get(reduction)
    if neutral is None:
        info = np.finfo(dtype.numpy) if dtype.is_float else np.iinfo(dtype.numpy)
        neutral = info.min if reduction == "max" else info.max
    rest = op.emit("Shape", [data], {"start": rank})
    start = op.emit("Expand", [op.number(neutral, dtype.numpy), op.emit("Concat", [count, rest], {"axis": 0})])
    places = op.emit("Unsqueeze", [op.cast(op.stored(1), DType.INT64), op.number([-1])])
    op.keep(op.emit("ScatterND", [start, places, data], {"reduction": reduction}))


@converter("BUCKETIZE", options="BucketizeOptions")
def bucketize(op: Operation) -> None:
    """How many of the boundaries are not above each value."""
    boundaries = op.float_list("Boundaries")
    if not boundaries:
        raise op.error("has no boundaries")
    x = op.emit("Unsqueeze", [op.cast(op.stored(0), DType.FLOAT32), op.number([-1])])
    above = op.emit("GreaterOrEqual", [x, op.number(boundaries, np.float32)])
    found = op.emit("ReduceSum", [op.cast(above, DType.INT32), op.number([-1])], {"keepdims": 0})
    op.keep(found)


@converter("UNIQUE", options="UniqueOptions")
def unique(op: Operation) -> None:
    """Values in the order in which they first come, and which of them each is."""
    values, _, places = op.several("Unique", [op.stored(0)], 3, {"sorted": 0})
    op.keep(values, 0)
    op.keep(op.cast(places, op.result_dtype(1)), 1)


@converter("MATRIX_DIAG")
def diagonal(op: Operation) -> None:
    """Vectors (..., n) as the diagonals of matrices (..., n, n)."""
    size = op.shape(0)[-1]
    if size is None:
        raise op.unsupported("has vectors of a size that may change")
    eye = op.number(np.eye(size, dtype=bool), np.bool_)
    row = op.emit("Unsqueeze", [op.stored(0), op.number([-1])])
    op.keep(op.emit("Where", [eye, row, op.number(0, op.dtype(0).numpy)]))


@converter("MATRIX_SET_DIAG")
def with_diagonal(op: Operation) -> None:
    """Matrices (..., m, n) with other diagonals (..., min(m, n))."""
    rows, columns = op.shape(0)[-2:]
    if rows is None or columns is None:
        raise op.unsupported("has matrices of a size that may change")
    values = op.stored(1)
    if columns > rows:  # one element for each column
        lacking = op.number([0] * op.rank(1) + [0] * (op.rank(1) - 1) + [columns - rows])
        values = op.emit("Pad", [values, lacking])
    elif rows > columns:
        lacking = op.number([0] * op.rank(1) + [0] * (op.rank(1) - 1) + [rows - columns])
        values = op.emit("Pad", [values, lacking])
    spread = op.emit("Unsqueeze", [values, op.number([-1 if rows >= columns else -2])])
    op.keep(op.emit("Where", [op.number(np.eye(rows, columns, dtype=bool), np.bool_), spread, op.stored(0)]))


@converter("NON_MAX_SUPPRESSION_V4")
def suppression(op: Operation) -> None:
    """Boxes (n, 4) and scores (n): the places of those kept, zeros behind them, and how many there are."""
    _suppressed(op, count_at=1)


@converter("NON_MAX_SUPPRESSION_V5")
def soft_suppression(op: Operation) -> None:
    """As V4 with the scores of those kept, where no score is made smaller by its neighbors."""
    sigma = op.constant(5)
    if sigma is None or float(sigma.reshape(-1)[0]) != 0:
        raise op.unsupported("makes scores of neighbors smaller (soft-NMS)")
    places, inside = _suppressed(op, count_at=2)
    scores = op.emit("Gather", [op.stored(1), places], {"axis": 0})
    op.keep(op.emit("Where", [inside, scores, op.number(0, np.float32)]), 1)


def _suppressed(op: Operation, count_at: int) -> tuple[Value, Value]:
    boxes = op.emit("Unsqueeze", [op.stored(0), op.number([0])])
    scores = op.emit("Unsqueeze", [op.stored(1), op.number([0, 1])])
    most = op.emit("Reshape", [op.sizes(2), op.number([1])])
    limits = [op.emit("Reshape", [op.stored(index), op.number([1])]) for index in (3, 4)]
    chosen = op.emit("NonMaxSuppression", [boxes, scores, most, *limits])
    found = op.emit("Gather", [chosen, op.number(2)], {"axis": 1})
    count = op.emit("Shape", [found])
    lacking = op.emit("Concat", [op.number([0]), op.emit("Sub", [most, count])], {"axis": 0})
    padded = op.emit("Pad", [found, lacking])
    numbers = op.emit("Range", [op.number(0), op.emit("Squeeze", [most, op.number([0])]), op.number(1)])
    op.keep(op.cast(padded, DType.INT32), 0)
    op.keep(op.cast(op.emit("Squeeze", [count, op.number([0])]), DType.INT32), count_at)
    return padded, op.emit("Less", [numbers, count])


@converter("RANDOM_STANDARD_NORMAL", options="RandomOptions")
@converter("RANDOM_UNIFORM", options="RandomOptions")
def random_numbers(op: Operation) -> None:
    """Of a shape that is constant; other numbers than LiteRT's, from a generator of its own."""
    attributes = {"shape": op.whole(0, "the shape"), "dtype": op.result_dtype().value}
    uniform = op.file.builtin == "RANDOM_UNIFORM"
    op.keep(op.emit("RandomUniform" if uniform else "RandomNormal", [], attributes))

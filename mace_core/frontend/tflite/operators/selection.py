"""Choosing between values."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.tensor import DType


@converter("SELECT_V2", options="SelectV2Options")
def select_broadcast(op: Operation) -> None:
    _select(op, rank_of_condition=None)


@converter("SELECT", options="SelectOptions")
def select(op: Operation) -> None:
    """A condition of one axis chooses rows."""
    _select(op, rank_of_condition=op.rank(0))


def _select(op: Operation, rank_of_condition: int | None) -> None:
    condition = op.stored(0)
    if rank_of_condition == 1 and op.rank(1) > 1:
        condition = op.emit("Reshape", [condition, op.number([-1, *[1] * (op.rank(1) - 1)])])
    if all(op.is_alike(op.tensor(index), op.result()) for index in (1, 2)):
        op.keep(op.emit("Where", [condition, op.stored(1), op.stored(2)]))
    else:
        op.finish(op.emit("Where", [condition, op.real(1), op.real(2)]))


@converter("WHERE")
def places(op: Operation) -> None:
    """(n, axes): where the input is not 0."""
    found = op.emit("NonZero", [op.stored(0)])
    op.keep(op.emit("Transpose", [found], {"perm": [1, 0]}))


@converter("ONE_HOT", options="OneHotOptions")
def one_hot(op: Operation) -> None:
    """Indices outside the depth give the off value everywhere; ONNX counts negative ones from the end."""
    indices = op.cast(op.stored(0), DType.INT64)
    depth = op.emit("Reshape", [op.sizes(1), op.number([])])
    outside = op.emit("Less", [indices, op.number(0)])
    indices = op.emit("Where", [outside, depth, indices])
    pair = [op.emit("Reshape", [op.stored(index), op.number([1])]) for index in (3, 2)]
    values = op.emit("Concat", pair, {"axis": 0})
    op.keep(op.emit("OneHot", [indices, depth, values], {"axis": op.option("Axis")}))

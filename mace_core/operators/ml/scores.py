"""What models of ai.onnx.ml make of their scores: labels, a second class, and the transforms after it."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.pieces import cast, joined, shaped
from mace_core.tensor import DType

AXES_OF_SUMS_ARE_INPUTS_SINCE = 13

AXES_ARE_INPUTS_SINCE = 18


def reduced(b: BodyBuilder, op_type: str, value: Value, axis: int, *, keep: bool) -> Value:
    """ReduceSum, ReduceMax, … over one axis, as the opset at hand writes it."""
    since = AXES_OF_SUMS_ARE_INPUTS_SINCE if op_type == "ReduceSum" else AXES_ARE_INPUTS_SINCE
    if b.opset < since:
        return b.op(op_type, [value], {"axes": [axis], "keepdims": int(keep)})
    return b.op(op_type, [value, b.constant([axis], np.int64)], {"keepdims": int(keep)})


def number(b: BodyBuilder, content: float) -> Value:
    """A float32."""
    return b.constant(content, np.float32)


def rows(b: BodyBuilder, value: Value) -> tuple[Value, int, int]:
    """The features as float32 (N, F), N and F; a list of features is one row.

    Raises:
        ValueError: for data of more axes.
    """
    shape = b.view.shape(value)
    if len(shape) not in (1, 2):
        raise ValueError(f"features must be (rows, features), not {list(shape)}")
    found = b.view.tensor_type(value)
    if found is not None and found.dtype is not DType.FLOAT32:
        value = cast(b, value, DType.FLOAT32)
    if len(shape) == 1:
        value, shape = shaped(b, value, (1, *shape)), (1, *shape)
    return value, shape[0], shape[1]


def transformed(b: BodyBuilder, scores: Value, kind: str, into: Value | None = None) -> Value:
    """The transform ``kind`` of scores (N, C), every row for itself.

    Raises:
        ValueError: for a kind that there is not.
    """
    match kind:
        case "NONE":
            return b.op("Identity", [scores], into=into)
        case "LOGISTIC":
            return b.op("Sigmoid", [scores], into=into)
        case "SOFTMAX":
            return b.op("Softmax", [scores], {"axis": 1}, into=into)
        case "SOFTMAX_ZERO":
            return _softmax_zero(b, scores, into)
        case "PROBIT":
            return _probit(b, scores, into)
    raise ValueError(f"there is no transform '{kind}'")


def _softmax_zero(b: BodyBuilder, scores: Value, into: Value | None) -> Value:
    """Softmax in which a score of (almost) zero takes no part: it stays as good as zero."""
    largest = reduced(b, "ReduceMax", scores, 1, keep=True)
    is_some = b.op("Greater", [b.op("Abs", [scores]), number(b, 1e-7)])
    share = b.op("Exp", [b.op("Sub", [scores, largest])])
    own = b.op("Where", [is_some, share, number(b, 0.0)])
    rest = b.op("Mul", [scores, b.op("Exp", [b.op("Neg", [largest])])])
    total = reduced(b, "ReduceSum", own, 1, keep=True)
    return b.op("Div", [b.op("Where", [is_some, share, rest]), total], into=into)


def _probit(b: BodyBuilder, scores: Value, into: Value | None) -> Value:
    """The quantile of the normal distribution, by the approximation of the inverse error function of S. Winitzki.

    "A handy approximation for the error function and its inverse", 2008, with a = 0.147, as onnxruntime has it.
    """
    a = 0.147
    x = b.op("Sub", [b.op("Mul", [scores, number(b, 2.0)]), number(b, 1.0)])
    one = number(b, 1.0)
    log = b.op("Log", [b.op("Mul", [b.op("Sub", [one, x]), b.op("Add", [one, x])])])
    half = b.op("Add", [b.op("Mul", [log, number(b, 0.5)]), number(b, 2.0 / (3.14159 * a))])
    square = b.op("Sub", [b.op("Mul", [half, half]), b.op("Mul", [log, number(b, 1.0 / a)])])
    root = b.op("Sqrt", [b.op("Sub", [b.op("Sqrt", [square]), half])])
    sign = b.op("Where", [b.op("Less", [x, number(b, 0.0)]), number(b, -1.0), one])
    return b.op("Mul", [b.op("Mul", [sign, root]), number(b, 1.41421356)], into=into)


def best(b: BodyBuilder, scores: Value, labels: Value, into: Value | None) -> None:
    """Of every row (N, C), the label of its largest score, the first of equal ones."""
    found = b.op("ArgMax", [scores], {"axis": 1, "keepdims": 0})
    b.op("Gather", [labels, found], {"axis": 0}, into=into)


def one_of_two(b: BodyBuilder, is_positive: Value, labels: Value, into: Value | None) -> None:
    """Of every row, the second label where it is positive, else the first."""
    b.op("Gather", [labels, cast(b, is_positive, DType.INT64)], {"axis": 0}, into=into)


def class_labels(b: BodyBuilder, node: Node, ints: str) -> Value | None:
    """The labels, texts or whole numbers, as a constant; None where the node has none."""
    texts = node.attr("classlabels_strings")
    if texts:
        return b.constant([text.decode() if isinstance(text, bytes) else text for text in texts], object)
    found = node.attr(ints)
    return b.constant(list(found), np.int64) if found else None


def with_complement(b: BodyBuilder, score: Value, into: Value | None) -> Value:
    """(N, 1) -> (N, 2): the rest to one, and the score."""
    return joined(b, [b.op("Sub", [number(b, 1.0), score]), score], 1, into=into)

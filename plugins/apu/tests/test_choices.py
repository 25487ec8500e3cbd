"""Operators made of comparisons and selections, flags that are moved, shapes beyond four dimensions: each as the
CPU provider has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from lowering_support import Array, model_of, node, numbers, only, operations
from lowering_support import lowered as lowered_nodes
from mace_apu.lowering.values import inserted
from mace_apu.neuron.constants import Operation
from onnx import TensorProto

from mace_core.provider import Device
from mace_core.session import Session

X = np.float32([[-2.5, -1.5, -0.5, 0.0], [0.5, 1.5, 2.5, 0.25], [3.0, -3.0, 3.0, 1.0]])
BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return node("Cast", [source], [result], to=kind)


POSITIVE = node("Greater", ["x", "zero"], ["b"])
ZERO = {"zero": np.float32(0)}
TARGETS = [node("ArgMax", ["x"], ["t"], axis=1, keepdims=0)]

CASES: dict[str, tuple[list[onnx.NodeProto], Mapping[str, Any], int]] = {
    "Sign": ([node("Sign", ["x"])], {}, 1),
    "IsNaN": ([node("Div", ["x", "x"], ["q"]), node("IsNaN", ["q"])], {}, BOOL),
    "Round": ([node("Round", ["x"])], {}, 1),
    "Shrink": ([node("Shrink", ["x"], bias=0.5, lambd=1.0)], {}, 1),
    "Mean": ([node("Mean", ["x", "row", "x"])], {"row": np.float32([1, 2, 3, 4])}, 1),
    "Trilu upper": ([node("Trilu", ["x", "k"])], {"k": i64(1)}, 1),
    "Trilu lower": ([node("Trilu", ["x", "k"], upper=0)], {"k": i64(-1)}, 1),
    "Hardmax of equals": ([node("Hardmax", ["x"], axis=1)], {}, 1),
    "Hardmax along the first axis": ([node("Hardmax", ["x"], axis=0)], {}, 1),
    "OneHot": ([*TARGETS, node("OneHot", ["t", "depth", "values"], axis=0)],
               {"depth": np.int64(4), "values": np.float32([-1, 2])}, 1),
    "OneHot below 0": ([node("Floor", ["x"], ["f"]), cast("f", "t", TensorProto.INT32),
                        node("OneHot", ["t", "depth", "values"])],
                       {"depth": np.int64(3), "values": np.float32([0, 1])}, 1),
    "NegativeLogLikelihoodLoss": ([*TARGETS, node("NegativeLogLikelihoodLoss", ["x", "t", "w"], ignore_index=1)],
                                  {"w": np.float32([1, 2, 3, 4])}, 1),
    "NegativeLogLikelihoodLoss none": (
        [*TARGETS, node("NegativeLogLikelihoodLoss", ["x", "t"], reduction="none")], {}, 1
    ),
    "SoftmaxCrossEntropyLoss": ([*TARGETS, node("SoftmaxCrossEntropyLoss", ["x", "t"], reduction="sum")], {}, 1),
    "last of equals": ([node("ArgMax", ["x"], axis=1, select_last_index=1)], {}, INT64),
    "last of equal least": ([node("ArgMin", ["x"], axis=0, keepdims=0, select_last_index=1)], {}, INT64),
    "Trilu by a computed diagonal": (
        [*TARGETS, node("Slice", ["t", "s", "e"], ["k"]), node("Squeeze", ["k"], ["d"]), node("Trilu", ["x", "d"])],
        {"s": i64(2), "e": i64(3)}, 1,
    ),
    "Gemm of computed weights": ([node("Gemm", ["x", "x", "c"], transB=1, alpha=0.5, beta=2.0)],
                                 {"c": np.float32([1, 2, 3])}, 1),
    "Gemm of computed weights alone": ([node("Gemm", ["x", "x"], transA=1, alpha=0.25)], {}, 1),
    "Conv over one dimension of computed weights": (
        [node("Reshape", ["x", "a"], ["p"]), node("Reshape", ["x", "b"], ["w"]), node("Conv", ["p", "w"], pads=[1, 0])],
        {"a": i64(1, 2, 6), "b": i64(3, 2, 2)}, 1,
    ),
    "depthwise over one dimension of computed weights": (
        [node("Reshape", ["x", "a"], ["p"]), node("Reshape", ["x", "b"], ["w"]), node("Conv", ["p", "w"], group=2)],
        {"a": i64(1, 2, 6), "b": i64(4, 1, 3)}, 1,
    ),
    "ConvTranspose of computed weights": (
        [node("Reshape", ["x", "a"], ["p"]), node("Reshape", ["x", "b"], ["w"]), node("ConvTranspose", ["p", "w"])],
        {"a": i64(1, 2, 3, 2), "b": i64(2, 3, 1, 2)}, 1,
    ),
    "ConvTranspose over one dimension of computed weights": (
        [node("Reshape", ["x", "a"], ["p"]), node("Reshape", ["x", "b"], ["w"]), node("ConvTranspose", ["p", "w"])],
        {"a": i64(1, 2, 6), "b": i64(2, 3, 2)}, 1,
    ),
    "Gather by computed indices": ([*TARGETS, node("Gather", ["x", "t"], axis=1)], {}, 1),
    "Gather by computed negative indices": (
        [node("Reshape", ["x", "flat"], ["r"]), node("Floor", ["r"], ["f"]), cast("f", "i", TensorProto.INT32),
         node("Gather", ["r", "i"])],
        {"flat": i64(12)}, 1,
    ),
    "any": ([POSITIVE, node("ReduceMax", ["b", "axis"])], {**ZERO, "axis": i64(1)}, BOOL),
    "all": ([POSITIVE, node("ReduceMin", ["b", "axis"], keepdims=0)], {**ZERO, "axis": i64(0)}, BOOL),
    "Reshape of flags": ([POSITIVE, node("Reshape", ["b", "s"])], {**ZERO, "s": i64(2, 6)}, BOOL),
    "Transpose of flags": ([POSITIVE, node("Transpose", ["b"])], ZERO, BOOL),
    "Tile of flags": ([POSITIVE, node("Tile", ["b", "n"])], {**ZERO, "n": i64(2, 3)}, BOOL),
    "Slice of flags": ([POSITIVE, node("Slice", ["b", "s", "e"])], {**ZERO, "s": i64(1, 0), "e": i64(3, 2)}, BOOL),
    "Concat of flags": ([POSITIVE, node("Concat", ["b", "c"], axis=0)], {**ZERO, "c": np.ones((1, 4), np.bool_)}, BOOL),
    "Where of flags": ([POSITIVE, node("Not", ["b"], ["n"]), node("Where", ["b", "n", "b"])], ZERO, BOOL),
    "Gather of flags": ([POSITIVE, node("Gather", ["b", "i"])], {**ZERO, "i": i64(2, 0)}, BOOL),
    "comparison of int64": ([*TARGETS, node("Less", ["t", "k"])], {"k": i64(2)}, BOOL),
    "Max of int64": ([*TARGETS, node("Max", ["t", "k"])], {"k": i64(1)}, INT64),
    "Unsqueeze of int64": ([*TARGETS, node("Unsqueeze", ["t", "axes"])], {"axes": i64(0, 2)}, INT64),
    "Pad with infinity": ([node("Pad", ["x", "p", "v"])], {"p": i64(0, 1, 1, 0), "v": np.float32(-np.inf)}, 1),
    "Expand of five dimensions": (
        [node("Reshape", ["x", "five"], ["h"]), node("Expand", ["h", "more"], ["e"]), node("Reshape", ["e", "four"])],
        {"five": i64(3, 2, 1, 2, 1), "more": i64(3, 2, 1, 2, 4), "four": i64(3, 2, 2, 4)}, 1,
    ),
    "heads of grouped queries": (
        [node("Reshape", ["x", "five"], ["h"]), node("Expand", ["h", "more"], ["e"]), node("Reshape", ["e", "four"])],
        {"five": i64(3, 1, 1, 2, 2), "more": i64(3, 2, 3, 2, 2), "four": i64(3, 6, 2, 2)}, 1,
    ),
    "more dimensions": (
        [node("Reshape", ["x", "six"], ["h"]), node("Expand", ["h", "more"], ["e"]), node("Reshape", ["e", "two"])],
        {"six": i64(3, 1, 2, 2), "more": i64(2, 3, 2, 2, 2), "two": i64(6, -1)}, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_the_processor(device: Device, name: str) -> None:
    nodes, constants, kind = CASES[name]
    held = {key: np.asarray(value) for key, value in constants.items()}
    content = model_of(nodes, X.shape, held, outputs={"y": kind}, opset=18)
    with Session(content, devices=["cpu", "reference"], cache=False) as session:
        (expected,) = session.run({"x": X}).values()
    with Session(content, devices=[device.qualified_name], strict=True, cache=False) as session:
        (found,) = session.run({"x": X}).values()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_truth_values_are_moved_as_numbers() -> None:
    found = lowered_nodes([POSITIVE, node("Transpose", ["b"])], X.shape, {"zero": np.asarray(np.float32(0))},
                          outputs={"y": BOOL})  # fmt: skip
    kinds = operations(found)
    assert kinds[-4:] == [Operation.GREATER, Operation.SELECT, Operation.TRANSPOSE, Operation.NOT_EQUAL]
    yes, no = only(found, Operation.SELECT).inputs[1:]
    assert [set(np.ravel(each)) for each in numbers([yes, no])] == [{1.0}, {0.0}]


def test_a_repetition_beyond_four_dimensions_is_one_of_fewer() -> None:
    """Axes that are not repeated are one with their neighbors."""
    constants = {"more": i64(3, 2, 3, 2, 2), "four": i64(3, 6, 2, 2)}
    nodes = [node("Expand", ["x", "more"], ["e"]), node("Reshape", ["e", "four"])]
    call = only(lowered_nodes(nodes, (3, 2, 1, 2, 2), constants), Operation.TILE)
    assert (call.inputs[0].shape, call.outputs[0].shape) == ((6, 1, 4), (6, 3, 4))
    assert numbers(call.inputs[1:]) == [[1, 3, 1]]


def test_dimensions_of_one_are_put_in_one_after_the_other() -> None:
    assert inserted((2, 3), (1, 2, 1, 3, 1)) == [0, 2, 4]
    assert inserted((1, 3), (1, 1, 3)) == [1]
    assert inserted((), (1, 1)) == [0, 1]
    assert inserted((2, 3), (3, 2)) == inserted((2, 3), (2,)) == inserted((2, 3), (6,)) == []

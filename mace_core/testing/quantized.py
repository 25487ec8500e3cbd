"""Operators between DequantizeLinear and QuantizeLinear: how quantized models say that they are to be computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np

from mace_core.graph import Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import OPSET, to_attribute
from mace_core.testing.expected import Array, reference
from mace_core.testing.forms.building import rows, values
from mace_core.testing.kit.trial import Trial

STEPS = 1
"""A cluster may be computed in whole numbers, and rounds elsewhere then than floats do."""

Build: TypeAlias = Callable[["Cluster", Value, Mapping[str, Any]], Value]


@dataclass
class Cluster:
    """A graph of quantized inputs and outputs, built from the inputs on."""

    graph: Graph
    dtype: str
    feeds: dict[str, Array] = field(default_factory=dict)

    def constant(self, array: Array) -> Value:
        value = Value(f"c{len(self.graph.initializers)}", None, Tensor.from_numpy(array))
        self.graph.initializers[value.name] = value
        return value

    def node(self, op_type: str, inputs: Sequence[Value | None], **attributes: Any) -> Value:
        number = len(self.graph.nodes)
        result = Value(f"v{number}")
        given = {name: to_attribute(value) for name, value in attributes.items()}
        self.graph.nodes.append(Node(op_type, inputs, [result], name=f"{op_type.lower()} {number}", attributes=given))
        return result

    def fed(self, shape: Sequence[int], scale: float, zero: int, seed: int) -> Value:
        """A dequantized input."""
        array = values(shape, self.dtype, seed)
        value = Value(f"x{len(self.graph.inputs)}", TensorType(DType.from_numpy(array.dtype), array.shape))
        self.graph.inputs.append(value)
        self.feeds[value.name] = array
        return self.dequantized(value, np.array(scale, np.float32), np.array(zero, self.dtype))

    def weights(self, shape: Sequence[int], axis: int | None, dtype: str, seed: int) -> Value:
        """Dequantized weights, with one scale or one for each element of ``axis``."""
        array = values(shape, dtype, seed)
        scale = np.array(0.01, np.float32) if axis is None else np.linspace(0.004, 0.02, shape[axis], dtype=np.float32)
        zero = np.zeros(scale.shape, dtype) if dtype == "int8" else np.full(scale.shape, 119, dtype)
        attributes = {} if axis is None else {"axis": axis}
        return self.dequantized(self.constant(array), scale, zero, **attributes)

    def bias(self, count: int, seed: int) -> Value:
        """A dequantized bias in whole numbers of 32 bits."""
        numbers = np.random.default_rng(seed).integers(-3000, 3000, count).astype(np.int32)
        return self.dequantized(self.constant(numbers), np.array(0.0005, np.float32), np.array(0, np.int32))

    def dequantized(self, value: Value, scale: Array, zero: Array, **attributes: Any) -> Value:
        return self.node("DequantizeLinear", [value, self.constant(scale), self.constant(zero)], **attributes)

    def quantized(self, value: Value, scale: float, zero: int) -> Value:
        scales, zeros = self.constant(np.array(scale, np.float32)), self.constant(np.array(zero, self.dtype))
        return self.node("QuantizeLinear", [value, scales, zeros])


def _conv(made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    weights = made.weights((6, 4, 3, 2), 0 if row["per channel"] else None, row["weights"], 161)
    extra = [made.bias(6, 162)] if row["bias"] else []
    return made.node("Conv", [x, weights, *extra], strides=[2, 1], pads=[1, 0, 0, 1])


def _matmul(made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    return made.node("MatMul", [x, made.weights((7, 5), 1 if row["per channel"] else None, row["weights"], 163)])


def _gemm(made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    weights = made.weights((5, 7), 0 if row["per channel"] else None, row["weights"], 164)
    return made.node("Gemm", [x, weights, *([made.bias(5, 165)] if row["bias"] else [])], transB=1)


def _binary(op_type: str, made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    other = made.fed((2, 4, 6, 7), 0.03, -3 if made.dtype == "int8" else 101, 166)
    return made.node(op_type, [x, other])


def _unary(op_type: str, made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    return made.node(op_type, [x])


def _pool(op_type: str, made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    return made.node(op_type, [x], kernel_shape=[3, 2], strides=[1, 2])


def _concat(made: Cluster, x: Value, row: Mapping[str, Any]) -> Value:
    other = made.fed((2, 3, 6, 7), 0.03, -3 if made.dtype == "int8" else 101, 167)
    return made.node("Concat", [x, other], axis=1)


BUILDS: Mapping[str, tuple[Build, tuple[int, ...]]] = {
    "Conv": (_conv, (2, 4, 6, 7)),
    "MatMul": (_matmul, (3, 7)),
    "Gemm": (_gemm, (3, 7)),
    "Add": (partial(_binary, "Add"), (2, 4, 6, 7)),
    "Mul": (partial(_binary, "Mul"), (2, 4, 6, 7)),
    "Concat": (_concat, (2, 4, 6, 7)),
    **{op: (partial(_unary, op), (2, 4, 6, 7)) for op in ("Relu", "Sigmoid", "GlobalAveragePool", "Softmax")},
    **{op: (partial(_pool, op), (2, 4, 6, 7)) for op in ("MaxPool", "AveragePool")},
}
"""Operator -> what builds it behind its dequantized input, and the input's shape."""

WEIGHTED = ("Conv", "MatMul", "Gemm")


@cache
def quantized_clusters() -> dict[str, tuple[Trial, ...]]:
    """Operator -> clusters of it: types, zero points, scales per channel, with an activation, read twice."""
    made: dict[str, tuple[Trial, ...]] = {}
    for op_type, (build, shape) in BUILDS.items():
        own: dict[str, Any] = (
            {"per channel": (False, True), "weights": ("int8", "uint8"), "bias": (False, True)}
            if op_type in WEIGHTED
            else {}
        )
        choices = rows(
            dtype=("uint8", "int8"),
            zero=("off centre", "at the end"),
            follows=("nothing", "Relu"),
            read=("once", "outside too"),
            **own,
        )
        made[op_type] = tuple(_trial(op_type, build, shape, row, different) for row, different in choices)
    return made


def _trial(
    op_type: str, build: Build, shape: tuple[int, ...], row: Mapping[str, Any], different: Mapping[str, Any]
) -> Trial:
    graph = Graph(f"quantized {op_type}")
    graph.opset_imports = {"": OPSET}
    made = Cluster(graph, row["dtype"])
    low = -128 if row["dtype"] == "int8" else 0
    result = build(made, made.fed(shape, 0.02, low + (0 if row["zero"] == "at the end" else 117), 160), row)
    if row["follows"] != "nothing":
        result = made.node(row["follows"], [result])
    scale, zero = (1 / 256, low) if op_type == "Softmax" and row["zero"] == "off centre" else (0.05, low + 99)
    graph.outputs = [made.quantized(result, scale, zero)]
    if row["read"] == "outside too":
        graph.outputs.append(made.quantized(made.node("Relu", [result]), 0.04, low + 7))
    words = ", ".join(f"{name}={value}" for name, value in different.items()) or "plain"
    return Trial(
        f"quantized {op_type} with {words}",
        op_type,
        graph,
        made.feeds,
        partial(reference, graph, made.feeds),
        dict(different),
        steps=STEPS,
        is_combined=len(different) > 1,
    )

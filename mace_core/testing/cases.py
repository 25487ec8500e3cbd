"""Small graphs of one operator each, in forms that break kernels: broadcasting, odd sizes, empty tensors, options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType

OPSET = 21

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One operator in one form.

    Attributes:
        name: unique and readable ("MatMul batched").
        op_type: the operator.
        inputs: the fed arrays, in order; None for an optional one that is left out.
        constants: positions in ``inputs`` that are initializers instead.
        attributes: plain values.
        output_count: how many outputs are asked for.
        opset: the version of the operators' set the graph is written for.
        traits: what is particular about it, by name ("strides": [2, 1]); reports compare what wrong forms share.
        needs_precision: whether half precision cannot give the result (large sums, small differences).
    """

    name: str
    op_type: str
    inputs: Sequence[Array | None]
    constants: frozenset[int] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    output_count: int = 1
    opset: int = OPSET
    traits: Mapping[str, Any] = field(default_factory=dict)
    needs_precision: bool = False

    @property
    def dtype(self) -> str:
        """Element type of the first input, which the case is filed under."""
        return DType.from_numpy(self.first_input.dtype).label

    @property
    def first_input(self) -> Array:
        """The first of the arrays that is not left out."""
        return next(array for array in self.inputs if array is not None)

    def feeds(self) -> dict[str, Array]:
        """The arrays to feed, by input name."""
        fed = {f"x{i}": array for i, array in enumerate(self.inputs) if i not in self.constants}
        return {name: array for name, array in fed.items() if array is not None}

    def graph(self) -> Graph:
        """A new graph of this one node."""
        graph = Graph(self.name)
        graph.opset_imports = {"": self.opset}
        operands: list[Value | None] = []
        for i, array in enumerate(self.inputs):
            if array is None:
                operands.append(None)
                continue
            if i in self.constants:
                value = Value(f"x{i}", None, Tensor.from_numpy(array))
                graph.initializers[value.name] = value
            else:
                value = Value(f"x{i}", TensorType(DType.from_numpy(array.dtype), array.shape))
                graph.inputs.append(value)
            operands.append(value)
        results = [Value(f"y{i}") for i in range(self.output_count)]
        attributes = {key: to_attribute(value) for key, value in self.attributes.items()}
        graph.nodes.append(Node(self.op_type, operands, results, name=self.name, attributes=attributes))
        graph.outputs = list(results)
        return graph


def to_attribute(value: Any) -> Attribute:
    """An attribute from a plain Python value.

    Raises:
        TypeError: for a value no attribute kind fits.
    """
    if isinstance(value, str):
        return Attribute(AttributeKind.STRING, value)
    if isinstance(value, float):
        return Attribute(AttributeKind.FLOAT, value)
    if isinstance(value, int):
        return Attribute(AttributeKind.INT, value)
    if isinstance(value, list | tuple) and all(isinstance(item, int) for item in value):
        return Attribute(AttributeKind.INTS, tuple(value))
    if isinstance(value, list | tuple) and all(isinstance(item, float) for item in value):
        return Attribute(AttributeKind.FLOATS, tuple(value))
    if isinstance(value, Tensor):
        return Attribute(AttributeKind.TENSOR, value)
    raise TypeError(f"no attribute kind fits {value!r}")


def _f(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def _i(*values: int) -> Array:
    return np.array(values, np.int64)


@cache
def operator_cases() -> tuple[Case, ...]:
    """All cases, in a fixed order."""
    return (*_elementwise(), *_linear(), *_pooling(), *_normalization(), *_movement(), *_reduction())


def _elementwise() -> list[Case]:
    unary = (
        "Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Floor", "Ceil", "Erf", "LeakyRelu", "Elu", "HardSigmoid",
        "HardSwish", "Softplus", "Softsign", "Sin", "Cos", "Round", "Sign", "Reciprocal", "Gelu", "Identity",
    )  # fmt: skip
    cases = [Case(f"{op} (3, 17)", op, [_f(3, 17) + np.float32(0.01)]) for op in unary]
    cases += [Case(f"{op} (2, 19, 5, 7)", op, [_f(2, 19, 5, 7, seed=1)]) for op in ("Relu", "Sigmoid", "HardSwish")]
    cases += [Case(f"{op} scalar", op, [_f()]) for op in ("Relu", "Tanh")]
    cases += [Case("Relu empty", "Relu", [_f(0, 4)])]
    cases += [Case(f"{op} of positive", op, [_f(33, low=0.1, high=9)]) for op in ("Sqrt", "Log")]
    for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"):
        left, right = _f(2, 3, 5, seed=2, low=0.5), _f(2, 3, 5, seed=3, low=0.5)
        cases += [
            Case(f"{op} same shape", op, [left, right]),
            Case(f"{op} broadcast row", op, [left, right[0, 0]]),
            Case(f"{op} broadcast both", op, [left[:, :1], right[:1]]),
            Case(f"{op} scalar constant", op, [left, right[0, 0, 0]], frozenset({1})),
        ]
    for op in ("Add", "Sub", "Mul"):
        ints = np.arange(-6, 6, dtype=np.int64)
        cases.append(Case(f"{op} int64", op, [ints, ints[::-1].copy()]))
    cases += [Case(f"{op} float32", op, [_f(4, 3), _f(4, 3, seed=5)]) for op in ("Equal", "Less", "Greater")]
    cases += [
        Case("Where", "Where", [_f(3, 4) > 0, _f(3, 4, seed=6), _f(4, seed=7)]),
        Case(
            "Clip constant bounds",
            "Clip",
            [_f(5, 6), np.array(-1, np.float32), np.array(1, np.float32)],
            frozenset({1, 2}),
        ),
        Case("PRelu per channel", "PRelu", [_f(1, 3, 4, 4), _f(3, 1, 1, seed=8)], frozenset({1})),
        Case("Cast to int32", "Cast", [_f(7) * 10], attributes={"to": DType.INT32.value}),
        Case("Cast to bool", "Cast", [np.array([0, 1, -2], np.float32)], attributes={"to": DType.BOOL.value}),
    ]
    return cases


def _linear() -> list[Case]:
    x = _f(2, 6, 9, 8, seed=10)
    weights = _f(5, 6, 3, 3, seed=11, low=-0.5, high=0.5)
    bias = _f(5, seed=12)
    image = _f(1, 3, 16, 15, seed=13)
    stem = _f(17, 3, 3, 3, seed=14, low=-0.5, high=0.5)
    depthwise = _f(6, 1, 3, 3, seed=15)
    transposed = _f(6, 4, 3, 3, seed=16, low=-0.5, high=0.5)
    c = frozenset({1})
    cb = frozenset({1, 2})
    return [
        Case("MatMul constant weights", "MatMul", [_f(5, 7), _f(7, 9, seed=1)], c),
        Case("MatMul batched", "MatMul", [_f(2, 3, 4, 5), _f(2, 3, 5, 6, seed=2)]),
        Case("MatMul broadcast batch", "MatMul", [_f(3, 4, 5), _f(5, 6, seed=2)]),
        Case("MatMul vector", "MatMul", [_f(7), _f(7, 3, seed=3)], c),
        Case("MatMul large", "MatMul", [_f(65, 130), _f(130, 70, seed=4)], c),
        Case("Gemm plain", "Gemm", [_f(4, 6), _f(6, 5, seed=5), _f(5, seed=6)], cb),
        Case("Gemm transposed", "Gemm", [_f(6, 4), _f(5, 6, seed=5), _f(4, 5, seed=6)], c,
             {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
        Case("Conv 3x3", "Conv", [x, weights, bias], cb, {"pads": [1, 1, 1, 1]}),
        Case("Conv no bias, valid", "Conv", [x, weights], c),
        Case("Conv stride 2", "Conv", [image, stem], c, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        Case("Conv dilated", "Conv", [x, weights], c, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        Case("Conv asymmetric pads", "Conv", [x, weights], c, {"pads": [0, 1, 2, 1]}),
        Case("Conv same upper", "Conv", [x, weights], c, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        Case("Conv 1x1", "Conv", [x, _f(33, 6, 1, 1, seed=17)], c),
        Case("Conv depthwise", "Conv", [x, depthwise], c, {"group": 6, "pads": [1, 1, 1, 1]}),
        Case("Conv two groups", "Conv", [x, _f(8, 3, 3, 3, seed=18)], c, {"group": 2}),
        Case("Conv 1-D", "Conv", [_f(1, 4, 20), _f(3, 4, 5, seed=19)], c),
        Case("Conv weights at run time", "Conv", [x, weights]),
        Case("ConvTranspose stride 2", "ConvTranspose", [x, transposed], c,
             {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        Case("LSTM one direction", "LSTM",
             [_f(5, 2, 3), _f(1, 16, 3, seed=20, low=-0.5, high=0.5), _f(1, 16, 4, seed=21, low=-0.5, high=0.5)],
             cb, {"hidden_size": 4}, 3),
    ]  # fmt: skip


def _pooling() -> list[Case]:
    x = _f(1, 5, 9, 8, seed=30)
    return [
        Case("MaxPool 2x2", "MaxPool", [x], attributes={"kernel_shape": [2, 2], "strides": [2, 2]}),
        Case("MaxPool padded, ceil", "MaxPool", [x],
             attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        Case("AveragePool 3x3", "AveragePool", [x], attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        Case("AveragePool counting pads", "AveragePool", [x],
             attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        Case("GlobalAveragePool", "GlobalAveragePool", [x]),
        Case("GlobalMaxPool", "GlobalMaxPool", [x]),
        Case("Resize nearest x2", "Resize", [x, _f(0), np.array([1, 1, 2, 2], np.float32)], frozenset({1, 2}),
             {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        Case("Resize linear", "Resize", [x, _f(0), np.array([1, 1, 1.5, 2], np.float32)], frozenset({1, 2}),
             {"mode": "linear"}),
    ]  # fmt: skip


def _normalization() -> list[Case]:
    x = _f(2, 5, 4, 3, seed=40)
    per_channel = [_f(5, seed=41), _f(5, seed=42), _f(5, seed=43), _f(5, seed=44, low=0.5)]
    return [
        Case("Softmax last axis", "Softmax", [_f(3, 40)], attributes={"axis": -1}),
        Case("Softmax middle axis", "Softmax", [x], attributes={"axis": 1}),
        Case("LogSoftmax", "LogSoftmax", [_f(3, 40)]),
        Case("BatchNormalization", "BatchNormalization", [x, *per_channel], frozenset({1, 2, 3, 4})),
        Case("InstanceNormalization", "InstanceNormalization", [x, *per_channel[:2]], frozenset({1, 2})),
        Case("LayerNormalization", "LayerNormalization", [x, _f(3, seed=45), _f(3, seed=46)], frozenset({1, 2})),
    ]


def _movement() -> list[Case]:
    x = _f(2, 3, 4, 5, seed=50)
    one = frozenset({1})
    return [
        Case("Reshape", "Reshape", [x, _i(2, -1, 5)], one),
        Case("Transpose to NHWC", "Transpose", [x], attributes={"perm": [0, 2, 3, 1]}),
        Case("Transpose reversed", "Transpose", [x]),
        Case("Concat axis 1", "Concat", [x, x[:, :1].copy(), x], attributes={"axis": 1}),
        Case("Split in three", "Split", [x, _i(1, 1, 1)], one, {"axis": 1}, 3),
        Case("Slice with negative step", "Slice", [x, _i(3), _i(-10), _i(2), _i(-2)], frozenset({1, 2, 3, 4})),
        Case("Gather axis 2", "Gather", [x, _i(3, 0, -1)], one, {"axis": 2}),
        Case("Pad reflect", "Pad", [x, _i(0, 0, 1, 2, 0, 0, 2, 1)], one, {"mode": "reflect"}),
        Case("Pad constant", "Pad", [x, _i(0, 0, 1, 2, 0, 0, 2, 1), np.array(7, np.float32)], frozenset({1, 2})),
        Case("Expand", "Expand", [x[:, :1].copy(), _i(2, 3, 4, 5)], one),
        Case("Squeeze", "Squeeze", [x[:, :1].copy(), _i(1)], one),
        Case("Unsqueeze", "Unsqueeze", [x, _i(0, -1)], one),
        Case("Flatten", "Flatten", [x], attributes={"axis": 2}),
        Case("Tile", "Tile", [x, _i(1, 2, 1, 3)], one),
        Case("DepthToSpace", "DepthToSpace", [_f(1, 8, 2, 3)], attributes={"blocksize": 2}),
    ]


def _reduction() -> list[Case]:
    x = _f(2, 3, 4, 5, seed=60)
    one = frozenset({1})
    cases = [Case(f"{op} two axes", op, [x, _i(1, 3)], one) for op in ("ReduceSum", "ReduceMean", "ReduceMax")]
    return [
        *cases,
        Case("ReduceMean all, dropped", "ReduceMean", [x], attributes={"keepdims": 0}),
        Case("ArgMax", "ArgMax", [x], attributes={"axis": 2, "keepdims": 0}),
        Case("TopK", "TopK", [x, _i(2)], one, {"axis": 3}, 2),
    ]

"""Scales and zero points with which no number has a meaning: refused when the model is opened, with the node's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import ModelError

MS = "com.microsoft"
FEW, WIDE = np.uint8(3), np.float32(0.5)
BAD_SCALES = [0.0, -0.5, np.inf, -np.inf, np.nan]


def ints(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 7).astype(np.uint8).reshape(shape)


@dataclass(frozen=True)
class Case:
    """A node with all its inputs, which is right as it stands.

    Attributes:
        scales: indices of inputs that are scales.
        zeros: of zero points.
        given: inputs of the model; the others are constants.
        takes_any: zero and negative scales have a meaning.
    """

    op: str
    inputs: Sequence[Any]
    scales: Sequence[int]
    zeros: Sequence[int]
    given: Sequence[int] = (0,)
    domain: str = MS
    attributes: dict[str, Any] = field(default_factory=dict)
    takes_any: bool = False
    opset: int = 17

    def __str__(self) -> str:
        return f"{self.domain}.{self.op}".lstrip(".")

    def model(self, changed: dict[int, Any]) -> onnx.ModelProto:
        arrays = {index: changed.get(index, array) for index, array in enumerate(self.inputs)}
        names = ["" if array is None else f"i{index}" for index, array in arrays.items()]
        node = helper.make_node(self.op, names, ["y"], name="the node", domain=self.domain, **self.attributes)
        constants = [
            array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(np.asarray(array), f"i{index}")
            for index, array in arrays.items()
            if array is not None and index not in self.given
        ]
        infos = [
            helper.make_tensor_value_info(
                f"i{i}", helper.np_dtype_to_tensor_dtype(np.asarray(arrays[i]).dtype), np.shape(arrays[i])
            )
            for i in self.given
        ]
        graph = helper.make_graph(
            [node], "encoding", infos, [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)], constants
        )
        graph.output[0].ClearField("type")
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


X, W, LINE = ints(1, 4, 5, 5), ints(4, 4, 3, 3), ints(3, 4)
UNARY = [X, WIDE, FEW, WIDE, FEW]
PACKED = np.zeros((2, 2, 8), np.uint8)
CASES = [
    Case("QuantizeLinear", [np.ones(2, np.float32), WIDE, FEW], [1], [2], domain=""),
    Case("QuantizeLinear", [np.ones(2, np.float32), np.array([WIDE, WIDE]), np.array([FEW, FEW])], [1], [2], domain="",
         attributes={"axis": 0}),
    Case("DequantizeLinear", [ints(2), WIDE, FEW], [1], [2], domain=""),
    Case("DequantizeLinear", [ints(2), np.array([WIDE, WIDE]), np.array([FEW, FEW])], [1], [2], domain="",
         attributes={"axis": 0}),
    Case("DequantizeLinear", [ints(4, 2), np.full((2, 2), WIDE), np.full((2, 2), FEW)], [1], [2], domain="",
         attributes={"axis": 0, "block_size": 2}, takes_any=True, opset=21),
    Case("QuantizeLinear", [np.ones(2, np.float32), WIDE, FEW], [1], [2]),
    Case("DequantizeLinear", [ints(2), WIDE, FEW], [1], [2]),
    Case("QLinearConv", [X, WIDE, FEW, W, np.full(4, WIDE), np.full(4, FEW), WIDE, FEW], [1, 4, 6], [2, 5, 7],
         domain=""),
    Case("QLinearConv", [X, WIDE, FEW, W, WIDE, FEW, WIDE, FEW], [1, 4, 6], [2, 5, 7]),
    Case("ConvInteger", [X, W, FEW, FEW], [], [2, 3], domain=""),
    Case("MatMulInteger", [LINE, ints(4, 2), FEW, FEW], [], [2, 3], domain=""),
    Case("QLinearMatMul", [LINE, WIDE, FEW, ints(4, 2), WIDE, FEW, WIDE, FEW], [1, 4, 6], [2, 5, 7], domain=""),
    Case("QLinearAdd", [X, WIDE, FEW, X, WIDE, FEW, WIDE, FEW], [1, 4, 6], [2, 5, 7], (0, 3)),
    Case("QLinearMul", [X, WIDE, FEW, X, WIDE, FEW, WIDE, FEW], [1, 4, 6], [2, 5, 7], (0, 3)),
    Case("QLinearSigmoid", UNARY, [1, 3], [2, 4]),
    Case("QLinearLeakyRelu", UNARY, [1, 3], [2, 4]),
    Case("QLinearSoftmax", UNARY, [1, 3], [2, 4], attributes={"axis": 1, "opset": 13}),
    Case("QLinearAveragePool", UNARY, [1, 3], [2, 4], attributes={"kernel_shape": [2, 2]}),
    Case("QLinearGlobalAveragePool", UNARY, [1, 3], [2, 4]),
    Case("QLinearConcat", [WIDE, FEW, X, WIDE, FEW, X, WIDE, FEW], [0, 3, 6], [1, 4, 7], (2, 5),
         attributes={"axis": 1}),
    Case("QLinearWhere", [X > 2, X, WIDE, FEW, X, WIDE, FEW, WIDE, FEW], [2, 5, 7], [3, 6, 8], (0, 1, 4)),
    Case("QGemm", [LINE, WIDE, FEW, ints(4, 2), WIDE, FEW, None, WIDE, FEW], [1, 4, 7], [2, 5, 8]),
    Case("MatMulIntegerToFloat", [LINE, ints(4, 2), WIDE, WIDE, FEW, FEW], [2, 3], [4, 5]),
    Case("DynamicQuantizeMatMul", [np.ones((3, 4), np.float32), ints(4, 2), WIDE, FEW], [2], [3]),
    Case("DynamicQuantizeLSTM",
         [np.ones((2, 1, 3), np.float32), ints(1, 3, 8), ints(1, 2, 8), None, None, None, None, None,
          np.full(1, WIDE), np.full(1, FEW), np.full(1, WIDE), np.full(1, FEW)],
         [8, 10], [9, 11], attributes={"hidden_size": 2}),
    Case("QAttention", [ints(1, 2, 4), ints(4, 12), np.zeros(12, np.float32), WIDE, WIDE, None, FEW, FEW], [3, 4],
         [6, 7], attributes={"num_heads": 2}),
    Case("MatMulNBits", [np.ones((1, 32), np.float32), PACKED, np.full(4, WIDE), np.zeros(2, np.uint8)], [2], [3],
         attributes={"K": 32, "N": 2, "bits": 4, "block_size": 16}, takes_any=True),
    Case("GatherBlockQuantized", [ints(3, 16), np.array([1]), np.full((3, 2), WIDE), np.full((3, 1), FEW)], [2], [3],
         (1,), attributes={"bits": 4, "block_size": 16, "quantize_axis": 1}, takes_any=True),
]  # fmt: skip


def with_bad_scales() -> Iterator[Any]:
    for case in CASES:
        for index in case.scales:
            for scale in BAD_SCALES:
                if not case.takes_any or not np.isfinite(scale):
                    yield pytest.param(case, index, scale, id=f"{case}-{index}-{scale}")


def with_bad_zero_points() -> Iterator[Any]:
    for case in CASES:
        for index in case.zeros:
            for dtype in (np.int16, np.float64, np.int64):
                yield pytest.param(case, index, dtype, id=f"{case}-{index}-{np.dtype(dtype)}")


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        Session(model, cache=False)
    message = str(caught.value)
    assert "node 'the node'" in message and "\n" not in message
    return message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_operator_runs_with_good_ones(case: Case) -> None:
    with Session(case.model({}), cache=False) as session:
        result = session.run({f"i{index}": np.asarray(case.inputs[index]) for index in case.given})
    assert all(np.isfinite(np.asarray(array, np.float64)).all() for array in result.values())


@pytest.mark.parametrize(("case", "index", "scale"), list(with_bad_scales()))
def test_scales_that_are_no_positive_finite_numbers(case: Case, index: int, scale: float) -> None:
    array = np.array(case.inputs[index], np.float32)
    array.reshape(-1)[-1] = scale
    message = refused(case.model({index: array}))
    assert "scale" in message and f"not {np.float32(scale):g}" in message


@pytest.mark.parametrize(("case", "index", "dtype"), list(with_bad_zero_points()))
def test_zero_points_of_another_type(case: Case, index: int, dtype: Any) -> None:
    if case.op == "QuantizeLinear" and dtype == np.int16:
        return  # a type to quantize to
    message = refused(case.model({index: np.asarray(case.inputs[index]).astype(dtype)}))
    assert "zero point" in message and np.dtype(dtype).name in message


@pytest.mark.parametrize(
    ("case", "index"), [pytest.param(c, i, id=f"{c}-{i}") for c in CASES for i in (*c.scales, *c.zeros)]
)
def test_scales_and_zero_points_of_shapes_that_fit_nothing(case: Case, index: int) -> None:
    array = np.asarray(case.inputs[index])
    refused(case.model({index: np.full((3, 5, 7), array.reshape(-1)[0])}))


@pytest.mark.parametrize("index", [1, 4, 6])
def test_scales_that_are_integers(index: int) -> None:
    case = next(case for case in CASES if case.op == "QLinearMatMul")
    assert "must be of a float type, not int32" in refused(case.model({index: np.array(1, np.int32)}))


@pytest.mark.parametrize("case", [case for case in CASES if case.takes_any], ids=str)
def test_scales_of_blocks_may_be_zero_or_negative_as_onnxruntime_writes_them(case: Case) -> None:
    """Its tool lets the weight of the largest magnitude become the lowest integer, whatever its sign."""
    import onnxruntime

    scales = np.array(case.inputs[case.scales[0]], np.float32)
    scales.reshape(-1)[:2] = [0.0, -0.25]
    model = case.model({case.scales[0]: scales})
    feeds = {f"i{index}": np.asarray(case.inputs[index]) for index in case.given}
    with Session(model, cache=False) as session:
        found = session.run(feeds)["y"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    peer = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(found, peer.run(None, feeds)[0], rtol=1e-6, atol=1e-6)

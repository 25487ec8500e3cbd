"""Operators of com.microsoft: the shapes that onnxruntime, which defines them, really returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mace_core.frontend.load import load_model
from mace_core.operators import resolve
from mace_core.tensor import DType, TensorType

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: it defines these operators")


def floats(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def codes(*shape: int) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) % 200).astype(np.uint8).reshape(shape)


SCALE, ZERO = np.float32(0.1), np.uint8(3)

CASES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "Gelu": ("Gelu", [floats(2, 5)], {}),
    "FastGelu": ("FastGelu", [floats(2, 5), floats(5)], {}),
    "QuickGelu": ("QuickGelu", [floats(2, 5)], {"alpha": 1.7}),
    "BiasGelu": ("BiasGelu", [floats(2, 3, 5), floats(5)], {}),
    "FusedConv": ("FusedConv", [floats(1, 4, 9, 7), floats(6, 2, 3, 3)], {"group": 2, "strides": [2, 1]}),
    "FusedMatMul": ("FusedMatMul", [floats(2, 3, 4), floats(2, 4, 5)], {"alpha": 0.5}),
    "FusedMatMul transposed": ("FusedMatMul", [floats(2, 4, 3), floats(2, 5, 4)], {"transA": 1, "transB": 1}),
    "FusedMatMul batch": ("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}),
    "FusedGemm": ("FusedGemm", [floats(3, 4), floats(5, 4), floats(5)], {"transB": 1, "activation": "Relu"}),
    "SkipLayerNormalization": ("SkipLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8)], {}),
    "QLinearAdd": ("QLinearAdd", [codes(2, 3, 4), SCALE, ZERO, codes(3, 1), SCALE, ZERO, SCALE, ZERO], {}),
    "QLinearMul": ("QLinearMul", [codes(4), SCALE, ZERO, codes(3, 1), SCALE, ZERO, SCALE, ZERO], {}),
    "QLinearSigmoid": ("QLinearSigmoid", [codes(2, 3), SCALE, ZERO, SCALE, ZERO], {}),
    "QLinearLeakyRelu": ("QLinearLeakyRelu", [codes(2, 3), SCALE, ZERO, SCALE, ZERO], {"alpha": 0.1}),
    "QLinearConcat": (
        "QLinearConcat",
        [SCALE, ZERO, codes(2, 3), SCALE, ZERO, codes(2, 4), SCALE, ZERO],
        {"axis": 1},
    ),
    "QLinearAveragePool": (
        *("QLinearAveragePool", [codes(1, 2, 8, 9), SCALE, ZERO, SCALE, ZERO]),
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ),
    "QLinearGlobalAveragePool": ("QLinearGlobalAveragePool", [codes(1, 2, 8, 9), SCALE, ZERO, SCALE, ZERO], {}),
    "MatMulIntegerToFloat": ("MatMulIntegerToFloat", [codes(2, 3, 4), codes(4, 5), SCALE, SCALE, ZERO, ZERO], {}),
    "DynamicQuantizeMatMul": ("DynamicQuantizeMatMul", [floats(3, 4), codes(4, 5), SCALE, ZERO], {}),
    "QGemm": ("QGemm", [codes(3, 4), SCALE, ZERO, codes(5, 4), SCALE, ZERO], {"transB": 1}),
    "QGemm quantized": (
        *("QGemm", [codes(3, 4), SCALE, ZERO, codes(4, 5), SCALE, ZERO, np.zeros(5, np.int32), SCALE, ZERO]),
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_contrib_operator_has_the_shape_onnxruntime_returns(case: str) -> None:
    op_type, arrays, attributes = CASES[case]
    arrays = [np.asarray(array) for array in arrays]
    names = [f"i{k}" for k in range(len(arrays))]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in zip(names, arrays, strict=True)
    ]
    results = [helper.make_tensor_value_info("o", TensorProto.UNDEFINED, None)]
    for result in results:
        result.ClearField("type")
    node = helper.make_node(op_type, names, [r.name for r in results], domain="com.microsoft", name="n", **attributes)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, results), opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    actual = session.run(None, dict(zip(names, arrays, strict=True)))
    graph = load_model(model)
    types = {
        value: TensorType(DType.from_numpy(a.dtype), a.shape) for value, a in zip(graph.inputs, arrays, strict=True)
    }
    found = resolve(graph, types)
    assert found.blocked == {}
    assert [found.types[value] for value in graph.outputs] == [
        TensorType(DType.from_numpy(array.dtype), array.shape) for array in actual
    ]

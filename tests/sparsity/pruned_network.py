"""A network that has layers of each kind to prune."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


def network(*, channels: int = 96, seed: int = 0) -> onnx.ModelProto:
    """x (1, 3, 20, 20) -> y (1, 10): a stem, convolutions of 3x3 (stride 1, 2) and 1x1, a depthwise one, products."""
    random = np.random.default_rng(seed)
    constants: dict[str, Array] = {}

    def weights(name: str, *shape: int) -> str:
        fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        constants[name] = (random.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)
        return name

    def conv(name: str, x: str, out: int, into: int, kernel: int, **attributes: Any) -> onnx.NodeProto:
        w, b = weights(f"{name}_w", out, into, kernel, kernel), weights(f"{name}_b", out)
        pads = [kernel // 2] * 4
        return helper.make_node("Conv", [x, w, b], [f"{name}_y"], name=name, pads=pads, **attributes)

    c = channels
    nodes = [
        conv("stem", "x", c, 3, 3),
        helper.make_node("Relu", ["stem_y"], ["r0"], name="relu0"),
        conv("a", "r0", c, c, 3),
        helper.make_node("Relu", ["a_y"], ["r1"], name="relu1"),
        conv("b", "r1", c, c, 3, strides=[2, 2]),
        conv("deep", "b_y", c, 1, 3, group=c),
        conv("c", "deep_y", c + 4, c, 1),
        helper.make_node("GlobalAveragePool", ["c_y"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", weights("m_w", c + 4, 2 * c + 1)], ["m_y"], name="m"),
        helper.make_node("Relu", ["m_y"], ["r2"], name="relu2"),
        helper.make_node("Gemm", ["r2", weights("g_w", 80, 2 * c + 1)], ["g_y"], name="g", transB=1),
        helper.make_node("Gemm", ["g_y", weights("last_w", 80, 10)], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "pruned",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 20, 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(count: int) -> list[Array]:
    random = np.random.default_rng(3)
    return [random.standard_normal((1, 3, 20, 20)).astype(np.float32) for _ in range(count)]

"""Good models to damage: trained ones, one of many operators, and a structure that is hardly anything but names."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mace_core.testing.models import PP_OCR_CLS, SILERO_VAD, find_packaged_model, light_model_path

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, kind: int = F32, shape: object = None) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, object] | None = None,
    *,
    opset: int = 21,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """A model that nobody has checked."""
    tensors = [
        item if isinstance(item, TensorProto) else numpy_helper.from_array(np.asarray(item), name)
        for name, item in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "hostile", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=10)


def mixed_model() -> onnx.ModelProto:
    """Convolution, matrix product, shape arithmetic, an If, a Loop, a function and quantization in 24 nodes."""
    random = np.random.default_rng(0)
    node = helper.make_node
    branches = {
        f"{side}_branch": helper.make_graph([node(op, ["pooled"], [f"{side}_out"])], side, [], [value(f"{side}_out")])
        for side, op in (("then", "Relu"), ("else", "Neg"))
    }
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_out"]), node("Add", ["carried", "step"], ["carried_out"])],
        "body",
        [value("turn", I64, []), value("go", BOOL, []), value("carried")],
        [value("go_out", BOOL, []), value("carried_out")],
    )
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    nodes = [
        node("Conv", ["x", "w", "bias"], ["conv"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", ["conv"], ["relu"], name="relu"),
        node("MaxPool", ["relu"], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["pool"], ["pooled"], name="average"),
        node("ReduceMean", ["pooled"], ["mean"], name="mean", keepdims=0),
        node("Greater", ["mean", "zero"], ["positive"], name="positive"),
        node("If", ["positive"], ["chosen"], name="choice", **branches),
        node("Loop", ["turns", "", "chosen"], ["looped"], name="loop", body=body),
        node("Twice", ["looped"], ["doubled"], name="twice", domain="local"),
        node("Shape", ["doubled"], ["shape"], name="shape"),
        node("Slice", ["shape", "first", "second"], ["batch"], name="slice"),
        node("Concat", ["batch", "rest"], ["target"], name="concat", axis=0),
        node("Reshape", ["doubled", "target"], ["flat"], name="reshape"),
        node("Gemm", ["flat", "matrix", "offsets"], ["scores"], name="gemm", transB=1),
        node("QuantizeLinear", ["scores", "scale", "point"], ["quantized"], name="quantize"),
        node("DequantizeLinear", ["quantized", "scale", "point"], ["plain"], name="dequantize"),
        node("Softmax", ["plain"], ["soft"], name="softmax", axis=-1),
        node("TopK", ["soft", "count"], ["best", "places"], name="topk"),
        node("Resize", ["pool", "", "scales"], ["large"], name="resize", mode="nearest"),
        node("Pad", ["large", "pads"], ["padded"], name="pad"),
        node("Transpose", ["padded"], ["turned"], name="transpose", perm=[0, 2, 3, 1]),
        node("Gather", ["turned", "second"], ["row"], name="gather", axis=1),
        node("Cast", ["row"], ["half"], name="cast", to=TensorProto.FLOAT16),
        node("Tile", ["half", "repeats"], ["tiled"], name="tile"),
    ]
    constants: dict[str, object] = {
        "w": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "bias": np.zeros(4, np.float32),
        "zero": np.float32(0),
        "step": np.float32(0.5),
        "turns": np.int64(3),
        "first": np.array([0]),
        "second": np.array([1]),
        "rest": np.array([-1]),
        "matrix": random.standard_normal((5, 4)).astype(np.float32),
        "offsets": np.zeros(5, np.float32),
        "scale": np.float32(0.05),
        "point": np.uint8(128),
        "count": np.array([2]),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "repeats": np.array([1, 2, 1, 1]),
    }
    outputs = [value("best"), value("places", I64), value("tiled", TensorProto.FLOAT16)]
    return model_of(nodes, [value("x", F32, ["n", 3, 8, 8])], outputs, constants, functions=[twice])


@cache
def bases() -> dict[str, bytes]:
    """Name -> content of a good model."""
    return {
        "mixed": mixed_model().SerializeToString(),
        "classifier": find_packaged_model(*PP_OCR_CLS).read_bytes(),
        "silero": find_packaged_model(*SILERO_VAD).read_bytes(),
        "structure": light_model_path("squeezenet").read_bytes(),
    }

"""The shapes of ResNet-50's layers, and models of one layer between two others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mace_core.sparsity.patterns import Pattern, choose_kept

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One shape of a layer.

    Attributes:
        inputs, outputs: channels.
        kernel, stride: of a convolution, along both axes; kernel 0: a matrix product.
        size: of the result, along both axes; rows of a matrix product.
        count: how many the network has.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int
    count: int

    def __str__(self) -> str:
        if not self.kernel:
            return f"MatMul {self.size}x{self.inputs}x{self.outputs}"
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel} {self.inputs}->{self.outputs} @{self.size}{stride}"


def _resnet50() -> tuple[Layer, ...]:
    """All convolutions but the first one, and the classifier; strides are at the 3x3 convolutions."""
    found: dict[tuple[int, ...], int] = {}
    before = 64
    for stage, (width, size, blocks) in enumerate(((64, 56, 3), (128, 28, 4), (256, 14, 6), (512, 7, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            for layer in (
                (before, width, 1, 1, size * stride),
                (width, width, 3, stride, size),
                (width, 4 * width, 1, 1, size),
                *([(before, 4 * width, 1, stride, size)] if not block else []),
            ):
                found[layer] = found.get(layer, 0) + 1
            before = 4 * width
    return (*(Layer(*layer, count) for layer, count in found.items()), Layer(2048, 1000, 0, 1, 1, 1))


RESNET50 = _resnet50()
PRODUCTS = tuple(Layer(inputs, outputs, 0, 1, rows, 0) for rows in (1, 16, 128) for inputs, outputs in ((768, 3072),))
"""Of an encoder: not part of the sum."""


def weights_of(layer: Layer, pattern: Pattern | None, seed: int = 1) -> Floats:
    """Random weights, (outputs, inputs, kernel, kernel) or (inputs, outputs), pruned to ``pattern`` by magnitude."""
    shape = (layer.outputs, layer.inputs, max(layer.kernel, 1), max(layer.kernel, 1))
    weights = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if pattern is not None:
        by_taps = np.abs(weights).reshape(layer.outputs, layer.inputs, -1).transpose(0, 2, 1)
        kept = choose_kept(by_taps, pattern).transpose(0, 2, 1).reshape(shape)
        weights = np.where(kept, weights, np.float32(0))
    return weights if layer.kernel else np.ascontiguousarray(weights[:, :, 0, 0].T)


def model_of(layer: Layer, weights: Floats, precision: str = "float32") -> tuple[ModelProto, dict[str, Floats]]:
    """`float_model_of` or, for int8, `byte_model_of`."""
    return byte_model_of(layer, weights) if precision == "int8" else float_model_of(layer, weights)


def float_model_of(layer: Layer, weights: Floats) -> tuple[ModelProto, dict[str, Floats]]:
    """The layer, named "layer", between two of one tap, so that it finds its input as another layer leaves it."""
    random = np.random.default_rng(0)

    def near(*shape: int) -> Floats:
        return (random.standard_normal(shape) / 16).astype(np.float32)

    if layer.kernel:
        size = layer.size * layer.stride
        pads = [(layer.kernel - 1) // 2] * 4
        attributes: dict[str, Any] = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2, "pads": pads}
        constants = {
            "before": near(layer.inputs, 16, 1, 1),
            "weights": weights,
            "bias": near(layer.outputs),
            "after": near(16, layer.outputs, 1, 1),
        }
        nodes = [
            helper.make_node("Conv", ["x", "before"], ["a"], name="before"),
            helper.make_node("Conv", ["a", "weights", "bias"], ["b"], name="layer", **attributes),
            helper.make_node("Relu", ["b"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "after"], ["y"], name="after"),
        ]
        shape = [1, 16, size, size]
    else:
        constants = {"weights": weights, "bias": near(layer.outputs)}
        nodes = [helper.make_node("Gemm", ["x", "weights", "bias"], ["y"], name="layer")]
        shape = [layer.size, layer.inputs]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, {"x": near(*shape)}


SCALE = np.float32(0.05)
"""Of all activations of the models of bytes."""


def byte_model_of(layer: Layer, weights: Floats) -> tuple[ModelProto, dict[str, Floats]]:
    """The same as QLinearConv and QLinearMatMul: activations of one scale, weights with one for each output channel."""
    random = np.random.default_rng(0)
    constants: dict[str, npt.NDArray[Any]] = {"s": np.array(SCALE), "z": np.array(128, np.uint8)}

    def quantized(name: str, array: Floats, axis: int) -> list[str]:
        """Inputs for weights of that name; their zeros stay zeros."""
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = np.abs(array).max(axis=others, keepdims=True) / 127
        constants[name] = np.rint(array / scale).astype(np.int8)
        constants[f"{name}_s"], constants[f"{name}_z"] = scale.reshape(-1), np.zeros(scale.size, np.int8)
        return [name, f"{name}_s", f"{name}_z"]

    def near(*shape: int) -> Floats:
        return (random.standard_normal(shape) / 16).astype(np.float32)

    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])]
    if layer.kernel:
        size = layer.size * layer.stride
        shape = [1, 16, size, size]
        given = {"before": near(layer.inputs, 16, 1, 1), "layer": weights, "after": near(16, layer.outputs, 1, 1)}
        last = "q"
        for name, array in given.items():
            k, stride = (layer.kernel, layer.stride) if name == "layer" else (1, 1)
            inputs = [last, "s", "z", *quantized(f"{name}_w", array, 0), "s", "z"]
            pads = [(k - 1) // 2] * 4
            nodes.append(helper.make_node("QLinearConv", inputs, [name], name=name, pads=pads, strides=[stride] * 2))
            last = name
    else:
        shape = [layer.size, layer.inputs]
        inputs = ["q", "s", "z", *quantized("layer_w", weights, 1), "s", "z"]
        nodes.append(helper.make_node("QLinearMatMul", inputs, ["layer"], name="layer"))
        last = "layer"
    nodes.append(helper.make_node("DequantizeLinear", [last, "s", "z"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model, {"x": near(*shape) * 16}

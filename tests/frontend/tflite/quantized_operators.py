"""Drawn models of one quantized operator: random encodings, sizes and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from lite_models import Arrays, LiteGraph, LiteModel

Encoding = Mapping[str, float]
Constant = Callable[[LiteGraph], int]

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
SAME, VALID = 0, 1


@dataclass
class Drawer:
    """Draws from a seeded generator, for one element type."""

    rng: np.random.Generator
    dtype: str

    def encoding(self, low: float = 0.02, high: float = 0.2) -> Encoding:
        """A scale between two bounds; 16 bits have steps 256 times as small, around 0."""
        scale = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        if self.dtype == "int16":
            return {"scale": scale / 256, "zero": 0}
        first, last = RANGES[self.dtype]
        return {"scale": scale, "zero": int(self.rng.integers(first + 28, last - 27))}

    def unit(self, bits: int, *, signed: bool) -> Encoding:
        """What TensorFlow Lite asks of results between 0 (or -1) and 1."""
        if self.dtype == "int16":
            return {"scale": 1 / 32768, "zero": 0}
        first, last = RANGES[self.dtype]
        return {"scale": 2.0**-bits, "zero": (first + last + 1) // 2 if signed else first}

    def numbers(self, shape: Sequence[int]) -> npt.NDArray[Any]:
        first, last = RANGES[self.dtype]
        return self.rng.integers(first, last + 1, tuple(shape)).astype(self.dtype)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def weights(self, shape: Sequence[int], channels: int, axis: int) -> tuple[Constant, npt.NDArray[np.float32]]:
        """A constant of weights and its scales: one for each channel, but of unsigned bytes one for all."""
        scales = np.exp(self.rng.uniform(np.log(0.002), np.log(0.02), channels)).astype(np.float32)
        if self.dtype == "uint8":
            content, zero = self.numbers(shape), int(self.rng.integers(90, 160))
            return lambda g: g.constant("w", content, scale=scales[:1], zero=zero), scales[:1]
        content = self.rng.integers(-127, 128, tuple(shape)).astype(np.int8)
        return lambda g: g.constant("w", content, scale=scales, axis=axis), scales

    def bias(self, scales: npt.NDArray[np.float32], x: Encoding, count: int) -> Constant:
        wide = np.int64 if self.dtype == "int16" else np.int32
        content = self.rng.integers(-2000, 2000, count).astype(wide)
        return lambda g: g.constant("b", content, scale=scales * np.float32(x["scale"]))


def model_of(
    d: Drawer,
    kind: str,
    shapes: Sequence[Sequence[int]],
    result: Sequence[int],
    options: str = "",
    *,
    constants: Sequence[Constant] = (),
    inputs: Sequence[Encoding] | None = None,
    output: Encoding | None = None,
    version: int = 2,
    **fields: Any,
) -> tuple[bytes, Arrays]:
    """A model of one operator, and what to feed it; encodings are drawn where none are given."""
    model = LiteModel()
    graph = model.graph()
    encodings = inputs or [d.encoding() for _ in shapes]
    numbers = [
        graph.input(f"x{i}", shape, d.dtype, **encoding)
        for i, (shape, encoding) in enumerate(zip(shapes, encodings, strict=True))
    ]
    made = graph.output("y", result, d.dtype, **(output or d.encoding()))
    graph.op(kind, [*numbers, *(constant(graph) for constant in constants)], [made], options, version=version, **fields)
    return model.bytes(), {f"x{i}": d.numbers(shape) for i, shape in enumerate(shapes)}


# --- products ---------------------------------------------------------------------------------------------------------


def convolution(d: Drawer) -> tuple[bytes, Arrays]:
    channels, filters, kernel, stride = d.pick(3, 4, 8), d.pick(4, 6, 16), d.pick(1, 3), d.pick(1, 2)
    x = d.encoding(0.01, 0.05)
    weights, scales = d.weights((filters, kernel, kernel, channels), filters, 0)
    return model_of(
        d, "CONV_2D", [(1, 6, 5, channels)], (1, -(-6 // stride), -(-5 // stride), filters), "Conv2DOptions",
        constants=[weights, d.bias(scales, x, filters)], inputs=[x], output=d.encoding(0.03, 0.1), version=3,
        strideH=stride, strideW=stride, padding=SAME, fusedActivationFunction=d.pick(0, 1, 3),
    )  # fmt: skip


def depthwise(d: Drawer) -> tuple[bytes, Arrays]:
    channels, kernel, stride = d.pick(3, 4, 16), d.pick(1, 3), d.pick(1, 2)
    x = d.encoding(0.01, 0.05)
    weights, scales = d.weights((1, kernel, kernel, channels), channels, 3)
    shape, result = (1, 6, 5, channels), (1, -(-6 // stride), -(-5 // stride), channels)
    return model_of(
        d, "DEPTHWISE_CONV_2D", [shape], result, "DepthwiseConv2DOptions",
        constants=[weights, d.bias(scales, x, channels)], inputs=[x], output=d.encoding(0.03, 0.1), version=3,
        strideH=stride, strideW=stride, padding=SAME, depthMultiplier=1, fusedActivationFunction=d.pick(0, 1, 3),
    )  # fmt: skip


def transposed(d: Drawer) -> tuple[bytes, Arrays]:
    x = d.encoding(0.01, 0.05)
    weights, _ = d.weights((6, 3, 3, 4), 6, 0)
    model = LiteModel()
    graph = model.graph()
    image = graph.input("x", (1, 4, 5, 4), d.dtype, **x)
    size = graph.constant("size", [1, 8, 10, 6], "int32")
    result = graph.output("y", (1, 8, 10, 6), d.dtype, **d.encoding(0.03, 0.1))
    graph.op("TRANSPOSE_CONV", [size, weights(graph), image], [result], "TransposeConvOptions", version=2,
             strideH=2, strideW=2, padding=SAME)  # fmt: skip
    return model.bytes(), {"x": d.numbers((1, 4, 5, 4))}


def fully_connected(d: Drawer) -> tuple[bytes, Arrays]:
    x, weights_of = d.encoding(0.01, 0.05), d.pick(1, 10)
    weights, scales = d.weights((10, 16), weights_of if d.dtype == "int8" else 1, 0)
    return model_of(
        d, "FULLY_CONNECTED", [(3, 16)], (3, 10), "FullyConnectedOptions",
        constants=[weights, d.bias(scales, x, 10)], inputs=[x], output=d.encoding(0.03, 0.1), version=4,
        fusedActivationFunction=d.pick(0, 1, 3),
    )  # fmt: skip


def batch_product(d: Drawer) -> tuple[bytes, Arrays]:
    inputs = [d.encoding(0.01, 0.05) for _ in range(2)]
    return model_of(d, "BATCH_MATMUL", [(2, 3, 8), (2, 8, 5)], (2, 3, 5), "BatchMatMulOptions", inputs=inputs,
                    output=d.encoding(0.05, 0.2), adjX=False, adjY=False)  # fmt: skip


# --- two tensors ------------------------------------------------------------------------------------------------------


def arithmetic(kind: str, options: str) -> Callable[[Drawer], tuple[bytes, Arrays]]:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        shape = (1, 3, 4, 5)
        fields: dict[str, Any] = {} if kind == "SQUARED_DIFFERENCE" else {"fusedActivationFunction": d.pick(0, 1, 3)}
        if kind in ("ADD", "SUB"):
            fields["potScaleInt16"] = False
        other = d.pick(shape, (1, 1, 1, 5), (5,))
        return model_of(d, kind, [shape, other], shape, options, output=d.encoding(0.05, 0.4), **fields)

    return draw


def extreme(kind: str) -> Callable[[Drawer], tuple[bytes, Arrays]]:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        shape, same = (1, 3, 4, 5), d.encoding()
        return model_of(d, kind, [shape, shape], shape, "MaximumMinimumOptions", inputs=[same, same], output=same)

    return draw


def joined(d: Drawer) -> tuple[bytes, Arrays]:
    same = d.encoding()
    other = d.encoding() if d.dtype == "uint8" else same  # signed numbers must be alike
    return model_of(d, "CONCATENATION", [(1, 3, 4, 4), (1, 3, 4, 6)], (1, 3, 4, 10), "ConcatenationOptions",
                    inputs=[same, other], output=same, axis=3)  # fmt: skip


# --- one tensor -------------------------------------------------------------------------------------------------------


def function(
    kind: str, options: str = "", *, result: Callable[[Drawer], Encoding] | None = None, **fields: Any
) -> Callable[[Drawer], tuple[bytes, Arrays]]:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        output = d.encoding() if result is None else result(d)
        return model_of(d, kind, [(2, 3, 4, 6)], (2, 3, 4, 6), options, output=output, **fields)

    return draw


def prelu(d: Drawer) -> tuple[bytes, Arrays]:
    content, slope = d.numbers((1, 1, 6)), d.encoding(0.002, 0.01)
    return model_of(d, "PRELU", [(1, 3, 4, 6)], (1, 3, 4, 6), version=1,
                    constants=[lambda g: g.constant("slope", content, **slope)])  # fmt: skip


def pool(kind: str, activation: int = 0) -> Callable[[Drawer], tuple[bytes, Arrays]]:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        same, window, stride, padding = d.encoding(), d.pick(2, 3), d.pick(1, 2), d.pick(SAME, VALID)
        sizes = [-(-n // stride) if padding == SAME else (n - window) // stride + 1 for n in (7, 6)]
        window_of = {"filterHeight": window, "filterWidth": window, "strideH": stride, "strideW": stride}
        return model_of(d, kind, [(1, 7, 6, 5)], (1, *sizes, 5), "Pool2DOptions", inputs=[same], output=same,
                        padding=padding, fusedActivationFunction=activation, **window_of)  # fmt: skip

    return draw


def reduction(kind: str) -> Callable[[Drawer], tuple[bytes, Arrays]]:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        same, keeps = d.encoding(), d.pick(True, False)
        output = {"MEAN": d.encoding(0.05, 0.3), "SUM": d.encoding(1, 4)}.get(kind, same)
        result = (2, 1, 1, 6) if keeps else (2, 6)
        return model_of(d, kind, [(2, 5, 7, 6)], result, "ReducerOptions", inputs=[same], output=output,
                        constants=[lambda g: g.constant("axes", [1, 2], "int32")], keepDims=keeps)  # fmt: skip

    return draw


def resized(kind: str, options: str) -> Callable[[Drawer], tuple[bytes, Arrays]]:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        same, size = d.encoding(), d.pick([9, 7], [10, 8])
        corners, centers = d.pick((True, False), (False, True), (False, False))
        return model_of(d, kind, [(1, 5, 4, 6)], (1, *size, 6), options, inputs=[same], output=same, version=3,
                        constants=[lambda g: g.constant("size", size, "int32")], alignCorners=corners,
                        halfPixelCenters=centers)  # fmt: skip

    return draw


def padded(d: Drawer) -> tuple[bytes, Arrays]:
    same = d.encoding()
    pads = [[0, 0], [1, 2], [0, 1], [0, 0]]
    return model_of(d, "PAD", [(1, 3, 4, 5)], (1, 6, 5, 5), "PadOptions", inputs=[same], output=same,
                    constants=[lambda g: g.constant("pads", pads, "int32")])  # fmt: skip


BYTES, SIGNED, ALL = ("int8", "uint8"), ("int8", "int16"), ("int8", "uint8", "int16")

FAMILIES: dict[str, tuple[Callable[[Drawer], tuple[bytes, Arrays]], tuple[str, ...]]] = {
    "CONV_2D": (convolution, ALL),
    "DEPTHWISE_CONV_2D": (depthwise, ALL),
    "TRANSPOSE_CONV": (transposed, SIGNED),
    "FULLY_CONNECTED": (fully_connected, ALL),
    "BATCH_MATMUL": (batch_product, SIGNED),
    "ADD": (arithmetic("ADD", "AddOptions"), ALL),
    "SUB": (arithmetic("SUB", "SubOptions"), ALL),
    "MUL": (arithmetic("MUL", "MulOptions"), ALL),
    "SQUARED_DIFFERENCE": (arithmetic("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"), ("int8",)),
    "MAXIMUM": (extreme("MAXIMUM"), ALL),
    "MINIMUM": (extreme("MINIMUM"), ALL),
    "CONCATENATION": (joined, ALL),
    "AVERAGE_POOL_2D": (pool("AVERAGE_POOL_2D"), ALL),
    "MAX_POOL_2D": (pool("MAX_POOL_2D"), ALL),
    "MEAN": (reduction("MEAN"), ALL),
    "SUM": (reduction("SUM"), BYTES),
    "REDUCE_MAX": (reduction("REDUCE_MAX"), ALL),
    "LOGISTIC": (function("LOGISTIC", result=lambda d: d.unit(8, signed=False)), ALL),
    "TANH": (function("TANH", result=lambda d: d.unit(7, signed=True)), BYTES),
    "SOFTMAX": (function("SOFTMAX", "SoftmaxOptions", result=lambda d: d.unit(8, signed=False), beta=1.0), BYTES),
    "HARD_SWISH": (function("HARD_SWISH", "HardSwishOptions", version=1), BYTES),
    "LEAKY_RELU": (function("LEAKY_RELU", "LeakyReluOptions", alpha=0.2), ALL),
    "RELU": (function("RELU"), ALL),
    "RELU6": (function("RELU6"), ALL),
    "ABS": (function("ABS", "AbsOptions"), SIGNED),
    "GELU": (function("GELU", "GeluOptions", approximate=False), BYTES),
    "QUANTIZE": (function("QUANTIZE", "QuantizeOptions"), ALL),
    "L2_NORMALIZATION": (function("L2_NORMALIZATION", "L2NormOptions", result=lambda d: d.unit(7, signed=True)), BYTES),
    "PRELU": (prelu, BYTES),
    "RESIZE_BILINEAR": (resized("RESIZE_BILINEAR", "ResizeBilinearOptions"), BYTES),
    "RESIZE_NEAREST_NEIGHBOR": (resized("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"), ALL),
    "PAD": (padded, ALL),
}
"""How a model of each operator is drawn, and for which element types LiteRT computes it."""

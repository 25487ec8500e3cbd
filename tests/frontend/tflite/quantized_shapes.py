"""More drawn models of one quantized operator: comparisons, movements of elements, and between element types."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from lite_models import Arrays, LiteModel
from quantized_operators import ALL, BYTES, SIGNED, Drawer, Encoding, model_of, reduction

Draw = Callable[[Drawer], tuple[bytes, Arrays]]


def logarithm(d: Drawer) -> tuple[bytes, Arrays]:
    """Of positive numbers alone in 8 bits, as LiteRT asks."""
    return _positive(d, "LOG", (0.01, 0.05), 1)


def reciprocal_root(d: Drawer) -> tuple[bytes, Arrays]:
    return _positive(d, "RSQRT", (0.01, 0.05), 2)


def root(d: Drawer) -> tuple[bytes, Arrays]:
    return _positive(d, "SQRT", (0.01, 0.05), 2)


def _positive(d: Drawer, kind: str, output: tuple[float, float], version: int) -> tuple[bytes, Arrays]:
    x, y = d.encoding(), d.encoding(*output)
    model = LiteModel()
    graph = model.graph()
    number = graph.input("x", (2, 3, 4, 6), d.dtype, **x)
    graph.op(kind, [number], [graph.output("y", (2, 3, 4, 6), d.dtype, **y)], version=version)
    content = d.numbers((2, 3, 4, 6)).astype(np.int64)
    first, last = (1, 32767) if d.dtype == "int16" else (int(x["zero"]) + 1, 127 if d.dtype == "int8" else 255)
    return model.bytes(), {"x": (first + content % (last - first + 1)).astype(d.dtype)}


def divided(d: Drawer) -> tuple[bytes, Arrays]:
    """Of numbers that are not near 0, by numbers that are not 0.

    LiteRT shifts what is a small part of a step by more bits than a number has, for which C++ gives no result: the
    largest one there is comes of it.  Such are divided by 1.
    """
    x, y, z = d.encoding(), d.encoding(), d.encoding()
    model, feeds = model_of(d, "DIV", [(1, 3, 4, 5), (1, 3, 4, 5)], (1, 3, 4, 5), "DivOptions", inputs=[x, y],
                            output=z, fusedActivationFunction=d.pick(0, 1, 3))  # fmt: skip
    zeros = int(x["zero"]), int(y["zero"])
    dividend = np.maximum(feeds["x0"].astype(np.int64) - zeros[0], 16)
    divisor = np.maximum(feeds["x1"].astype(np.int64) - zeros[1], 1)
    shift = math.frexp(x["scale"] / (y["scale"] * z["scale"]))[1] + np.frexp(dividend)[1] - np.frexp(divisor)[1]
    feeds["x0"] = (dividend + zeros[0]).astype(d.dtype)
    feeds["x1"] = (np.where(shift < -1, 1, divisor) + zeros[1]).astype(d.dtype)
    return model, feeds


def resized(d: Drawer) -> tuple[bytes, Arrays]:
    """To many more places than there were."""
    same = d.encoding()
    corners, centers = d.pick((True, False), (False, True), (False, False))
    size = [int(d.pick(*(n for n in range(1, 120) if _stays_inside(before, n, corners, centers)))) for before in (5, 4)]
    return model_of(d, "RESIZE_BILINEAR", [(1, 5, 4, 3)], (1, *size, 3), "ResizeBilinearOptions", inputs=[same],
                    output=same, constants=[lambda g: g.constant("size", size, "int32")], version=3,
                    alignCorners=corners, halfPixelCenters=centers)  # fmt: skip


def _stays_inside(before: int, after: int, corners: bool, centers: bool) -> bool:
    """Whether LiteRT reads nothing behind an image: its steps are rounded to 1/1024 of a pixel, and add up."""
    pixels, places = (before - 1, after - 1) if corners and after > 1 else (before, after)
    step = (1024 * pixels + places // 2) // places
    return (after - 1) * step + (step // 2 - 512 if centers else 0) < 1024 * before


def prelu(d: Drawer) -> tuple[bytes, Arrays]:
    """In 16 bits, with slopes of 8."""
    content, slope = d.rng.integers(-127, 128, (1, 1, 6)).astype(np.int8), {"scale": 0.01, "zero": 0}
    return model_of(d, "PRELU", [(1, 3, 4, 6)], (1, 3, 4, 6), version=1,
                    constants=[lambda g: g.constant("slope", content, **slope)])  # fmt: skip


def product(d: Drawer) -> tuple[bytes, Arrays]:
    """Of two or three: LiteRT rounds after each."""
    count = d.pick(2, 3)
    scale = 2 / 32768 if d.dtype == "int16" else 2 / 128
    output = {"scale": scale * 2.0 ** (count - 1), "zero": 0}
    return model_of(d, "REDUCE_PROD", [(2, count, 6)], (2, 6), "ReducerOptions", inputs=[{"scale": scale, "zero": 0}],
                    output=output, constants=[lambda g: g.constant("axes", [1], "int32")])  # fmt: skip


def comparison(kind: str) -> Draw:
    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        model = LiteModel()
        graph = model.graph()
        shape = (1, 3, 4, 5)
        numbers = [graph.input(name, shape, d.dtype, **d.encoding()) for name in "ab"]
        graph.op(kind, numbers, [graph.output("y", shape, "bool")], f"{_title(kind)}Options", version=2)
        return model.bytes(), {"a": d.numbers(shape), "b": d.numbers(shape)}

    return draw


def _title(kind: str) -> str:
    return "".join(part.title() for part in kind.split("_"))


def moved(
    kind: str,
    shape: Sequence[int],
    result: Sequence[int],
    options: str = "",
    *constants: npt.NDArray[Any],
    version: int = 2,
    **fields: Any,
) -> Draw:
    """Operators that move elements, and leave them as they are."""

    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        same = d.encoding()
        makers = [lambda g, c=content, i=i: g.constant(f"c{i}", c) for i, content in enumerate(constants)]
        return model_of(d, kind, [shape], result, options, inputs=[same], output=same, constants=makers,
                        version=version, **fields)  # fmt: skip

    return draw


def several(kind: str, inputs: int, shape: Sequence[int], result: Sequence[int], options: str, **fields: Any) -> Draw:
    """Operators on tensors of one encoding."""

    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        same = d.encoding()
        return model_of(d, kind, [shape] * inputs, result, options, inputs=[same] * inputs, output=same, **fields)

    return draw


def requantized(before: str) -> Draw:
    """From one element type to another."""

    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        other = Drawer(d.rng, before)
        model = LiteModel()
        graph = model.graph()
        number = graph.input("x", (3, 40), before, **other.encoding())
        graph.op("QUANTIZE", [number], [graph.output("y", (3, 40), d.dtype, **d.encoding())], version=3)
        return model.bytes(), {"x": other.numbers((3, 40))}

    return draw


def quantized(d: Drawer) -> tuple[bytes, Arrays]:
    """Of floats, some beyond what the numbers reach."""
    model = LiteModel()
    graph = model.graph()
    encoding = d.encoding()
    number = graph.input("x", (3, 40))
    graph.op("QUANTIZE", [number], [graph.output("y", (3, 40), d.dtype, **encoding)], version=1)
    reach = encoding["scale"] * (40000 if d.dtype == "int16" else 200)
    return model.bytes(), {"x": d.rng.uniform(-reach, reach, (3, 40)).astype(np.float32)}


def dequantized(d: Drawer) -> tuple[bytes, Arrays]:
    model = LiteModel()
    graph = model.graph()
    number = graph.input("x", (3, 40), d.dtype, **d.encoding())
    graph.op("DEQUANTIZE", [number], [graph.output("y", (3, 40))], version=3)
    return model.bytes(), {"x": d.numbers((3, 40))}


def softmax_of_bytes(d: Drawer) -> tuple[bytes, Arrays]:
    """Bytes in, 16 bits out."""
    x: Encoding = d.encoding()
    model = LiteModel()
    graph = model.graph()
    number = graph.input("x", (4, 9), d.dtype, **x)
    y = graph.output("y", (4, 9), "int16", scale=1 / 65536, zero=-32768)
    graph.op("SOFTMAX", [number], [y], "SoftmaxOptions", version=2, beta=d.pick(1.0, 0.5))
    return model.bytes(), {"x": d.numbers((4, 9))}


def softmax(d: Drawer) -> tuple[bytes, Arrays]:
    depth = d.pick(2, 10, 100, 1000)
    return model_of(d, "SOFTMAX", [(3, depth)], (3, depth), "SoftmaxOptions", inputs=[d.encoding(0.01, 1.0)],
                    output=d.unit(8, signed=False), beta=d.pick(1.0, 0.5, 2.0))  # fmt: skip


def wide(kind: str, options: str = "", *, result: Callable[[Drawer], Encoding] | None = None, **fields: Any) -> Draw:
    """A function of one tensor, with scales from very small to very large."""

    def draw(d: Drawer) -> tuple[bytes, Arrays]:
        output = d.encoding(0.001, 1.0) if result is None else result(d)
        return model_of(d, kind, [(2, 3, 4, 6)], (2, 3, 4, 6), options, inputs=[d.encoding(0.001, 1.0)],
                        output=output, **fields)  # fmt: skip

    return draw


def _log_unit(d: Drawer) -> Encoding:
    return {"scale": 16 / 256, "zero": 127 if d.dtype == "int8" else 255}


def _unsigned(d: Drawer) -> Encoding:
    return d.unit(8, signed=False)


def _signed(d: Drawer) -> Encoding:
    return d.unit(7, signed=True)


FAMILIES: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "TANH": (wide("TANH", result=_signed), ALL),
    "LOGISTIC": (wide("LOGISTIC", result=_unsigned), ALL),
    "TANH of a power of 2": (
        lambda d: model_of(d, "TANH", [(900,)], (900,), inputs=[{"scale": d.pick(1, 2, 0.5, 4) / 4096, "zero": 0}],
                           output=_signed(d)), ("int16",)),
    "LOGISTIC of a power of 2": (
        lambda d: model_of(d, "LOGISTIC", [(900,)], (900,), inputs=[{"scale": d.pick(1, 2, 0.5, 4) / 4096, "zero": 0}],
                           output=_unsigned(d)), ("int16",)),
    "SOFTMAX": (softmax, ALL),
    "SOFTMAX of bytes": (softmax_of_bytes, BYTES),
    "LOG_SOFTMAX": (wide("LOG_SOFTMAX", "LogSoftmaxOptions", result=_log_unit), BYTES),
    "EXP": (wide("EXP", "ExpOptions"), SIGNED),
    "GELU": (wide("GELU", "GeluOptions", approximate=False), ALL),
    "GELU by tanh": (wide("GELU", "GeluOptions", approximate=True), ALL),
    "ELU": (wide("ELU", version=1), ("int8",)),
    "HARD_SWISH": (wide("HARD_SWISH", "HardSwishOptions", result=lambda d: d.encoding(0.1, 1.0), version=1), BYTES),
    "LEAKY_RELU": (wide("LEAKY_RELU", "LeakyReluOptions", alpha=0.2), ALL),
    "RELU": (wide("RELU"), ALL),
    "RELU6": (wide("RELU6"), ALL),
    "RELU_N1_TO_1": (wide("RELU_N1_TO_1", version=1), BYTES),
    "RELU_0_TO_1": (wide("RELU_0_TO_1", version=1), BYTES),
    "ABS": (wide("ABS", "AbsOptions"), SIGNED),
    "LOG": (logarithm, SIGNED),
    "RSQRT": (reciprocal_root, SIGNED),
    "SQRT": (root, SIGNED),
    "NEG": (wide("NEG", "NegOptions", version=1), SIGNED),
    "DIV": (divided, ALL),
    "PACK": (several("PACK", 3, (2, 9), (2, 3, 9), "PackOptions", valuesCount=3, axis=1), ALL),
    **{kind: (comparison(kind), ALL) for kind in
       ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")},
    "REDUCE_MIN": (reduction("REDUCE_MIN"), ALL),
    "REDUCE_PROD": (product, ("int8",)),
    "RESIZE_BILINEAR": (resized, ALL),
    "PRELU": (prelu, ("int16",)),
    "SUM": (reduction("SUM"), ALL),
    "RESHAPE": (moved("RESHAPE", (2, 12), (4, 6), "ReshapeOptions", np.array([4, 6], np.int32), newShape=[4, 6],
                      version=1), ALL),
    "TRANSPOSE": (moved("TRANSPOSE", (2, 3, 4), (4, 2, 3), "TransposeOptions", np.array([2, 0, 1], np.int32)), ALL),
    "TILE": (moved("TILE", (2, 3), (4, 9), "TileOptions", np.array([2, 3], np.int32)), ALL),
    "MIRROR_PAD": (moved("MIRROR_PAD", (3, 4), (5, 6), "MirrorPadOptions", np.array([[1, 1], [1, 1]], np.int32),
                         mode=0), ALL),
    "REVERSE_V2": (moved("REVERSE_V2", (3, 4), (3, 4), "ReverseV2Options", np.array([1], np.int32), version=3), ALL),
    "SLICE": (moved("SLICE", (3, 8), (2, 5), "SliceOptions", np.array([1, 2], np.int32), np.array([2, 5], np.int32)),
              ALL),
    "GATHER": (moved("GATHER", (6, 3), (4, 3), "GatherOptions", np.array([5, 0, 0, 3], np.int32), axis=0), ALL),
    "SPACE_TO_DEPTH": (moved("SPACE_TO_DEPTH", (1, 4, 6, 3), (1, 2, 3, 12), "SpaceToDepthOptions", blockSize=2), BYTES),
    "DEPTH_TO_SPACE": (moved("DEPTH_TO_SPACE", (1, 2, 3, 12), (1, 4, 6, 3), "DepthToSpaceOptions", blockSize=2), BYTES),
    "BROADCAST_TO": (moved("BROADCAST_TO", (3, 1), (3, 5), "BroadcastToOptions", np.array([3, 5], np.int32)), ALL),
    "SPACE_TO_BATCH_ND": (
        moved("SPACE_TO_BATCH_ND", (1, 3, 4, 2), (4, 2, 3, 2), "SpaceToBatchNDOptions", np.array([2, 2], np.int32),
              np.array([[0, 1], [1, 1]], np.int32)), ALL),
    "QUANTIZE": (quantized, ALL),
    "DEQUANTIZE": (dequantized, ALL),
    "QUANTIZE int8": (requantized("int8"), ALL),
    "QUANTIZE uint8": (requantized("uint8"), ALL),
    "QUANTIZE int16": (requantized("int16"), SIGNED),
}  # fmt: skip
"""As `quantized_operators.FAMILIES`."""

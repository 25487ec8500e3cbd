"""Convolutions of quantized numbers by definition: exact sums, and the requantization of onnxruntime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def exact_sums(x: Array, w: Array, zero: int, w_zeros: Array, attributes: dict[str, Any]) -> Array:
    """The sums of a convolution in int64, by definition; ``x`` is (N, C, *spatial)."""
    rank = x.ndim - 2
    groups = attributes.get("group", 1)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * 2 * rank)
    image = np.pad(x.astype(np.int64) - zero, [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))])
    weights = w.astype(np.int64) - w_zeros.astype(np.int64).reshape(-1, *(1,) * (w.ndim - 1))
    kernel = w.shape[2:]
    sizes = [(image.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(rank)]
    per_out, per_in = w.shape[0] // groups, w.shape[1]
    sums = np.zeros((x.shape[0], w.shape[0], *sizes), np.int64)
    for group in range(groups):
        part = image[:, group * per_in : (group + 1) * per_in]
        own = weights[group * per_out : (group + 1) * per_out]
        for tap in np.ndindex(*kernel):
            window = tuple(
                slice(tap[i] * dilations[i], tap[i] * dilations[i] + (sizes[i] - 1) * strides[i] + 1, strides[i])
                for i in range(rank)
            )
            seen = part[(slice(None), slice(None), *window)]
            found = np.tensordot(own[(slice(None), slice(None), *tap)], seen, axes=(1, 1))
            sums[:, group * per_out : (group + 1) * per_out] += np.moveaxis(found, 0, 1)
    return sums


def requantized(sums: Array, inputs: dict[str, Array], low: int | None = None, high: int | None = None) -> Array:
    """What a QLinearConv makes of sums."""
    shape = (1, -1, *(1,) * (sums.ndim - 2))
    scales = [inputs[name] for name in ("x_scale", "w_scale", "y_scale")]
    if 2 in (inputs["x"].itemsize, inputs["y_zero"].itemsize):  # of 16 bits: rounded once
        scales = [scale.astype(np.float64) for scale in scales]
    factor = (scales[0] * scales[1] / scales[2]).astype(np.float32).reshape(shape)
    bias = inputs.get("bias")
    shift: Any = np.float32(0)
    if bias is not None and bias.dtype == np.float32:
        shift = (bias / inputs["y_scale"]).astype(np.float32).reshape(shape)
    elif bias is not None:
        sums = sums + bias.astype(np.int64).reshape(shape)
    whole = np.rint(sums.astype(np.float32) * factor + shift).astype(np.int64) + int(inputs["y_zero"])
    held = np.iinfo(inputs["y_zero"].dtype)
    return whole.clip(held.min if low is None else low, held.max if high is None else high).astype(held.dtype)


def given_inputs(
    generator: np.random.Generator,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    types: tuple[str, str, str] = ("uint8", "int8", "uint8"),
    *,
    per_channel: bool = True,
    bias: str = "int32",
    zeros: tuple[int, int] | None = None,
) -> dict[str, Array]:
    """Inputs of a QLinearConv whose results use most of their range."""

    def numbers(dtype: str, shape: tuple[int, ...]) -> Array:
        held = np.iinfo(dtype)
        found: Array = generator.integers(held.min, held.max, shape, dtype, endpoint=True)
        return found

    def steps(dtype: str) -> int:
        return int(np.iinfo(dtype).max) - int(np.iinfo(dtype).min)

    x_type, w_type, y_type = types
    channels = w_shape[0] if per_channel else 1
    depth = math.prod(w_shape[1:])
    x_zero, y_zero = zeros or (int(numbers(x_type, ())), int(numbers(y_type, ())))
    w_zero = np.full(channels, 128 if w_type == "uint8" else 0, w_type)
    inputs = {
        "x": numbers(x_type, x_shape),
        "x_scale": np.float32(0.02),
        "x_zero": np.array(x_zero, x_type),
        "w": numbers(w_type, w_shape),
        "w_scale": generator.uniform(0.001, 0.01, channels).astype(np.float32),
        "w_zero": w_zero,
        "y_scale": np.float32(0.02 * 0.005 * 80 * math.sqrt(depth) * steps(x_type) / steps(y_type)),
        "y_zero": np.array(y_zero, y_type),
    }
    if bias == "int32":
        inputs["bias"] = generator.integers(-9000, 9000, w_shape[0]).astype(np.int32)
    elif bias == "float32":
        inputs["bias"] = generator.uniform(-3, 3, w_shape[0]).astype(np.float32)
    return {name: np.asarray(array) for name, array in inputs.items()}

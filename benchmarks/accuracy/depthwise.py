"""A depthwise classifier of digits whose channels are made uneven: no other function, but far harder to quantize."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from benchmarks.accuracy.building import Builder
from benchmarks.accuracy.digits import TRAINED, data, fit, patches, scattered
from benchmarks.accuracy.task import Array, Run, Task, cache_folder

CHANNELS, WIDE = 16, 32

SPREAD = 5.0
"""Channels are scaled by powers of two from -`SPREAD` to `SPREAD`, as the folding of batch normalization may do."""


class UnevenDepthwise(Task):
    """Digits right among those that were not trained on.

    The network is trained, then each channel between its layers is multiplied by a factor of its own, which the weights
    that read it take back. Relu lets factors through, so the float results stay; a range for a whole tensor, of weights
    or activations, is then far too coarse for most channels.
    """

    name: ClassVar[str] = "uneven_depthwise"
    metric: ClassVar[str] = "digits right, %"
    allowed: ClassVar[float] = 1.0
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({"equalizes": True, "corrects_bias": True})
    naive: ClassVar[Mapping[str, Any]] = MappingProxyType({"granularity": "tensor"})

    def model(self) -> Path:
        path = cache_folder() / "uneven_depthwise.onnx"
        if not path.exists():
            _write_model(path)
        return path

    def calibration(self) -> Iterator[dict[str, Array]]:
        for picture in data()[0][:200]:
            yield {"x": picture[None]}

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        pictures, labels = data()
        right = run({"x": pictures[TRAINED:]})["y"].argmax(axis=1) == labels[TRAINED:]
        return {self.metric: 100.0 * float(right.mean())}


def _start() -> dict[str, Array]:
    random = np.random.default_rng(1)
    shapes = {"a": (9, CHANNELS), "d": (CHANNELS, 9), "p": (CHANNELS, WIDE), "c": (16 * WIDE, 10)}
    inputs = {"a": 9, "d": 9, "p": CHANNELS, "c": 16 * WIDE}
    weights = {n: (random.standard_normal(s) * np.sqrt(2 / inputs[n])).astype(np.float32) for n, s in shapes.items()}
    ends = {"a": CHANNELS, "d": CHANNELS, "p": WIDE, "c": 10}
    return weights | {f"{name}_bias": np.zeros(size, np.float32) for name, size in ends.items()}


def _gradients(weights: dict[str, Array], x: Array, labels: Array) -> dict[str, Array]:
    """Of the cross entropy of: convolution, depthwise, pointwise, each with Relu; a mean over 2x2; a linear layer."""
    count = len(x)
    rows_a = patches(x)
    a = np.maximum(rows_a @ weights["a"] + weights["a_bias"], 0)  # (n, 8, 8, channels)
    rows_d = patches(a.transpose(0, 3, 1, 2)).reshape(*a.shape, 9)
    d = np.maximum(np.einsum("nhwck,ck->nhwc", rows_d, weights["d"]) + weights["d_bias"], 0)
    p = np.maximum(d @ weights["p"] + weights["p_bias"], 0)
    pooled = p.reshape(count, 4, 2, 4, 2, WIDE).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(count, -1)
    scores = pooled @ weights["c"] + weights["c_bias"]
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    slope = chances / chances.sum(axis=1, keepdims=True)
    slope[np.arange(count), labels] -= 1
    slope /= count
    found = {"c": pooled.T @ slope, "c_bias": slope.sum(axis=0)}
    back = (slope @ weights["c"].T).reshape(count, WIDE, 4, 4).transpose(0, 2, 3, 1) / 4
    back = np.repeat(np.repeat(back, 2, axis=1), 2, axis=2) * (p > 0)
    found |= {"p": np.tensordot(d, back, ([0, 1, 2], [0, 1, 2])), "p_bias": back.sum(axis=(0, 1, 2))}
    back = (back @ weights["p"].T) * (d > 0)
    found |= {"d": np.einsum("nhwck,nhwc->ck", rows_d, back), "d_bias": back.sum(axis=(0, 1, 2))}
    spread = (back[..., None] * weights["d"]).reshape(*back.shape[:3], -1)
    back = scattered(spread, CHANNELS).transpose(0, 2, 3, 1) * (a > 0)
    return found | {"a": np.tensordot(rows_a, back, ([0, 1, 2], [0, 1, 2])), "a_bias": back.sum(axis=(0, 1, 2))}


def uneven(weights: dict[str, Array], spread: float = SPREAD) -> dict[str, Array]:
    """The weights of the same function with channels of uneven size."""
    random = np.random.default_rng(2)
    first, second = (np.exp2(random.uniform(-spread, spread, CHANNELS)).astype(np.float32) for _ in range(2))
    return weights | {
        "a": weights["a"] * first,
        "a_bias": weights["a_bias"] * first,
        "d": weights["d"] * (second / first)[:, None],
        "d_bias": weights["d_bias"] * second,
        "p": weights["p"] / second[:, None],
    }


def _write_model(path: Path) -> None:
    import onnx

    weights, net = uneven(fit(_start(), _gradients)), Builder()

    def conv(x: str, name: str, kernel: Array, groups: int = 1) -> str:
        pads = [kernel.shape[2] // 2] * 4
        operands = (x, net.constant(kernel), net.constant(weights[f"{name}_bias"]))
        return net.op("Relu", net.op("Conv", *operands, pads=pads, group=groups))

    x = conv("x", "a", weights["a"].T.reshape(-1, 1, 3, 3))
    x = conv(x, "d", weights["d"].reshape(-1, 1, 3, 3), CHANNELS)
    x = conv(x, "p", np.ascontiguousarray(weights["p"].T).reshape(WIDE, CHANNELS, 1, 1))
    x = net.op("Flatten", net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))
    y = net.op("Gemm", x, net.constant(weights["c"]), net.constant(weights["c_bias"]))
    onnx.save(net.model({"x": ("batch", 1, 8, 8)}, {y: ("y", ("batch", 10))}), path)

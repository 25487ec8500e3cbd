"""Small networks to quantize."""

from __future__ import annotations

import numpy as np
import onnx

from mace_core.testing.network import NetworkBuilder


def residual_network(seed: int = 0) -> onnx.ModelProto:
    """x (1, 3, 24, 24) -> y (1, 10): a plain and a depthwise convolution, a residual sum, pools, a classifier."""
    net = NetworkBuilder("residual", (1, 3, 24, 24), seed=seed)
    x = net.op("Relu", net.conv("x", 3, 16, 3))
    y = net.relu6(net.conv(x, 16, 16, 3, group=16))
    x = net.op("Add", x, net.conv(y, 16, 16, 1))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))


def samples(count: int, shape: tuple[int, ...] = (1, 3, 24, 24), seed: int = 0) -> list[np.ndarray]:
    """Normally distributed inputs."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, np.float32) for _ in range(count)]


def sqnr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    """Signal to quantization noise."""
    noise = np.sum((found.astype(np.float64) - wanted) ** 2)
    return float("inf") if noise == 0 else float(10 * np.log10(np.sum(wanted.astype(np.float64) ** 2) / noise))

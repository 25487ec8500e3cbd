"""Models with dimensions that vary from run to run, with seeded weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from mace_core.testing.network import NetworkBuilder

MEL_BANDS = 40
"""Channels of a vocoder's input."""

SLOPE = 0.1
STAGES = ((2, 4, 32), (2, 4, 32), (2, 4, 16), (2, 4, 16), (2, 4, 8), (2, 4, 8))
"""Of the vocoder: (stride, kernel, channels) of each transposed convolution."""

RESIDUAL_KERNELS = (3, 7, 11)
DILATIONS = (1, 3, 5, 7, 9)


class _Vocoder(NetworkBuilder):
    def conv1d(self, x: str, channels: int, filters: int, kernel: int, dilation: int = 1, gain: float = 1.0) -> str:
        weights = self.normal((filters, channels, kernel), gain / math.sqrt(channels * kernel))
        bias = self.normal((filters,), 0.02)
        pad = (kernel - 1) * dilation // 2
        attributes = {"kernel_shape": [kernel], "dilations": [dilation], "pads": [pad, pad]}
        return self.op("Conv", x, self.constant(weights), self.constant(bias), **attributes)

    def upsample(self, x: str, channels: int, filters: int, stride: int, kernel: int) -> str:
        weights = self.normal((channels, filters, kernel), math.sqrt(stride / (channels * kernel)))
        bias = self.normal((filters,), 0.02)
        pad = (kernel - stride) // 2
        attributes = {"kernel_shape": [kernel], "strides": [stride], "pads": [pad, pad]}
        return self.op("ConvTranspose", x, self.constant(weights), self.constant(bias), **attributes)

    def leaky(self, x: str) -> str:
        return self.op("LeakyRelu", x, alpha=SLOPE)

    def residual(self, x: str, channels: int, kernel: int) -> str:
        """A residual block: pairs of convolutions, the first of each with growing dilation."""
        for dilation in DILATIONS:
            inside = self.conv1d(self.leaky(x), channels, channels, kernel, dilation)
            x = self.op("Add", x, self.conv1d(self.leaky(inside), channels, channels, kernel, gain=0.3))
        return x


def vocoder(path: Path) -> Path:
    """Write a vocoder in the style of HiFi-GAN: ``x`` (1, 40, frames) to ``y`` (1, 1, 64 * frames); 485 nodes.

    Source: Kong, Kim and Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech
    Synthesis", 2020.
    """
    net = _Vocoder("vocoder", (1, MEL_BANDS, "frames"), seed=5)
    channels = 64
    x = net.conv1d("x", MEL_BANDS, channels, 7)
    for stride, kernel, filters in STAGES:
        x = net.upsample(net.leaky(x), channels, filters, stride, kernel)
        channels = filters
        blocks = [net.residual(x, channels, kernel) for kernel in RESIDUAL_KERNELS]
        total = blocks[0]
        for block in blocks[1:]:
            total = net.op("Add", total, block)
        x = net.op("Mul", total, net.constant(np.float32(1 / len(blocks))))
    x = net.op("Tanh", net.conv1d(net.leaky(x), channels, 1, 7))
    onnx.save(net.build(x, (1, 1, "samples")), path)
    return path

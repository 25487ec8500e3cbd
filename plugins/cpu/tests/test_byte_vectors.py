"""Kernels of bytes where vectors end, between guarded pages: rows and channels shorter, as long and longer than one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness import FEATURES
from quantized_graphs import Quantizing, check, steps_apart

LENGTHS = (1, 3, 16, 33, pytest.param(65, marks=pytest.mark.full), pytest.param(130, marks=pytest.mark.full))
"""Vectors have 16, 32 or 64 bytes, and 4, 8 or 16 floats."""


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_rows(dtype: str, length: int, features: str | None, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    x, y, one = g.input(2, 3, length), g.input(2, 3, length, scale=0.03), g.input(2, 3, 1, scale=0.03)
    for op, scale in (("Add", 0.1), ("Sub", 0.1), ("Mul", 0.3)):
        g.steps(g.op(op, x, y), scale)
        g.steps(g.op(op, one, x), scale)
    divisor = g.weight(np.arange(1, length + 1, dtype=np.uint8), 0.5, zero=0)
    g.steps(g.op("Div", x, divisor), 0.1)
    least = np.iinfo(dtype).min
    g.steps(g.op("Softmax", x, axis=-1), 1 / 255, least)
    g.steps(g.op("Softmax", x, axis=1), 1 / 255, least)
    for axis in (1, 2):
        g.steps(g.op("ReduceMean", x, g.constant(np.array([axis], np.int64))), 0.05)
    found = check(g, tmp_path, features=features, threads=2)
    assert found.in_float == {}


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", LENGTHS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_channels(dtype: str, channels: int, features: str | None, tmp_path: Path) -> None:
    """The weights bring the picture into the order in which the channels of a pixel lie together."""
    g = Quantizing(dtype)
    rng = np.random.default_rng(channels)
    narrow = rng.integers(-127, 128, (channels, 3, 1, 1)).astype(np.int8)
    x = g.again(g.op("Conv", g.input(2, 3, 3, 5), g.weight(narrow, np.full(channels, 0.004, np.float32), 0)), 0.05)
    g.steps(g.op("GlobalAveragePool", x), 0.02)
    g.steps(g.op("AveragePool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]), 0.03)
    g.steps(g.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), 0.03)
    g.steps(g.op("MaxPool", x, kernel_shape=[2, 2], pads=[0, 1, 1, 0]))
    sizes = g.constant(np.array([2, channels, 7, 4], np.int64))
    g.steps(g.op("Resize", x, "", "", sizes, mode="linear"))
    g.steps(g.op("Concat", x, g.again(g.op("Relu", x)), axis=1))
    g.steps(g.op("HardSwish", x))
    apart = steps_apart(g.model(), g.feeds, tmp_path, features=features, threads=2)
    assert max(apart.values()) <= 1, apart

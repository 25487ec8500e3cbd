"""A small convolutional classifier of handwritten digits (scikit-learn's data), trained here with numpy."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.accuracy.building import Builder
from benchmarks.accuracy.task import Array, Run, Task, cache_folder, package

TRAINED = 1200
EPOCHS, BATCH, RATE = 40, 32, 0.002


class Digits(Task):
    """Digits right among those that were not trained on."""

    name: ClassVar[str] = "digits"
    metric: ClassVar[str] = "digits right, %"
    allowed: ClassVar[float] = 0.5

    def model(self) -> Path:
        path = cache_folder() / "digits.onnx"
        if not path.exists():
            _write_model(path)
        return path

    def calibration(self) -> Iterator[dict[str, Array]]:
        for picture in data()[0][:200]:
            yield {"x": picture[None]}

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        pictures, labels = data()
        tested = zip(pictures[TRAINED:], labels[TRAINED:], strict=True)
        right = [int(run({"x": x[None]})["y"].argmax()) == label for x, label in tested]
        return {self.metric: 100.0 * float(np.mean(right))}


@functools.cache
def data() -> tuple[Array, Array]:
    """Pictures (1797, 1, 8, 8) from 0 to 1 in a fixed order, and labels."""
    folder = package("scikit-learn", "1.5.2") / "sklearn" / "datasets" / "data"
    with gzip.open(folder / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]
    return (table[:, :-1].reshape(-1, 1, 8, 8) / 16).astype(np.float32), table[:, -1].astype(np.int64)


def patches(x: Array) -> Array:
    """(n, c, h, w) -> (n, h, w, c * 9): what a 3x3 convolution with zeros around reads."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(len(x), x.shape[2], x.shape[3], -1)


def scattered(grad: Array, channels: int) -> Array:
    """The transpose of `patches`."""
    count, height, width, _ = grad.shape
    parts = grad.reshape(count, height, width, channels, 3, 3)
    total = np.zeros((count, channels, height + 2, width + 2), np.float32)
    for row in range(3):
        for column in range(3):
            total[:, :, row : row + height, column : column + width] += parts[..., row, column].transpose(0, 3, 1, 2)
    return total[:, :, 1:-1, 1:-1]


def _start() -> dict[str, Array]:
    """Two convolutions, each with Relu, a mean over 2x2, and a linear layer."""
    random = np.random.default_rng(0)
    sizes = {"a": (9, 16), "b": (144, 32), "c": (512, 10)}
    weights = {n: (random.standard_normal(s) * np.sqrt(2 / s[0])).astype(np.float32) for n, s in sizes.items()}
    return weights | {f"{name}_bias": np.zeros(size[1], np.float32) for name, size in sizes.items()}


def fit(
    weights: dict[str, Array], gradients: Callable[[dict[str, Array], Array, Array], dict[str, Array]]
) -> dict[str, Array]:
    """Weights trained in place by Adam on the digits; ``gradients`` gets weights, pictures and labels."""
    random = np.random.default_rng(0)
    first = {name: np.zeros_like(array) for name, array in weights.items()}
    second = {name: np.zeros_like(array) for name, array in weights.items()}
    pictures, labels = data()
    step = 0
    for _ in range(EPOCHS):
        order = random.permutation(TRAINED)
        for start in range(0, TRAINED, BATCH):
            chosen = order[start : start + BATCH]
            step += 1
            for name, grad in gradients(weights, pictures[chosen], labels[chosen]).items():
                first[name] += 0.1 * (grad - first[name])
                second[name] += 0.001 * (grad**2 - second[name])
                rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                weights[name] -= (rate * first[name] / (np.sqrt(second[name]) + 1e-8)).astype(np.float32)
    return weights


def _gradients(weights: dict[str, Array], x: Array, labels: Array) -> dict[str, Array]:
    count = len(x)
    rows_a = patches(x)
    a = np.maximum(rows_a @ weights["a"] + weights["a_bias"], 0)  # (n, 8, 8, 16)
    rows_b = patches(a.transpose(0, 3, 1, 2))
    b = np.maximum(rows_b @ weights["b"] + weights["b_bias"], 0)  # (n, 8, 8, 32)
    pooled = b.reshape(count, 4, 2, 4, 2, 32).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(count, -1)
    scores = pooled @ weights["c"] + weights["c_bias"]
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    slope = chances / chances.sum(axis=1, keepdims=True)
    slope[np.arange(count), labels] -= 1
    slope /= count
    found = {"c": pooled.T @ slope, "c_bias": slope.sum(axis=0)}
    back = (slope @ weights["c"].T).reshape(count, 32, 4, 4).transpose(0, 2, 3, 1) / 4
    back = np.repeat(np.repeat(back, 2, axis=1), 2, axis=2) * (b > 0)
    found |= {"b": np.tensordot(rows_b, back, ([0, 1, 2], [0, 1, 2])), "b_bias": back.sum(axis=(0, 1, 2))}
    back = scattered(back @ weights["b"].T, 16).transpose(0, 2, 3, 1) * (a > 0)
    return found | {"a": np.tensordot(rows_a, back, ([0, 1, 2], [0, 1, 2])), "a_bias": back.sum(axis=(0, 1, 2))}


def _write_model(path: Path) -> None:
    import onnx

    weights, net = fit(_start(), _gradients), Builder()

    def conv(x: str, name: str, channels: int) -> str:
        kernel = weights[name].T.reshape(-1, channels, 3, 3)
        y = net.op("Conv", x, net.constant(kernel), net.constant(weights[f"{name}_bias"]), pads=[1, 1, 1, 1])
        return net.op("Relu", y)

    x = conv(conv("x", "a", 1), "b", 16)
    x = net.op("Flatten", net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))
    y = net.op("Gemm", x, net.constant(weights["c"]), net.constant(weights["c_bias"]))
    onnx.save(net.model({"x": ("batch", 1, 8, 8)}, {y: ("y", ("batch", 10))}), path)

"""Trains a small classifier of handwritten digits in float, then with quantization, exports it and runs it here.

Needs the extra ``qat`` and scikit-learn, which has the digits.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torchao.quantization.pt2e import disable_observer, move_exported_model_to_eval, move_exported_model_to_train

import mace_core as mace
from mace_core.quantization.qat import export_onnx, prepare

TRAINED = 1400
"""Digits that are learned from; the other 397 are only looked at afterwards."""


class Block(nn.Module):
    """A convolution, a depthwise one, and a way around both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.dense_norm = nn.BatchNorm2d(channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.relu6(self.dense_norm(self.dense(x)))
        return torch.relu(x + self.depthwise_norm(self.depthwise(y)))


def make_network() -> nn.Module:
    """Digits (n, 1, 8, 8) become scores (n, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, epochs: int, rate: float) -> None:
    """The usual loop."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(path: Path) -> None:
    """Train, export to ``path``, run."""
    torch.manual_seed(0)
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    labels = torch.tensor(digits)
    unseen = images[TRAINED:], digits[TRAINED:]

    network = make_network()
    train(network, images[:TRAINED], labels[:TRAINED], epochs=20, rate=3e-3)
    network.eval()
    with torch.no_grad():
        scores = network(unseen[0])
    say(f"float, torch:     {accuracy(scores.numpy(), unseen[1]):.1f} % of {len(unseen[1])} digits right")

    example = (images[:4],)
    rounded = prepare(network.train(), example)
    move_exported_model_to_train(rounded)
    train(rounded, images[:TRAINED], labels[:TRAINED], epochs=5, rate=3e-4)
    rounded.apply(disable_observer)  # from here on ranges stay as they are
    move_exported_model_to_eval(rounded)
    with torch.no_grad():
        scores = rounded(unseen[0])
    say(f"quantized, torch: {accuracy(scores.numpy(), unseen[1]):.1f} %")

    export_onnx(rounded, example, path, input_names=["image"], output_names=["scores"])
    with mace.Session(path, devices=["cpu"], strict=True) as session:
        found = session.run({"image": unseen[0].numpy()})["scores"]
    say(f"quantized, mace:  {accuracy(found, unseen[1]):.1f} %, {path.stat().st_size / 1024:.0f} KiB")
    step = np.diff(np.unique(found)).min()
    apart = np.abs(found - scores.numpy()) / step
    say(f"{(apart < 0.5).mean():.1%} of the scores are as in torch, none is more than {apart.max():.0f} steps off")


def say(line: str) -> None:
    """A line for the reader, at once."""
    print(line, flush=True)  # noqa: T201


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of the rows whose largest score is the label's."""
    return 100 * float((scores.argmax(1) == labels).mean())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits_int8.onnx"))

"""Trains a classifier of digits, prunes it to 2:4, trains it further, in float and in integers, and runs it.

Needs the extra ``qat`` and scikit-learn, which has the digits.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torchao.quantization.pt2e import disable_observer, move_exported_model_to_eval, move_exported_model_to_train

import mace_core as mace
from mace_core.quantization import quantize
from mace_core.quantization.qat import export_onnx, prepare
from mace_core.sparsity import Pattern, prune
from mace_core.sparsity.training import HeldPattern, hold_pattern

TRAINED = 1200
"""Digits that are learned from; the other 597 are only looked at afterwards."""

EXAMPLE = torch.zeros(4, 1, 8, 8)


def make_network() -> nn.Module:
    """Digits (n, 1, 8, 8) become scores (n, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def train(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    rate: float,
    held: HeldPattern | None = None,
) -> None:
    """The usual loop."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    if held is not None:
        held.follow(optimizer)  # all that is new
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(folder: Path, pattern: Pattern) -> None:
    """Train, prune, train further, export to ``folder``, run."""
    torch.manual_seed(0)
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    labels = torch.tensor(digits)
    learned = images[:TRAINED], labels[:TRAINED]
    unseen = images[TRAINED:].numpy(), digits[TRAINED:]
    say(f"2:4 shared by {pattern.shared}; {len(unseen[1])} digits that were not learned from")

    network = make_network()
    train(network, *learned, epochs=12, rate=3e-3)
    report("dense", save(network, folder / "dense.onnx"), unseen)

    held = hold_pattern(network, pattern)
    report("pruned", save(network, folder / "pruned.onnx"), unseen)

    train(network.train(), *learned, epochs=6, rate=1e-3, held=held)
    tuned = save(network, folder / "tuned.onnx")
    small = folder / "sparse.onnx"
    prune(tuned, small, pattern=pattern)  # its zeros are where they should be: this only stores the rest
    report("fine-tuned", small, unseen)

    rounded = prepare(network.train(), (EXAMPLE,))
    move_exported_model_to_train(rounded)
    train(rounded, *learned, epochs=4, rate=3e-4, held=held)
    rounded.apply(disable_observer)
    move_exported_model_to_eval(rounded)
    trained = export_onnx(rounded, (EXAMPLE,), folder / "sparse_int8.onnx", input_names=["image"])
    report("fine-tuned, int8 in training", trained, unseen)

    after = folder / "sparse_ptq.onnx"
    quantize(small, after, data=[image[None] for image in images[:256].numpy()])
    report("fine-tuned, int8 afterwards", after, unseen)


def save(network: nn.Module, path: Path) -> Path:
    """A float model as ONNX."""
    program = torch.onnx.export(
        network.eval(),
        (EXAMPLE,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["image"],
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    return path


def report(what: str, path: Path, unseen: tuple[np.ndarray, np.ndarray]) -> None:
    """Accuracy, size, and how many layers leave zeros out."""
    images, digits = unseen
    with mace.Session(path, devices=["cpu"], strict=True) as session:
        scores = run_all(lambda batch: next(iter(session.run({"image": batch}).values())), images)
        steps = [span.name for span in session.profile({"image": images[:4]}).spans]
    right = 100 * float((scores.argmax(1) == digits).mean())
    sparse = sum("sparse" in step for step in steps)
    say(f"{what:<29} {right:5.1f} % right, {path.stat().st_size / 1024:4.0f} KiB, {sparse} sparse layers")


def run_all(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Results for all images, a few at a time."""
    return np.concatenate([run(images[at : at + 4]) for at in range(0, len(images), 4)])


def say(line: str) -> None:
    """A line for the reader, at once."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    where = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    main(where, Pattern(2, 4, shared=int(sys.argv[2]) if len(sys.argv) > 2 else 32))

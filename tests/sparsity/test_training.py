"""A pattern held in training: zeros stay where they are, in float and with quantization, and the result runs sparse.

Runs where the extra ``qat`` is installed, which the default set-up leaves out: torch is large.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.sparsity import Pattern
from mace_core.sparsity.patterns import has_pattern

torch = pytest.importorskip("torch", reason="needs the extra qat")
pytest.importorskip("torchao", reason="needs the extra qat")
pytest.importorskip("onnxscript", reason="needs the extra qat")

from torch import nn  # noqa: E402
from torchao.quantization.pt2e import (  # noqa: E402
    disable_observer,
    move_exported_model_to_eval,
    move_exported_model_to_train,
)

from mace_core.quantization.qat import MaceQuantizer, export_onnx, prepare  # noqa: E402
from mace_core.sparsity.training import HeldPattern, hold_pattern  # noqa: E402

SHARED, OWN = Pattern(2, 4, shared=32), Pattern(2, 4, shared=1)


def _network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, groups=64),
        nn.Conv2d(64, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 64),
        nn.Linear(64, 7),
    )


def _train(model: Any, held: HeldPattern, steps: int = 3) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=1e-3)
    held.follow(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 14, 14)).square().mean().backward()
        optimizer.step()


def _by_taps(weights: Any) -> Any:
    array = weights.detach().numpy()
    return array.reshape(*array.shape[:2], -1).transpose(0, 2, 1)


@pytest.mark.parametrize("pattern", [SHARED, OWN], ids=["shared", "own"])
def test_training_leaves_the_zeros_in_place(pattern: Pattern) -> None:
    network = _network()
    held = hold_pattern(network, pattern)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    _train(network.train(), held)
    assert {"2.weight", "5.weight", "8.weight", "11.weight"} <= set(held.masks)
    for name, mask in held.masks.items():
        after = network.get_parameter(name)
        assert not torch.equal(after, before[name]), "it was trained"
        assert (after[mask == 0] == 0).all() and (mask == 0).float().mean() == 0.5
        by_tap = Pattern(2, 4, pattern.shared, by_tap=name == "5.weight")
        assert has_pattern(_by_taps(after), by_tap), name


def test_only_layers_that_gain_are_pruned() -> None:
    held = hold_pattern(_network(), SHARED, exclude=["8"])
    assert held.dense == {
        "0": "only 3 inputs",
        "7": "grouped",
        "8": "excluded",
        "12": "only 7 outputs, fewer than share a pattern",
    }


def test_zeros_come_back_by_hand() -> None:
    network = _network()
    held = hold_pattern(network, SHARED)
    with torch.no_grad():
        network.get_parameter("2.weight").add_(1)
    held.apply()
    assert (network.get_parameter("2.weight")[held.masks["2.weight"] == 0] == 0).all()


@pytest.mark.parametrize("pattern", [SHARED, OWN], ids=["shared", "own"])
def test_with_quantization_it_runs_here_as_it_was_trained(pattern: Pattern, tmp_path: Path) -> None:
    """Normalizations are part of convolutions then, and weights are scaled: zeros stay zeros."""
    network = _network()
    held = hold_pattern(network, pattern)
    images = torch.randn(4, 3, 14, 14)
    graph = prepare(network.train(), (images,), MaceQuantizer())
    move_exported_model_to_train(graph)
    _train(graph, held)
    for name, mask in held.masks.items():
        assert (network.get_parameter(name)[mask == 0] == 0).all()
    graph.apply(disable_observer)
    move_exported_model_to_eval(graph)
    with torch.no_grad():
        expected = graph(images).numpy()
    path = export_onnx(graph, (images,), tmp_path / "model.onnx", input_names=["x"], output_names=["y"])
    with mace.Session(path, devices=["cpu"], strict=True) as session:
        found = session.run({"x": images.numpy()})["y"]
        steps = [span.name for span in session.profile({"x": images.numpy()}).spans]
    assert np.abs(found - expected).max() < 1.5 * np.diff(np.unique(expected)).min()
    assert any("sparse" in step for step in steps) == (pattern is SHARED), steps
    stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    packed = [tensor for name, tensor in stored.items() if name.endswith("_rows")]
    assert bool(packed) == (pattern is SHARED), list(stored)
    onnx.checker.check_model(str(path), full_check=True)


def test_what_cannot_be_held_is_refused() -> None:
    with pytest.raises(UsageError, match="no layer of the module can have the pattern 2:4 shared by 512"):
        hold_pattern(_network(), Pattern(2, 4, shared=512))
    held = hold_pattern(_network(), SHARED)
    with pytest.raises(UsageError, match="none of the weights that have a pattern"):
        held.follow(torch.optim.SGD(_network().parameters(), 0.1))

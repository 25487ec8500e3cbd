"""Quantization-aware training: what is trained, what is exported and what runs here are the same numbers.

Runs where the extra ``qat`` is installed, which the default set-up leaves out: torch is large.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import mace_core as mace
from mace_core.errors import UsageError

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


class _Join(nn.Module):
    """Two ways that meet in a Concat and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = torch.relu(self.left(x)), torch.sigmoid(self.right(x))
        return torch.cat([left + x, left * right], 1)


class _Attention(nn.Module):
    """Tokens mixed by a softmax, then LayerNorm, which has no integer form."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.norm = nn.Linear(12, 12), nn.Linear(12, 12), nn.LayerNorm(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.matmul(self.query(x), self.key(x).transpose(1, 2))
        return nn.functional.gelu(self.norm(torch.matmul(torch.softmax(scores, -1), x)))


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "convolutions with norms": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, groups=8, padding=1),
            nn.BatchNorm2d(8),
            nn.Hardswish(),
            nn.ConvTranspose2d(8, 4, 2, stride=2),
            nn.LeakyReLU(),
        ),
        (3, 11, 9),
    ),
    "residuals and joins": (
        nn.Sequential(nn.Conv2d(2, 8, 3), _Join(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (2, 10, 10),
    ),
    "attention": (_Attention(), (5, 12)),
}


def _trained(model: nn.Module, shape: tuple[int, ...], quantizer: MaceQuantizer | None = None) -> tuple[object, object]:
    """A graph trained for three steps, and inputs it has not seen."""
    torch.manual_seed(3)
    batches = torch.randn(4, 6, *shape)
    graph = prepare(model.train(), (batches[0],), quantizer)
    move_exported_model_to_train(graph)
    optimizer = torch.optim.SGD(graph.parameters(), 1e-2)
    for batch in batches[:3]:
        optimizer.zero_grad()
        graph(batch).square().mean().backward()
        optimizer.step()
    graph.apply(disable_observer)
    move_exported_model_to_eval(graph)
    return graph, batches[3]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_trained_is_what_runs(name: str, tmp_path: Path) -> None:
    model, shape = NETWORKS[name]
    graph, batch = _trained(model, shape)
    with torch.no_grad():
        expected = graph(batch).numpy()
    path = export_onnx(graph, (batch,), tmp_path / "model.onnx", input_names=["x"], output_names=["y"])
    with mace.Session(path, devices=["cpu"], strict=True) as session:
        for count in (6, 1):
            found = session.run({"x": batch[:count].numpy()})["y"]
            steps = np.abs(found - expected[:count]) / np.diff(np.unique(expected)).min()
            assert steps.max() < 1.5
            assert (steps < 0.5).mean() > 0.97
    assert len(np.unique(expected)) > 20


def test_every_weight_is_stored_in_a_byte(tmp_path: Path) -> None:
    model, shape = NETWORKS["convolutions with norms"]
    graph, batch = _trained(model, shape)
    stored = onnx.load(export_onnx(graph, (batch,), tmp_path / "model.onnx"))
    types = {tensor.data_type for tensor in stored.graph.initializer if len(tensor.dims) == 4}
    assert types == {onnx.TensorProto.INT8}


def test_excluded_modules_stay_in_float(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    graph, batch = _trained(model, (2, 5, 5), MaceQuantizer(exclude=["2"]))
    stored = onnx.load(export_onnx(graph, (batch,), tmp_path / "model.onnx"))
    makers = {name: node.op_type for node in stored.graph.node for name in node.output}
    first, second = (node for node in stored.graph.node if node.op_type == "Conv")
    assert makers.get(first.input[1]) == "DequantizeLinear"
    assert second.input[1] not in makers


def test_a_model_in_evaluation_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="training mode"):
        prepare(nn.Linear(2, 2).eval(), (torch.zeros(2, 2),))


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        prepare(nn.Linear(2, 2), (torch.zeros(1, 2),))


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, batch = _trained(nn.Linear(3, 3), (3,))
    old = tmp_path / "model.onnx"
    old.write_text("before")

    def full(program: object, path: str, **options: object) -> None:
        Path(path).write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", full)
    with pytest.raises(OSError, match="no space"):
        export_onnx(graph, (batch,), old)
    assert old.read_text() == "before"
    assert list(tmp_path.iterdir()) == [old]

"""PyTorch: modules and saved programs give what torch computes, and every node knows its layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mace_core as mace
from mace_core import Session
from mace_core.errors import ModelError, UsageError
from mace_core.frontend import load_model

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'mace-core[torch]'")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'mace-core[torch]'")
pytestmark = pytest.mark.full


class Block(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(channels)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.norm(self.conv(x))) + x


class Net(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.layers = torch.nn.Sequential(Block(8), Block(8))
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    return Net().eval()


def expected(net: Any, x: Any) -> Any:
    with torch.no_grad():
        return net(x).numpy()


def test_a_module_with_an_example(net: Any) -> None:
    x = torch.randn(4, 3, 32, 32)
    net.train()
    graph = mace.load_model(net, x[:2], dynamic_shapes={"x": {0: "batch"}})
    assert net.training
    net.eval()
    assert graph.inputs[0].type is not None
    assert str(graph.inputs[0].type) == "float32[batch, 3, 32, 32]"
    with Session(graph) as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(found, expected(net, x), rtol=1e-4, atol=1e-5)


def test_a_saved_program_is_exported_in_a_process_of_its_own(net: Any, tmp_path: Path) -> None:
    x = torch.randn(2, 3, 32, 32)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    graph = load_model(tmp_path / "net.pt2")
    assert graph.metadata["mace.exported_by"].startswith("torch.onnx of torch ")
    assert graph.source_path == str(tmp_path / "net.pt2")
    layers = {graph.origins[name].module for name in graph.origins}
    assert {"stem", "layers.1", "head"} <= layers
    stem = next(node for node in graph.nodes if (origin := graph.origin_of(node)) and origin.module == "stem")
    origin = graph.origin_of(stem)
    assert origin is not None
    assert (Path(origin.file).name, origin.code) == (
        Path(__file__).name,
        "return self.head(self.layers(self.stem(x)).mean((2, 3)))",
    )
    with Session(tmp_path / "net.pt2") as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(found, expected(net, x), rtol=1e-4, atol=1e-5)
    assert load_model((tmp_path / "net.pt2").read_bytes()).source_path is None


def test_a_module_without_an_example_and_a_model_that_cannot_be_exported(tmp_path: Path) -> None:
    class Data(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x  # decided by data

    with pytest.raises(UsageError, match="give example_inputs"):
        load_model(Net())
    with pytest.raises(ModelError, match="the Data cannot be exported to ONNX: "):
        load_model(Data(), torch.ones(2))
    bad = tmp_path / "bad.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.ones(1, 3, 8, 8),)), bad)
    content = bytearray(bad.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    bad.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.pt2"):
        load_model(bad)


def test_a_checkpoint_has_no_graph(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="PyTorch checkpoint: it has weights and no graph"):
        load_model(tmp_path / "net.pt")

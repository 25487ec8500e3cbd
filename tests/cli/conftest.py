"""The `mace` command as users run it, in processes of its own, on models made here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from forking import Commands

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """What runs commands."""
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture
def mace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands) -> Mace:
    """``mace("run", "model.onnx", …)`` in ``tmp_path`` with a cache of its own; the plugins are the core's alone.

    ``plugins="cpu"`` allows others; what those compile is kept for all tests.
    """
    compiled, cache = Path(os.environ["MACE_CACHE_DIR"]) / "kernels", tmp_path / "cache"
    monkeypatch.setenv("MACE_CACHE_DIR", str(cache))

    def run(*arguments: str, plugins: str = "reference", timeout: float = 240) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("MACE_PLUGINS", plugins)
        if plugins == "cpu" and not (cache / "kernels").exists():
            for folder in (cache, compiled):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (cache / "kernels").symlink_to(compiled, target_is_directory=True)
        return commands.run(arguments, tmp_path, timeout)

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``y = Relu(x @ w + b)`` with x float32 ["n", 3]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    w = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["t"], name="product"),
            helper.make_node("Relu", ["t"], ["y"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array([1, -100], np.float32), "b")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def picture_model(tmp_path: Path) -> Path:
    """``y = Identity(x)`` with x float32 [1, 3, 4, 6]."""
    import onnx
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 6]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "picture", info[:1], info[1:])
    path = tmp_path / "picture.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path

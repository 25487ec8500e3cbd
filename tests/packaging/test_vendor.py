"""A vendor outside the tree: its wheel is installed beside ours, used, and removed again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VENDOR = Path(__file__).resolve().parents[2] / "examples" / "vendor_plugin"

SCRIPT = """
import json, sys
import numpy as np
import mace_core as mace
model, feed, *devices = sys.argv[1:]
with mace.Session(model, devices=devices, strict=True) as session:
    outputs = session.run({"x": np.load(feed)})
    placed = {node.node: node.device for node in session.explain().nodes}
print(json.dumps({"outputs": {name: array.tolist() for name, array in outputs.items()}, "placed": placed}))
"""


def build_vendor(folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(VENDOR)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.iterdir()
    return wheel


def write_model(path: Path) -> None:
    """MatMul, Erf, Add, Relu, LogSoftmax: some for the accelerator, some not, alternating."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="project"),
        helper.make_node("Erf", ["a"], ["b"], name="bend"),
        helper.make_node("Add", ["b", "a"], ["c"], name="residual"),
        helper.make_node("Relu", ["c"], ["d"], name="rectify"),
        helper.make_node("LogSoftmax", ["d"], ["y"], name="normalize"),
    ]
    weights = numpy_helper.from_array(rng.uniform(-1, 1, (6, 9)).astype(np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 9])]
    graph = helper.make_graph(nodes, "mixed", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_vendor_wheel_joins_and_leaves(
    wheels: dict[str, Path], wheel_environment: Callable[..., Callable[..., object]], tmp_path: Path
) -> None:
    vendor = build_vendor(tmp_path / "vendor")
    run = wheel_environment(wheels["mace-core"], wheels["mace-cpu"], vendor)
    model, feed, script = tmp_path / "mixed.onnx", tmp_path / "x.npy", tmp_path / "script.py"
    write_model(model)
    np.save(feed, np.random.default_rng(1).uniform(-1, 1, (4, 6)).astype(np.float32))
    script.write_text(SCRIPT, encoding="utf-8")

    def outcome(*devices: str) -> dict[str, dict]:
        done = run("python", str(script), str(model), str(feed), *devices)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    both = outcome("acme:sim0", "cpu")
    assert both["placed"] == {
        "project": "acme:sim0",
        "bend": "cpu:0",
        "residual": "acme:sim0",
        "rectify": "acme:sim0",
        "normalize": "cpu:0",
    }
    again = outcome("acme:sim0", "cpu")  # from the stored programs
    assert again == both

    removed = run("python", "-m", "pip", "uninstall", "-q", "-y", "acme-npu")
    assert removed.returncode == 0, removed.stderr
    alone = outcome("cpu")
    assert set(alone["placed"].values()) == {"cpu:0"}
    np.testing.assert_allclose(alone["outputs"]["y"], both["outputs"]["y"], atol=1e-6)
    refused = run("python", str(script), str(model), str(feed), "acme:sim0")
    assert refused.returncode != 0
    assert "acme" in refused.stderr

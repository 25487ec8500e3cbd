"""`mace validate` and `mace run --check-numerics` as users type them."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

Mace = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.usefixtures("model")


def save(graph: onnx.GraphProto, path: Path) -> None:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_device_that_agrees(mace: Mace, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 2, 3]], np.float32))
    done = mace("validate", "model.onnx", "--input", "x=x.npy", "--device", "cpu", plugins="cpu")
    assert done.returncode == 0, done.stderr
    assert "'model.onnx' on cpu:0 (2 nodes), against reference" in done.stdout
    assert "ok: everything compared agrees with reference within 0.001 of the range" in done.stdout
    assert "product" not in done.stdout


def test_layers_and_nodes_by_themselves(mace: Mace, tmp_path: Path) -> None:
    done = mace(
        "validate", "model.onnx", "--random", "--shape", "4x3", "--device", "cpu", "--layers", "--isolated",
        "--picture", "layers.svg", "--json-file", "layers.json", plugins="cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["product"][1:6] == ["Gemm", "cpu:0", "t", "float32[4,", "2]"]
    assert "note: every value is kept" in done.stdout
    xml.etree.ElementTree.parse(tmp_path / "layers.svg")
    data = json.loads((tmp_path / "layers.json").read_text())
    assert [layer["node"] for layer in data["layers"]] == ["product", "relu"]
    assert data["good"] is True and data["first"] is None


def test_what_differs_by_more_than_allowed_gives_exit_code_3(mace: Mace, tmp_path: Path) -> None:
    """No error at all is allowed, and a long sum in another order has one."""
    random = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(random.standard_normal((4000, 3)).astype(np.float32), "w")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="long sum")
    save(helper.make_graph([product], "g", info[:1], info[1:], [weights]), tmp_path / "long.onnx")
    done = mace(
        "validate", "long.onnx", "--random", "--shape", "50x4000", "--device", "cpu", "--layers", "--tolerance", "0",
        "--picture", "page.html", plugins="cpu",
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "DIVERGES: the first value that differs from reference by more than 0 of the range is 'y' of" in done.stdout
    assert "the node itself is wrong" in done.stdout
    assert any(line.lstrip().startswith("!") for line in done.stdout.splitlines())
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_options_of_providers_are_what_is_compared(mace: Mace, tmp_path: Path) -> None:
    """Sums of 4000 products of 8-bit operands are off by more than those of float32."""
    random = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(random.standard_normal((4000, 32)).astype(np.float32), "w")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    save(helper.make_graph([product], "g", info[:1], info[1:], [weights]), tmp_path / "long.onnx")
    line = ("validate", "long.onnx", "--random", "--shape", "50x4000", "--device", "cpu", "--tolerance", "1e-4")
    assert mace(*line, plugins="cpu").returncode == 0
    rounded = ("--option", "cpu.precision=bfloat16", "--option", "cpu.features=host+bf16-emulated")
    done = mace(*line, *rounded, plugins="cpu")
    assert done.returncode == 3, done.stdout + done.stderr
    done = mace(*line, "--option", "cpu.precision=float99", plugins="cpu")
    assert done.returncode == 2
    assert "float99" in done.stderr


def quantized_product(path: Path) -> None:
    """``y = x @ w`` with a long sum, whose numbers have 8 bits, and weights that have more."""
    constants = {
        "w": np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32),
        "fine": np.float32(1 / 255),
        "coarse": np.float32(0.02),
        "zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "fine", "zero"], ["q_x"]),
        helper.make_node("DequantizeLinear", ["q_x", "fine", "zero"], ["real_x"]),
        helper.make_node("MatMul", ["real_x", "w"], ["product"], name="long sum"),
        helper.make_node("QuantizeLinear", ["product", "coarse", "zero"], ["q_y"]),
        helper.make_node("DequantizeLinear", ["q_y", "coarse", "zero"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    initializers = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    save(helper.make_graph(nodes, "g", info[:1], info[1:], initializers), path)


def test_layers_of_a_quantized_model_are_compared_in_steps(mace: Mace, tmp_path: Path) -> None:
    quantized_product(tmp_path / "quantized.onnx")
    line = ("validate", "quantized.onnx", "--random", "--shape", "50x4000", "--device", "cpu", "--layers")
    done = mace(*line, "--against", "onnxruntime", "--json-file", "steps.json", plugins="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok: each of 2 quantized values is within 1 step of what onnxruntime makes of the values before it" in (
        done.stdout
    )
    assert "quantized values, each computed from ours before it, those furthest off first:" in done.stdout
    layers = {layer["output"]: layer for layer in json.loads((tmp_path / "steps.json").read_text())["layers"]}
    assert layers["q_y"]["op"] == "MatMul" and layers["q_y"]["steps"]["worst"] <= 1


def test_a_layer_that_is_more_than_a_step_off_gives_exit_code_3(mace: Mace, tmp_path: Path) -> None:
    """Sums in bfloat16 do not keep the steps."""
    quantized_product(tmp_path / "quantized.onnx")
    rough = ("--option", "cpu.integers=false", "--option", "cpu.precision=bfloat16")
    done = mace(
        "validate", "quantized.onnx", "--random", "--shape", "50x4000", "--device", "cpu", "--layers", *rough,
        "--option", "cpu.features=host+bf16-emulated", "--picture", "steps.svg", plugins="cpu",
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "DIVERGES: 1 of 3 layers are more than 1 step off what reference makes of the values before them" in (
        done.stdout
    )
    marked = [row for row in done.stdout.splitlines() if row.lstrip().startswith("!")]
    assert len(marked) == 1 and "long sum" in marked[0]
    assert "steps of the quantization" in (tmp_path / "steps.svg").read_text()


def test_json_alone_on_standard_output(mace: Mace) -> None:
    done = mace("validate", "model.onnx", "--random", "--device", "cpu", "--layers", "--json", plugins="cpu")
    assert len(json.loads(done.stdout)["layers"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--picture", "layers.gif"), "must end in .svg or .html"),
        (("--picture", "nowhere/layers.svg"), "there is no folder 'nowhere'"),
        (("--json-file", "nowhere/layers.json"), "there is no folder 'nowhere'"),
        (("--against", "zap"), "zap"),
        (("--tolerance", "-1"), "tolerance"),
        (("--device", "zap"), "zap"),
    ],
)
def test_wrong_usage_is_told(mace: Mace, arguments: tuple[str, ...], words: str) -> None:
    done = mace("validate", "model.onnx", "--random", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("mace: error: ") == 1 and words in done.stderr


def test_run_stops_at_the_first_value_that_is_not_finite(mace: Mace, tmp_path: Path) -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    nodes = [helper.make_node("Log", ["x"], ["l"], name="log"), helper.make_node("Relu", ["l"], ["y"], name="relu")]
    save(helper.make_graph(nodes, "g", info[:1], info[1:]), tmp_path / "log.onnx")
    np.save(tmp_path / "zero.npy", np.array([1, 0], np.float32))
    np.save(tmp_path / "minus.npy", np.array([1, -1], np.float32))
    assert mace("run", "log.onnx", "-i", "zero.npy", plugins="cpu").returncode == 0
    assert mace("run", "log.onnx", "-i", "zero.npy", "--check-nan", plugins="cpu").returncode == 0
    done = mace("run", "log.onnx", "-i", "zero.npy", "--check-numerics", plugins="cpu")
    assert done.returncode == 1
    assert "'log.onnx': node 'log' (Log) on cpu:0 computed 1 infinity among the 2 values of" in done.stderr
    done = mace("run", "log.onnx", "-i", "minus.npy", "--check-nan", plugins="cpu")
    assert done.returncode == 1
    assert "computed 1 NaN" in done.stderr

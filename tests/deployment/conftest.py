"""Deployment files for a trained classifier of MobileNet's kind, and for small models, in folders of their own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from mace_core.cli.main import main

INPUT, OUTPUT = "x", "save_infer_model/scale_0.tmp_1"

Convert = Callable[..., dict[str, Any]]
"""Converts a deployment with options; what `mace convert --json` printed."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder: Path) -> Path:
    """PP-OCR's classifier of the direction of text: MobileNetV3 with x[n, 3, h, w] and two classes."""
    pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")
    package = importlib.util.find_spec("rapidocr_onnxruntime")
    if package is None or not package.submodule_search_locations:
        pytest.skip("rapidocr-onnxruntime is not installed: its classifier is converted")
    source = Path(package.submodule_search_locations[0]) / "models" / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    return Path(shutil.copy(source, folder / "mobilenet_v1.onnx"))


@pytest.fixture
def deployment(model: Path) -> dict[str, Any]:
    """What a deployment file of the classifier says."""
    graph = {
        "input_tensors": [INPUT],
        "input_shapes": ["1,48,192,3"],
        "output_tensors": [OUTPUT],
        "output_shapes": ["1,2"],
    }
    return _deployment("mobilenet", "mobilenet_v1", model, graph)


@pytest.fixture
def small(folder: Path) -> dict[str, Any]:
    """Of a model in the folder: ``a = Conv(x)``, ``b = Relu(a)``, ``y = b + 1``, x[n, 3, 8, 8]."""
    pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")
    random = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(random.standard_normal((16, 3, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(np.float32(1), "one"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Add", ["b", "one"], ["y"], name="add"),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 8, 8]),
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
    path = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    keys = {"input_tensors": ["x"], "input_shapes": ["1,8,8,3"], "output_tensors": ["y"], "output_shapes": ["1,8,8,16"]}
    return _deployment("small", "small", path, keys)


def _deployment(library: str, name: str, model: Path, graph: dict[str, Any]) -> dict[str, Any]:
    return {
        "library_name": library,
        "target_abis": ["arm64-v8a"],
        "model_graph_format": "file",
        "model_data_format": "file",
        "models": {
            name: {
                "platform": "onnx",
                "model_file_path": model.name,
                "model_sha256_checksum": hashlib.sha256(model.read_bytes()).hexdigest(),
                "subgraphs": [graph],
                "runtime": "cpu",
                "quantize": 0,
                "winograd": 0,
            }
        },
    }


def model_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """What it says of its one model."""
    (found,) = deployment["models"].values()
    assert isinstance(found, dict)
    return found


def graph_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """What it says of the one graph of its one model."""
    (found,) = model_of(deployment)["subgraphs"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def convert(folder: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """Converts what a file is to say, without building libraries."""

    def run(content: dict[str, Any], *options: str, code: int = 0) -> dict[str, Any]:
        path = folder / "some.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        capsys.readouterr()
        ended = main(["convert", "--config", "some.yml", "--no-libraries", "--json", *options])
        printed = capsys.readouterr()
        assert ended == code, printed.err
        found = json.loads(printed.out)
        assert isinstance(found, dict)
        return found

    return run

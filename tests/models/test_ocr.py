"""PP-OCRv4: dynamic height and width in one session, no node outside the cpu provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mace_core.testing.models import PP_OCR_CLS, PP_OCR_DET, PP_OCR_REC, find_packaged_model


def page(height: int, width: int) -> np.ndarray:
    """The sample page of the OCR example at another size, as the detector wants it: without text on the picture its
    output is next to zero everywhere, and the range of the output no measure."""
    with Image.open(Path(__file__).parents[2] / "examples" / "ocr" / "page.png") as image:
        scaled = np.asarray(image.convert("RGB").resize((width, height)), np.float32) / 255
    normalized = (scaled - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return np.ascontiguousarray(normalized.transpose(2, 0, 1)[None], np.float32)


def test_detection_at_three_sizes_in_one_session(agree_with_onnxruntime) -> None:
    sizes = [(320, 480), (480, 736), (640, 960)]
    runs = [{"x": page(h, w)} for h, w in sizes]
    ran = agree_with_onnxruntime(find_packaged_model(*PP_OCR_DET), runs)
    assert all(float(next(iter(r.values())).max()) > 0.9 for r in ran["results"]), "text is found"
    assert [next(iter(r.values())).shape[2:] for r in ran["results"]] == sizes


def test_recognition_at_three_widths_in_one_session(agree_with_onnxruntime, picture) -> None:
    runs = [{"x": picture(48, width, seed)} for seed, width in enumerate((320, 160, 501))]
    agree_with_onnxruntime(find_packaged_model(*PP_OCR_REC), runs)


def test_recognition_of_a_batch(agree_with_onnxruntime, picture) -> None:
    batch = np.concatenate([picture(48, 192, seed) for seed in range(3)])
    agree_with_onnxruntime(find_packaged_model(*PP_OCR_REC), [{"x": batch}])


@pytest.mark.parametrize("batch", [1, 2])
def test_orientation(agree_with_onnxruntime, picture, batch: int) -> None:
    images = np.concatenate([picture(48, 192, seed) for seed in range(batch)])
    agree_with_onnxruntime(find_packaged_model(*PP_OCR_CLS), [{"x": images}])

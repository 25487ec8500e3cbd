"""PP-OCRv4: dynamic height and width in one session, no node outside the cpu provider."""

from __future__ import annotations

import numpy as np
import pytest

from mace_core.testing.models import PP_OCR_CLS, PP_OCR_DET, PP_OCR_REC, find_packaged_model


def test_detection_at_three_sizes_in_one_session(agree_with_onnxruntime, picture) -> None:
    sizes = [(320, 320), (480, 640), (736, 416)]
    runs = [{"x": picture(h, w, seed)} for seed, (h, w) in enumerate(sizes)]
    ran = agree_with_onnxruntime(find_packaged_model(*PP_OCR_DET), runs)
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

"""Whole models whose sizes vary from run to run: few plans serve all, and results are onnxruntime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.shapes.models import vocoder
from mace_core import Session
from mace_core.errors import UsageError
from mace_core.testing import models


def _check(caplog: pytest.LogCaptureFixture, path: Path, shapes: list[tuple[int, ...]], plans: int) -> None:
    judge = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = judge.get_inputs()[0].name
    random = np.random.default_rng(1)
    caplog.set_level("INFO", "mace")
    with Session(path, devices=["cpu"], strict=True, options={"cpu": {"threads": 2}}) as session:
        for shape in shapes:
            x = random.standard_normal(shape, dtype=np.float32)
            (expected,) = judge.run(None, {name: x})
            (found,) = session.run({name: x}).values()
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=str(shape))
    compiled = [record for record in caplog.records if "compiled in" in record.getMessage()]
    assert len(compiled) <= plans, [record.getMessage() for record in compiled]


def test_a_vocoder_of_any_length(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    frames = (30, 31, 14, 15, 64, 100, 29, 201, 30)
    _check(caplog, vocoder(tmp_path / "vocoder.onnx"), [(1, 40, count) for count in frames], plans=2)


def test_a_text_recogniser_of_any_width(caplog: pytest.LogCaptureFixture) -> None:
    try:
        path = models.find_packaged_model(*models.PP_OCR_REC)
    except UsageError as error:
        pytest.skip(str(error))
    widths = (320, 321, 322, 323, 324, 400, 287, 641, 1000, 320)
    _check(caplog, path, [(1, 3, 48, width) for width in widths], plans=2)


def test_a_picture_classifier_of_any_batch(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    model = models.mobilenet_v2()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path = tmp_path / "mobilenet.onnx"
    path.write_bytes(model.SerializeToString())
    _check(caplog, path, [(batch, 3, 224, 224) for batch in (1, 4, 5, 9, 2, 1)], plans=3)

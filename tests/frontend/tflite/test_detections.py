"""TFLite_Detection_PostProcess, with which TensorFlow's detection models end, against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers
from lite_models import LiteModel, lite_results, mace_results

import mace_core as mace
from mace_core.errors import ModelError

OPTIONS: dict[str, Any] = {
    "max_detections": 10,
    "max_classes_per_detection": 1,
    "detections_per_class": 4,
    "use_regular_nms": False,
    "nms_score_threshold": 0.5,
    "nms_iou_threshold": 0.4,
    "num_classes": 3,
    "y_scale": 10.0,
    "x_scale": 10.0,
    "h_scale": 5.0,
    "w_scale": 5.0,
}
ANCHORS = 40


def detector(options: dict[str, Any], scores: int = 4) -> bytes:
    model = LiteModel()
    g = model.graph()
    random = np.random.default_rng(1)
    anchors = np.concatenate([random.uniform(0.2, 0.8, (ANCHORS, 2)), random.uniform(0.1, 0.5, (ANCHORS, 2))], 1)
    inputs = [
        g.input("offsets", (1, ANCHORS, 4)),
        g.input("scores", (1, ANCHORS, scores)),
        g.constant("anchors", anchors, "float32"),
    ]
    count = options["max_detections"] * options["max_classes_per_detection"]
    outputs = [g.output("boxes", (1, count, 4)), g.output("classes", (1, count)), g.output("best", (1, count))]
    outputs.append(g.output("count", (1,)))
    g.op("TFLite_Detection_PostProcess", inputs, outputs, custom=bytes(flexbuffers.Dumps(options)))
    return model.bytes()


def feeds(scores: int = 4, highest: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    found = random.uniform(0, highest, (1, ANCHORS, scores)).astype(np.float32)
    found[0, 3, -1] = 0.5  # the threshold itself counts
    return {"offsets": random.normal(0, 1, (1, ANCHORS, 4)).astype(np.float32), "scores": found}


@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize(("scores", "shown", "highest"), [(4, 1, 1.0), (3, 2, 1.0), (4, 5, 0.7), (4, 1, 0.51)])
def test_the_best_boxes(regular: bool, scores: int, shown: int, highest: float) -> None:
    options = {**OPTIONS, "use_regular_nms": regular, "max_classes_per_detection": 1 if regular else shown}
    given = feeds(scores, highest)
    (expected,) = lite_results(detector(options, scores), given)
    (found,) = mace_results(detector(options, scores), given)
    boxes, classes, best, count = expected.values()
    there = int(count[0])
    assert found["count"] == [there]
    assert 0 < there < ANCHORS
    shown = options["max_classes_per_detection"]
    columns = np.arange(10 * shown) % shown < options["num_classes"]  # LiteRT leaves the others as they are
    rows = columns & (np.arange(10 * shown) < there * shown)
    for name, reference in (("boxes", boxes), ("classes", classes), ("best", best)):
        assert found[name].shape == reference.shape
        assert np.abs(found[name][0, rows] - reference[0, rows]).max() < 1e-5
        assert not found[name][0, ~rows].any()


def test_options_that_make_no_sense_are_named() -> None:
    with pytest.raises(ModelError, match=r"TFLite_Detection_PostProcess.*counts of -1, 4, 3, 1"):
        mace.Session(_with(max_detections=-1))
    with pytest.raises(ModelError, match="4 scores for a box and 7 classes"):
        mace.Session(_with(num_classes=7))


def _with(**changed: Any) -> bytes:
    good, options = detector(OPTIONS), bytes(flexbuffers.Dumps(OPTIONS))
    assert options in good
    other = bytes(flexbuffers.Dumps({**OPTIONS, **changed}))
    assert len(other) == len(options)
    return good.replace(options, other)

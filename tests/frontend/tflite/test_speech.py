"""AudioSpectrogram and Mfcc of TensorFlow's models for speech commands, against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from flatbuffers import flexbuffers
from lite_models import LiteModel, assert_agree

import mace_core as mace
from mace_core.errors import ModelError


def front(size: int, stride: int, *, squared: bool, samples: int = 2000, channels: int = 1) -> LiteModel:
    model = LiteModel()
    g = model.graph()
    bins = (1 << (size - 1).bit_length()) // 2 + 1
    options = {"window_size": size, "stride": stride, "magnitude_squared": squared}
    y = g.output("power", (channels, 1 + (samples - size) // stride, bins))
    g.op("AudioSpectrogram", [g.input("x", (samples, channels))], [y], custom=bytes(flexbuffers.Dumps(options)))
    return model


def sound(samples: int, channels: int = 1) -> np.ndarray:
    time = np.arange(samples)[:, None] / 16000
    random = np.random.default_rng(2)
    tones = sum(np.sin(2 * np.pi * pitch * time * (1 + np.arange(channels))) for pitch in (220, 440, 1300, 3000))
    return (0.2 * tones + random.normal(0, 0.05, (samples, channels))).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "stride", "squared", "channels"), [(480, 160, True, 1), (256, 256, False, 2), (100, 33, True, 2)]
)
def test_spectrogram(size: int, stride: int, squared: bool, channels: int) -> None:
    model = front(size, stride, squared=squared, channels=channels)
    assert_agree(model.bytes(), {"x": sound(2000, channels)})


@pytest.mark.parametrize(
    ("bands", "count", "low", "high", "rate"),
    [(40, 13, 20, 4000, 16000), (20, 20, 0, 8000, 16000), (26, 10, 300, 7000, 16000)],
)
def test_cepstra(bands: int, count: int, low: int, high: int, rate: int) -> None:
    model = front(480, 160, squared=True)
    g = model.graphs[0]
    power = g.table.outputs.pop()
    options = {
        "upper_frequency_limit": float(high),
        "lower_frequency_limit": float(low),
        "filterbank_channel_count": bands,
        "dct_coefficient_count": count,
    }
    y = g.output("cepstra", (1, 10, count))
    g.op("Mfcc", [power, g.constant("rate", np.int32(rate))], [y], custom=bytes(flexbuffers.Dumps(options)))
    assert_agree(model.bytes(), {"x": sound(2000)}, tolerance=2e-5)


def test_options_that_make_no_sense_are_named() -> None:
    content = front(480, 160, squared=True).bytes()
    good = bytes(flexbuffers.Dumps({"window_size": 480, "stride": 160, "magnitude_squared": True}))
    bad = bytes(flexbuffers.Dumps({"window_size": -48, "stride": 160, "magnitude_squared": True}))
    assert good in content
    with pytest.raises(ModelError, match=r"AudioSpectrogram.*pieces of -48 samples every 160"):
        mace.Session(content.replace(good, bad))

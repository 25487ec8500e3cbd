"""Silero VAD: decisions on recorded speech, with its state carried from chunk to chunk."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from benchmarks.accuracy.task import Array, Run, Task, package
from mace_core.testing.models import SILERO_VAD, find_packaged_model

CHUNK, CONTEXT, RATE = 512, 64, 16000
THRESHOLD = 0.5
TESTED, CALIBRATED = ("two_cities.wav", "beckett.wav"), ("endgame_nagg_nell.wav",)


class Voice(Task):
    """How often the quantized model decides as the float one does whether a chunk holds speech."""

    name: ClassVar[str] = "silero_vad"
    metric: ClassVar[str] = "decisions of the float model, %"
    allowed: ClassVar[float] = 1.0
    # magnitudes of a spectrum span more than 8 bits can tell apart
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({"scheme": "a16w8"})

    def model(self) -> Path:
        return find_packaged_model(*SILERO_VAD)

    def calibration(self) -> Iterator[dict[str, Array]]:
        from mace_core import Session

        with Session(self.model(), devices=["cpu"]) as session:
            for name in CALIBRATED:
                yield from (feeds for feeds, _ in chunks(sound(name), session.run))

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        same: list[bool] = []
        voiced: list[bool] = []
        for name in TESTED:
            found = [chance > THRESHOLD for _, chance in chunks(sound(name), run)]
            wanted = [chance > THRESHOLD for _, chance in chunks(sound(name), reference)]
            same += [one == other for one, other in zip(found, wanted, strict=True)]
            voiced += found
        return {self.metric: 100.0 * float(np.mean(same)), "chunks with speech, %": 100.0 * float(np.mean(voiced))}


def sound(name: str) -> Array:
    """A recording of speech at 16 kHz; every third second has noise over it, and is as soft as from the next room."""
    path = package("moonshine-voice", "0.1.5") / "moonshine_voice" / "assets" / name
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    samples = resampled(samples.reshape(-1, channels).mean(axis=1), rate)
    random = np.random.default_rng(0)
    is_soft = (np.arange(len(samples)) // RATE) % 3 == 2
    noise = random.normal(0, 0.003, len(samples))
    return np.where(is_soft, 0.1 * samples + noise, samples).astype(np.float32)


def resampled(samples: Array, rate: int) -> Array:
    """The same at 16 kHz, by its spectrum."""
    count = len(samples) * RATE // rate
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(samples))).astype(np.float32)


def chunks(samples: Array, run: Run) -> Iterator[tuple[dict[str, Array], float]]:
    """What the model is fed for each chunk, and the chance of speech that it gives."""
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros(CONTEXT, np.float32)
    for start in range(0, len(samples) - CHUNK + 1, CHUNK):
        chunk = samples[start : start + CHUNK]
        feeds = {"input": np.concatenate([context, chunk])[None], "state": state}
        results = list(run(feeds).values())
        chance, state = float(results[0].reshape(-1)[0]), results[1]
        context = chunk[-CONTEXT:]
        yield feeds, chance

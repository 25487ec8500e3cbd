"""Speech in buffers of 200 ms: what a buffer costs, and when something is heard; ``python -m benchmarks.streaming``.

`silero-vad` answers every 512 samples and keeps state.  The encoder of Moonshine base (`moonshine-cpp`) stands for a
recognizer: it hears the utterance whole, or in windows of a second; both wait for the same sound, so only the time from
the last sample that an answer needs to that answer counts, and the time at which that sample came.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.shapes.ort_format import onnx_of
from benchmarks.shapes.speech import PACKAGE, read_speech
from mace_core import Session
from mace_core.testing.models import SILERO_VAD, find_packaged_model, sample_speech

RATE = 16000
BUFFER = 3200
UTTERANCE_SECONDS = 4


def voice_activity() -> None:
    """The cost of a buffer through `Stream.push`, and of its windows by `Session.run`."""
    sound = sample_speech(30.0)
    with (
        Session(str(find_packaged_model(*SILERO_VAD)), devices=["cpu"], strict=True) as session,
        session.stream({"state": "stateN"}, context=64) as stream,
    ):
        window, state = np.zeros((1, 576), np.float32), np.zeros((2, 1, 128), np.float32)
        pushes, runs = [], []
        for at in range(0, len(sound) - BUFFER, BUFFER):
            start = time.perf_counter()
            stream.push(sound[at : at + BUFFER])
            pushes.append(time.perf_counter() - start)
            start = time.perf_counter()
            session.run({"input": window, "state": state})
            runs.append(time.perf_counter() - start)
    sys.stdout.write(
        f"silero-vad, 200 ms of sound (6 or 7 windows): median {np.median(pushes) * 1e3:.2f} ms, best "
        f"{min(pushes) * 1e3:.2f} ms; a window alone by Session.run: best {min(runs) * 1e3:.3f} ms\n"
    )


def first_partial() -> None:
    """When the first result is there: of the whole utterance, and of its first window."""
    with tempfile.TemporaryDirectory() as scratch:
        encoder = onnx_of(find_packaged_model(PACKAGE, "models/base-en/encoder_model.ort"), Path(scratch))
        sound = read_speech(find_packaged_model(PACKAGE, "test-data/beckett.wav"))[: UTTERANCE_SECONDS * RATE]
        with Session(encoder, devices=["cpu"], strict=True) as session:
            (name,) = [spec.name for spec in session.inputs]
            session.run({name: sound[None]})
            whole = min(_timed(lambda: session.run({name: sound[None]})) for _ in range(5))
            with session.stream(window=RATE) as stream:
                stream.push(sound[:RATE])
                stream.reset()
                part = []
                for _ in range(5):
                    stream.push(sound[: RATE - 1])
                    part.append(_timed(lambda: stream.push(sound[RATE - 1 : RATE])))
                    stream.reset()
    first = min(part)
    sys.stdout.write(
        f"recognizer, {UTTERANCE_SECONDS} s: whole {whole * 1e3:.0f} ms after its end; first window of 1 s "
        f"{first * 1e3:.0f} ms after that second: {100 * (1 - first / whole):.0f} % less to compute, and the result is "
        f"there {UTTERANCE_SECONDS + whole - 1 - first:.2f} s earlier "
        f"({100 * (1 - (1 + first) / (UTTERANCE_SECONDS + whole)):.0f} % of the way)\n"
    )


def _timed(call: object) -> float:
    assert callable(call)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    voice_activity()
    first_partial()

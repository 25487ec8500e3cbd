"""Speech in buffers of 200 ms: what a buffer costs, and when something is heard; ``python -m benchmarks.streaming``.

`silero-vad` answers every 512 samples and keeps state.  The recognizer is Moonshine base, encoder and decoder, from the
package moonshine-cpp, which is to be installed before: it writes what it heard when the utterance has ended, or window
by window.  The sound comes as fast as it was spoken, and again all at once, for what is computed.  The encoder looks at
all of what it is given and keeps no state, so windows are recognized apart from each other, with the mistakes that this
makes at their borders.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.shapes.ort_format import onnx_of
from benchmarks.shapes.speech import PACKAGE, decode, open_network, read_speech, read_words, written
from mace_core import Session
from mace_core.errors import MaceError
from mace_core.streaming import Stream
from mace_core.testing.models import SILERO_VAD, find_packaged_model, sample_speech

RATE = 16000
BUFFER = 3200
UTTERANCE_SECONDS = 4
WINDOW = 24000
"""A second and a half: shorter ones hold too little of a word."""

REPEATS = 5
PARTS = ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")

Samples: TypeAlias = "npt.NDArray[np.float32]"
Way: TypeAlias = "Callable[[Iterable[Samples]], list[tuple[float, str]]]"
"""From buffers to texts, each with the time at which it was there."""


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


def first_text(threads: int) -> None:
    """When the first text of an utterance is there: recognized whole after its end, and window by window."""
    encoder_file, decoder_file, tokenizer, speech = (
        find_packaged_model(PACKAGE, name)
        for name in (*(f"models/base-en/{part}" for part in PARTS), "test-data/beckett.wav")
    )
    words = read_words(tokenizer)
    sound = read_speech(speech)[: UTTERANCE_SECONDS * RATE]
    options = {"cpu": {"threads": threads}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        decoder = open_network("mace", onnx_of(decoder_file, folder), threads)
        encoder = onnx_of(encoder_file, folder)
        with (
            Session(encoder, devices=["cpu"], options=options, strict=True) as session,
            session.stream(window=WINDOW) as stream,
        ):
            (name,) = [spec.name for spec in session.inputs]

            def text_of(heard: dict[str, Any], samples: int) -> str:
                return written(decode(decoder, next(iter(heard.values())), samples / RATE), words)

            def whole(buffers: Iterable[Samples]) -> list[tuple[float, str]]:
                samples = np.concatenate(list(buffers))
                text = text_of(session.run({name: samples[None]}), len(samples))
                return [(time.perf_counter(), text)]

            def in_windows(buffers: Iterable[Samples]) -> list[tuple[float, str]]:
                stream.reset()
                texts = []
                for heard in itertools.chain(itertools.chain.from_iterable(map(stream.push, buffers)), _last(stream)):
                    text = text_of(heard, WINDOW)
                    texts.append((time.perf_counter(), text))
                return texts

            for way in (whole, in_windows):  # plans are made, and kernels compiled
                way(_buffers(sound))
            computed = {
                way: min(_first(way, _buffers(sound[:heard]))[0] for _ in range(REPEATS))
                for way, heard in ((whole, len(sound)), (in_windows, WINDOW))
            }
            spoken = {way: _first(way, _as_spoken(sound)) for way in (whole, in_windows)}
    (late, entire), (early, _) = spoken[whole], spoken[in_windows]
    sys.stdout.write(
        f"recognizer, {UTTERANCE_SECONDS} s of speech in buffers of 200 ms that come as it is spoken, by the clock:\n"
        f"  whole, after its end: {late:.2f} s: {entire[0]}\n"
        f"  in windows of {WINDOW / RATE} s: first text {early:.2f} s, {100 * (1 - early / late):.0f} % earlier: "
        f"{' | '.join(spoken[in_windows][1])}\n"
        f"computed from the last sample that is needed to the text, best of {REPEATS}: whole "
        f"{computed[whole] * 1e3:.0f} ms, first window {computed[in_windows] * 1e3:.0f} ms: "
        f"{100 * (1 - computed[in_windows] / computed[whole]):.0f} % less\n"
    )


def _last(stream: Stream) -> Iterator[dict[str, Any]]:
    """What is left once all buffers have been pushed."""
    yield from stream.flush()


def _buffers(sound: Samples) -> Iterator[Samples]:
    return (sound[at : at + BUFFER] for at in range(0, len(sound), BUFFER))


def _as_spoken(sound: Samples) -> Iterator[Samples]:
    """The buffers, each when its last sample would have been recorded."""
    start, heard = time.perf_counter(), 0
    for buffer in _buffers(sound):
        heard += len(buffer)
        time.sleep(max(start + heard / RATE - time.perf_counter(), 0))
        yield buffer


def _first(way: Way, buffers: Iterator[Samples]) -> tuple[float, list[str]]:
    """Seconds to the first text, and all texts."""
    start = time.perf_counter()
    found = way(buffers)
    return found[0][0] - start, [text for _, text in found]


if __name__ == "__main__":
    try:
        voice_activity()
        first_text(threads=2)
    except MaceError as error:  # above all a package that is not installed
        sys.exit(f"error: {error}")

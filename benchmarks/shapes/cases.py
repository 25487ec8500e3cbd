"""What is measured: models whose shapes change, and the sequence of feeds that each is run with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.compare.catalogue import text_page
from benchmarks.shapes import control_flow
from benchmarks.shapes.decoder import decoder, decoder_feeds
from benchmarks.shapes.models import vocoder
from mace_core.testing import models

Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]
Run: TypeAlias = Callable[[Feeds], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Case:
    """One model under changing shapes.

    Attributes:
        name, title: for the command line, and for people.
        model: makes the model in a folder, or finds it.
        warm: feeds of shapes that come before anything is timed.
        new: feeds of one shape after the other, none of which came before.
        unit: what the times are of.
        pairs: input -> output that feeds it in the next run, for a model whose state stays with the engine; the first
            feeds of ``warm`` have what it begins with, later ones do not.
    """

    name: str
    title: str
    model: Callable[[Path], Path]
    warm: Callable[[], Iterator[Feeds]]
    new: Callable[[], Iterator[Feeds]]
    unit: str = "run"
    pairs: Mapping[str, str] = field(default_factory=dict)


def _decoder(folder: Path) -> Path:
    return _written(folder / "decoder.onnx", decoder)


def _vocoder(folder: Path) -> Path:
    return _written(folder / "vocoder.onnx", vocoder)


def _written(path: Path, write: Callable[[Path], object]) -> Path:
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        write(unfinished)
        unfinished.replace(path)
    return path


def _decoding(first: int, count: int) -> Iterator[Feeds]:
    """Tokens of one text, the first with a cache of ``first`` entries; without one where that is 0."""
    for token in range(count):
        ids = {"ids": np.array([[token % 256]])}
        yield {**decoder_feeds(first), **ids} if first and not token else ids


def _saved(name: str, build: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    return lambda folder: _written(folder / f"{name}.onnx", lambda path: onnx.save(build(), str(path)))


def _mel(frames: int) -> Feeds:
    """Bands whose energy rises and falls, as in speech."""
    t = np.arange(frames) / 12
    bands = np.arange(40)[:, None]
    return {"x": (np.sin(t + bands / 3) * np.cos(bands / 7))[None].astype(np.float32)}


def _line(width: int) -> Feeds:
    return {"x": np.ascontiguousarray(text_page(48, 1600, lines=1)[..., :width])}


def _merged_steps(first: int, last: int, heard: int = 40) -> Iterator[Feeds]:
    """Steps of a decoding whose cache grows: the state of the step before is made up, its values do not matter."""
    random = np.random.default_rng(1)
    encoded = random.standard_normal((1, heard, 128)).astype(np.float32)
    for past in range(first, last):
        feeds: dict[str, Array] = {
            "ids": np.array([[past % 256]]),
            "encoded": encoded,
            "use_cache_branch": np.array([past > 0]),
        }
        for layer in range(2):
            for part, length in (("", past), (".cross", heard if past else 0)):
                for kind in ("key", "value"):
                    shape = (1, 4, length, 32)
                    feeds[f"past.{layer}{part}.{kind}"] = random.standard_normal(shape).astype(np.float32)
        yield feeds


def _turns(turns: int) -> Feeds:
    random = np.random.default_rng(2)
    return {"turns": np.array(turns), "x": random.standard_normal((turns, 64)).astype(np.float32)}


def _growth(turns: int) -> Feeds:
    return {"turns": np.array(turns), "start": np.ones((2, 64), np.float32)}


def _halvings(width: int) -> Feeds:
    return {"x": np.linspace(1, 9999, width, dtype=np.float32)[None], "limit": np.array(1, np.float32)}


def _rows(count: int) -> Feeds:
    random = np.random.default_rng(count)
    scores = random.random(count).astype(np.float32)
    return {"x": random.standard_normal((count, 64)).astype(np.float32), "scores": scores}


def _boxes(count: int) -> Feeds:
    random = np.random.default_rng(count)
    boxes = random.random((1, count, 4)).astype(np.float32)
    boxes[..., 2:] = boxes[..., :2] + 0.1 * boxes[..., 2:]
    return {"boxes": boxes, "scores": random.random((1, 4, count)).astype(np.float32)}


def _tokens(count: int) -> Feeds:
    return {"ids": np.random.default_rng(count).integers(0, 512, count)}


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "decoder",
            "decoder with a KV cache, one token",
            _decoder,
            lambda: (decoder_feeds(past) for past in (60, 61, 62, 63)),
            lambda: (decoder_feeds(past) for past in range(64, 192)),
            "token",
        ),
        *(
            Case(
                name,
                f"decoder whose cache stays with the engine, a token after {past:,}",
                _decoder,
                lambda past=past: _decoding(past, 4),
                lambda: _decoding(0, 128),
                "token",
                pairs={f"past_{kind}_{layer}": f"present_{kind}_{layer}" for layer in range(4) for kind in "kv"},
            )
            for name, past in (("decoder_bound", 64), ("decoder_bound_long", 2000))
        ),
        Case(
            "merged_decoder",
            "encoder-decoder merged by an If, one token",
            _saved("merged_decoder", control_flow.merged_decoder),
            lambda: _merged_steps(0, 6),
            lambda: _merged_steps(6, 100),
            "token",
        ),
        Case(
            "vocoder",
            "vocoder of 485 nodes, one length",
            _vocoder,
            lambda: map(_mel, (20, 21, 22, 40)),
            lambda: map(_mel, range(23, 39)),
            "length",
        ),
        Case(
            "recognizer",
            "PP-OCRv4 text recognition, one width",
            lambda _: models.find_packaged_model(*models.PP_OCR_REC),
            lambda: map(_line, (320, 328, 336)),
            lambda: map(_line, range(344, 1000, 24)),
            "width",
        ),
        Case(
            "loop",
            "Loop of 1,000 turns with a Slice by the counter",
            _saved("loop_slicing", control_flow.loop_slicing),
            lambda: map(_turns, (1000, 1001)),
            lambda: map(_turns, range(1002, 1012)),
            "loop",
        ),
        Case(
            "loop_growing",
            "Loop of 500 turns that carries a growing value",
            _saved("loop_growing", control_flow.loop_growing),
            lambda: map(_growth, (500, 501)),
            lambda: map(_growth, range(502, 512)),
            "loop",
        ),
        Case(
            "loop_until",
            "Loop of 917 turns that its condition ends",
            _saved("loop_until", lambda: control_flow.loop_until(None)),
            lambda: map(_halvings, (60, 61, 62)),
            lambda: map(_halvings, range(64, 84)),
            "loop",
        ),
        Case(
            "selecting",
            "NonZero and two layers behind it, another number of rows",
            _saved("selecting", control_flow.selecting),
            lambda: map(_rows, (90, 91, 92, 93)),
            lambda: map(_rows, range(94, 158)),
        ),
        Case(
            "detecting",
            "NonMaxSuppression and what is done with its boxes",
            _saved("detecting", control_flow.detecting),
            lambda: map(_boxes, (90, 91, 92, 93)),
            lambda: map(_boxes, range(94, 158)),
        ),
        Case(
            "unique",
            "Unique tokens, embedded and given back in their order",
            _saved("unique", control_flow.unique_rows),
            lambda: map(_tokens, (90, 91, 92, 93)),
            lambda: map(_tokens, range(94, 158)),
        ),
    )
}

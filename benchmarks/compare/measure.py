"""Takes the measurements: each in a fresh process, the engines taking turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.compare.agreement import largest_difference, load_outputs
from benchmarks.compare.catalogue import Benchmark, PreparedModel, prepare, prepare_file
from benchmarks.compare.convert import NotConvertibleError, convert
from benchmarks.compare.engines import ENGINES, LITE, MACE
from benchmarks.compare.machine import QUIET_CORES, LoadMeter, describe, wait_for_quiet
from benchmarks.compare.precision import QUANTIZED, in_int8
from benchmarks.compare.results import Cell, Comparison, Measurement, Row, plural
from mace_core.errors import UsageError
from mace_core.host.private_files import NotPrivateError, check_private_folder, make_private_folder

_ROOT = Path(__file__).resolve().parents[2]
_PROCESS_SECONDS = 600
_REFERENCE = "onnxruntime"
_OWN_TOLERANCE = {"float32": 1e-4, "int8": 0.25, "tflite": 1e-3, "tflite-int8": 0.25}
"""Share of the range by which our results may differ from the reference's.

In 8 bits, engines round at different places; where a layer's results lie between two steps, one step less or more may
come out, and layers behind it make more of that.  `mace validate --layers` shows that no layer alone is more than a
step off.
"""

_RETRIES = 2
"""Times that a disturbed measurement is taken again when waiting for quiet was asked for."""

Told = Callable[[str], None]


def _lock_file() -> Path:
    """One for the user's processes of all checkouts, where nobody else can put a link or a pipe in its place."""
    folder = Path(tempfile.gettempdir()) / f"mace-benchmarks-{getattr(os, 'getuid', int)()}"
    try:
        make_private_folder(folder)
        check_private_folder(folder)
    except (OSError, NotPrivateError) as error:
        raise UsageError(f"the lock file of measurements cannot be kept in '{folder}': {error}") from error
    return folder / "compare.lock"


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure.

    Attributes:
        rounds: processes per engine, model and number of threads.
        runs: timed runs per process.
        seconds: a process stops timing after so long.
        tolerance: peers whose results differ by more are not timed; share of the range.  For MACE it is 1e-4 in
            float32.
        wait_quiet: seconds to wait before each measurement for other processes to be idle.
        features: mask of the instruction sets MACE may use; empty: all.
        precision: "float32", or "int8": the same QDQ file for all engines that read it; "tflite" and "tflite-int8":
            the same .tflite file for those.
        folder: for models and their conversions.
        peak_seconds: how long to look for the machine's peak, each time.
        lock: a file; of the comparisons that share it only one measures at a time.
    """

    benchmarks: Sequence[Benchmark]
    engines: Sequence[str]
    threads: Sequence[int]
    folder: Path
    rounds: int = 3
    runs: int = 30
    seconds: float = 2.0
    tolerance: float = 1e-2
    wait_quiet: float = 0.0
    features: str = ""
    precision: str = "float32"
    peak_seconds: float = 0.6
    lock: Path = field(default_factory=_lock_file)


class ProcessFailedError(Exception):
    """A measuring process ended without a result; the message has its last words."""


def steps(settings: Settings) -> int:
    """How often `compare` tells of progress."""
    each = len(settings.engines) * (1 + settings.rounds * len(settings.threads)) + (settings.precision in QUANTIZED)
    return len(settings.benchmarks) * each + 2 * len(settings.threads)


def compare(settings: Settings, told: Told) -> Comparison:
    """Measure everything; ``told`` hears of each process before it starts.  Ctrl-C ends it with the rows there are."""
    versions = {name: ENGINES[name].version() for name in settings.engines}
    run = _Run(
        settings,
        told,
        Comparison(
            machine=describe(),
            versions={name: version for name, version in versions.items() if version},
            absent={name: ENGINES[name].install for name, version in versions.items() if not version},
            features=settings.features,
            precision=settings.precision,
        ),
    )
    settings.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run.scratch = Path(scratch)
        try:
            run.measure_peaks()
            for benchmark in settings.benchmarks:
                run.measure_model(benchmark)
            run.measure_peaks()
        except KeyboardInterrupt:
            run.found.stopped = True
    return run.found


@dataclass(slots=True)
class _Run:
    settings: Settings
    told: Told
    found: Comparison
    scratch: Path = field(default_factory=Path)

    def measure_peaks(self) -> None:
        """The better of what is known and a new measurement, for each number of threads."""
        for threads in self.settings.threads:
            self.told(f"peak, {plural(threads)}")
            self._wait()
            text = self._process(
                "benchmarks.compare.peak", [str(threads), str(self.settings.peak_seconds)], MACE, threads
            )
            self.found.peaks[threads] = max(float(text), self.found.peaks.get(threads, 0.0))

    def measure_model(self, benchmark: Benchmark) -> None:
        precision = self.settings.precision
        is_int8 = precision == "int8"
        try:
            floats = prepared = prepare(benchmark, self.settings.folder)
            if precision in QUANTIZED:
                self.told(f"{benchmark.name}: quantizing")
            if is_int8:
                prepared = in_int8(prepared, self.settings.folder)
            elif precision in LITE and not prepared.is_lite:
                model = convert(prepared, precision, self.settings.folder)
                floats = prepared = prepare_file(benchmark, model, self.settings.folder)
        except (NotConvertibleError, UsageError) as error:
            self.found.skipped[benchmark.name] = str(error)
            return
        files: dict[str, Path] = {}
        missing: dict[str, str] = {}
        for engine in self.found.versions:
            self.told(f"{benchmark.name}: {engine}, first result")
            try:
                form = ENGINES[engine].form_of(precision)
                files[engine] = convert(prepared if form == "onnx" else floats, form, self.settings.folder)
                for threads in self.settings.threads:  # each may have a cache entry of its own
                    self._worker(engine, prepared, files[engine], threads, 0, self._outputs(engine))
            except (NotConvertibleError, ProcessFailedError) as error:
                missing[engine] = str(error)
        missing |= self._compare_outputs(prepared.name, [engine for engine in files if engine not in missing])
        for threads in self.settings.threads:
            cells = {engine: Cell(missing=missing.get(engine, "")) for engine in self.found.versions}
            row = Row(prepared.name, prepared.title, prepared.gflop, threads, cells)
            self._take_turns(row, prepared, files)
            self.found.rows.append(row)

    def _compare_outputs(self, model: str, engines: Sequence[str]) -> dict[str, str]:
        """Reasons by engine for those that are too far off."""
        if not engines:
            return {}
        reference = _REFERENCE if _REFERENCE in engines else next((e for e in engines if e != MACE), engines[0])
        expected = load_outputs(self._outputs(reference))
        differences = {
            e: largest_difference(load_outputs(self._outputs(e)), expected) for e in engines if e != reference
        }
        self.found.differences[model] = differences
        return {
            engine: f"its results are off those of {reference} by {difference:.1e} of their range"
            for engine, difference in differences.items()
            if difference > self._tolerance(engine)
        }

    def _tolerance(self, engine: str) -> float:
        """The difference with which an engine is still timed."""
        own = _OWN_TOLERANCE[self.settings.precision]
        if self.settings.precision == "int8" and ENGINES[engine].int8_form != "onnx":
            return sys.float_info.max  # other scales, other results: how good they are is not what is measured
        return own if engine == MACE else max(self.settings.tolerance, own)

    def _take_turns(self, row: Row, prepared: PreparedModel, files: dict[str, Path]) -> None:
        order = [engine for engine, cell in row.cells.items() if not cell.missing]
        for round_ in range(self.settings.rounds):
            for engine in order[round_ % max(1, len(order)) :] + order[: round_ % max(1, len(order))]:
                cell = row.cells[engine]
                if cell.missing:
                    continue
                self.told(f"{row.model}: {engine}, {plural(row.threads)}, round {round_ + 1}")
                try:
                    cell.measurements.append(self._measure(engine, prepared, files[engine], row.threads))
                except ProcessFailedError as error:
                    cell.missing = str(error)

    def _measure(self, engine: str, prepared: PreparedModel, file: Path, threads: int) -> Measurement:
        """One process; of several, if others disturbed it, the one they disturbed least."""
        taken: list[Measurement] = []
        while True:
            self._wait()
            load = LoadMeter()
            data = self._worker(engine, prepared, file, threads, self.settings.runs)
            other = load.other_cores()
            kept = {name: data[name] for name in ("median_ms", "min_ms", "runs", "start_ms", "peak_bytes")}
            taken.append(Measurement(**kept, other_cores=other))
            if other <= QUIET_CORES or not self.settings.wait_quiet or len(taken) > _RETRIES:
                return min(taken, key=lambda m: m.other_cores)

    def _wait(self) -> None:
        if self.settings.wait_quiet:
            wait_for_quiet(self.settings.wait_quiet, self.told)

    def _outputs(self, engine: str) -> Path:
        return self.scratch / f"{engine}.npz"

    def _worker(
        self, engine: str, prepared: PreparedModel, file: Path, threads: int, runs: int, outputs: Path | None = None
    ) -> dict[str, Any]:
        arguments = [engine, str(file), str(prepared.inputs), str(threads), str(runs), str(self.settings.seconds)]
        arguments += [",".join(prepared.outputs), *([] if outputs is None else [str(outputs)])]
        text = self._process("benchmarks.compare.worker", arguments, engine, threads)
        try:
            # Engines print lines of their own, some as late as at exit.
            found: dict[str, Any] = json.loads([line for line in text.splitlines() if line.startswith("{")][-1])
        except (ValueError, IndexError):
            raise ProcessFailedError(f"it wrote no result but: {text[-200:] or 'nothing'}") from None
        return found

    def _process(self, module: str, arguments: Sequence[str], engine: str, threads: int) -> str:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])])
        # else a checkout would be compiled in each process, which installed engines are not
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(threads)
        if engine == MACE and self.settings.features:
            environment["MACE_CPU_FEATURES"] = self.settings.features
        command = [sys.executable, "-P", "-m", module, *arguments]
        with FileLock(self.settings.lock):
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    check=False,
                    timeout=_PROCESS_SECONDS,
                )
            except subprocess.TimeoutExpired:
                raise ProcessFailedError(f"it had not finished after {_PROCESS_SECONDS} s") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise ProcessFailedError(f"it ended with status {done.returncode}: {said[-1] if said else 'no message'}")
        return done.stdout

"""Runs cases on guarded memory in processes of their own: one that dies of a byte outside is a finding.

    buffers = "mace_cpu.memory_checks.guarded:guarded_buffers"
    findings = sweep(tasks, GuardedRuns("cpu:0", {"features": "avx2"}, Side.END, buffers))

A task is an operator, of which the fuzzer draws examples, or a model with random inputs.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import pickle
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import MaceError, StrictPlacementError
from mace_core.session import Session
from mace_core.testing.guard_pages import Side, guarded_copy, guarded_executions
from mace_testing.memory_faults import memory_faults_told

LONGEST_TASK_SECONDS = 600.0


@dataclass(frozen=True)
class OperatorTask:
    """``examples`` nodes of one operator, or random graphs where it is `GRAPH`; the same ones for the same seed.

    ``hostile``: what is fed is replaced, element by element, by numbers that lead out of everything: the ends of a
    type's range, infinities, NaN.
    """

    op: str
    domain: str = ""
    seed: int = 1
    examples: int = 20
    hostile: bool = False


@dataclass(frozen=True, eq=False)
class ModelTask:
    """A model, as a path or in bytes, and what it is fed; the device need not take all of its nodes."""

    label: str
    model: str | bytes = field(repr=False)
    feeds: Mapping[str, npt.NDArray[Any]] = field(repr=False)


Task = OperatorTask | ModelTask


@dataclass(frozen=True)
class GuardedRuns:
    """How to run.

    Attributes:
        device: qualified name.
        options: for its provider.
        side: on which side of memory the guarding page touches it.
        buffers: ``module:function``; the function takes the side and gives a context in which the provider's own
            buffers are guarded too.  "" where it has none.
    """

    device: str
    options: Mapping[str, object]
    side: Side
    buffers: str = ""


@dataclass
class GuardedFindings:
    """What a task came to: how many cases ran, were declined by the device or refused with an error, and what broke."""

    task: Task
    ran: int = 0
    declined: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def sweep(tasks: Iterable[Task], runs: GuardedRuns) -> Iterator[GuardedFindings]:
    """Findings of each task, in order; the worker is started anew after one that killed it."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "case"
        process: Any = None
        ours: Any = None
        try:
            for task in tasks:
                if process is None:
                    context = multiprocessing.get_context("spawn")
                    ours, theirs = context.Pipe()
                    process = context.Process(target=_work, args=(theirs, runs, note), daemon=True)
                    process.start()
                    theirs.close()
                note.unlink(missing_ok=True)
                _fault_note(note).unlink(missing_ok=True)
                ours.send(task)
                try:
                    if not ours.poll(LONGEST_TASK_SECONDS):
                        raise TimeoutError
                    found: GuardedFindings = ours.recv()
                except (EOFError, OSError) as error:
                    process.kill()
                    process.join()
                    found = GuardedFindings(task, faults=[_last_words(note, process.exitcode, error)])
                    process = None
                yield found
        finally:
            if process is not None:
                ours.close()
                process.join()


def _last_words(note: Path, exit_code: int, error: Exception) -> str:
    """What a worker was doing when it died."""
    case = pickle.loads(note.read_bytes()) if note.exists() else "before its first case"
    if isinstance(error, TimeoutError):
        return f"{case!r}: took longer than {LONGEST_TASK_SECONDS:.0f} s"
    fault = _fault_note(note)
    how = fault.read_text() if fault.exists() else ""
    return f"{case!r}: killed its process (exit code {exit_code}) {how}".rstrip()


def _fault_note(note: Path) -> Path:
    return note.with_name("fault")


def _work(connection: Connection, runs: GuardedRuns, note: Path) -> None:
    """A worker process: does tasks until the other end is closed."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    tell = _fault_note(note).write_text
    with memory_faults_told(tell), guarded_executions(runs.side), _own_buffers(runs):
        while True:
            try:
                task = connection.recv()
            except EOFError:
                return
            found = GuardedFindings(task)
            if isinstance(task, OperatorTask):
                _draw(task, runs, note, found)
            else:
                note.write_bytes(pickle.dumps(task))
                _run(task.label, task.model, task.feeds, runs, found, strict=False)
            connection.send(found)


def _own_buffers(runs: GuardedRuns) -> contextlib.AbstractContextManager[Any]:
    if not runs.buffers:
        return contextlib.nullcontext()
    module, _, function = runs.buffers.partition(":")
    found: contextlib.AbstractContextManager[Any] = getattr(importlib.import_module(module), function)(runs.side)
    return found


def _draw(task: OperatorTask, runs: GuardedRuns, note: Path, found: GuardedFindings) -> None:
    import hypothesis

    from mace_testing.fuzzing.case import OpCase
    from mace_testing.fuzzing.graphs import GRAPH, GraphCase, graph_cases
    from mace_testing.fuzzing.registry import cases

    @hypothesis.seed(task.seed)
    @hypothesis.settings(
        max_examples=task.examples,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(graph_cases() if task.op == GRAPH else cases(task.op, task.domain))
    def probe(case: OpCase | GraphCase) -> None:
        note.write_bytes(pickle.dumps(case))
        feeds = {name: _hostile(array, task.seed) for name, array in case.feeds.items()} if task.hostile else case.feeds
        _run(repr(case), case.model(), feeds, runs, found, strict=task.op != GRAPH)

    probe()


def _hostile(array: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    """``array`` with about half of its numbers replaced by extreme ones."""
    random = np.random.default_rng(seed + array.size)
    extremes: list[Any]
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        extremes = [limits.min, limits.max, limits.max // 2, limits.min // 2]
    elif array.dtype.kind == "f":
        extremes = [np.nan, np.inf, -np.inf, np.finfo(array.dtype).max, np.finfo(array.dtype).min, -0.0]
    else:
        return array
    chosen = np.array(extremes, array.dtype)[random.integers(0, len(extremes), array.shape)]
    return np.where(random.random(array.shape) < 0.5, chosen, array)


def _run(
    label: str,
    model: Any,
    feeds: Mapping[str, npt.NDArray[Any]],
    runs: GuardedRuns,
    found: GuardedFindings,
    *,
    strict: bool,
) -> None:
    """One case; the feeds too are guarded, for those who read them before or beside an execution."""
    given = {
        name: array if array.dtype == object else guarded_copy(array, runs.side, f"feed '{name}'")
        for name, array in feeds.items()
    }
    try:
        options = {runs.device.partition(":")[0]: runs.options}
        with Session(model, devices=[runs.device], options=options, strict=strict, cache=False) as session:
            session.run(given)
        found.ran += 1
    except StrictPlacementError:
        found.declined += 1
    except MaceError:
        found.refused += 1
    except AssertionError as error:
        found.faults.append(f"{label}: {error}")

"""Gives hostile files to worker processes and collects what became of each."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from hostile.case import Case

CPU_LIMIT_SECONDS = 10.0
WALL_LIMIT_SECONDS = 600.0
"""More than the processor's: the machine may be busy with something else, and what merely waits is found too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        outcome: "ran", "refused when loaded", "refused when run", "escaped" (an error that is none of ours),
            "died" or "hung".
        kind: the error's class.
        message: its text.
        trace: of an error that escaped; what a process that died printed.
    """

    case: Case
    outcome: str
    kind: str = ""
    message: str = ""
    trace: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    printed: str = ""

    @property
    def told(self) -> str:
        """All that is known of an error, for whoever reads that a test failed."""
        return "\n".join(part for part in (f"{self.kind}: {self.message}", self.trace) if part.strip(": "))


class Worker:
    """A process that answers for one file after the other; started anew when it is gone."""

    def __init__(self, scratch: Path, module: str = "hostile.worker") -> None:
        self._scratch = scratch
        self._module = module
        self._log = scratch / f"printed-{module}.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, case: Case) -> Outcome:
        """Write the file, have it loaded, planned and run, and remove it again."""
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=self._scratch))
        try:
            return self.ask_of(case, case.write(folder))
        finally:
            shutil.rmtree(folder)

    def ask_of(self, case: Case, path: Path) -> Outcome:
        """What becomes of a case that is written already."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        printed = self._log.stat().st_size
        process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        process.stdin.flush()
        answer = self._answer(process)
        told = self._log.read_bytes()[printed:].decode(errors="replace")
        if isinstance(answer, bytes):
            return Outcome(case, printed=told, **json.loads(answer))
        self._stop()
        return Outcome(case, answer, trace=told, message=f"exit status {process.returncode}")

    def _answer(self, process: subprocess.Popen[bytes]) -> bytes | str:
        """The line, or "died" or "hung"."""
        assert process.stdout is not None
        start, cpu = time.monotonic(), _cpu_seconds(process.pid)
        while True:
            if select.select([process.stdout], [], [], 0.5)[0]:
                return process.stdout.readline() or "died"
            late = _cpu_seconds(process.pid) - cpu > CPU_LIMIT_SECONDS
            if late or time.monotonic() - start > WALL_LIMIT_SECONDS:
                return "hung"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-X", "faulthandler", "-m", self._module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=Path(__file__).parent.parent,
                    env={**os.environ, "PYTHONPATH": _import_path()},
                )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _import_path() -> str:
    return os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def outcomes(cases: Iterable[Case], scratch: Path) -> Iterator[Outcome]:
    """What becomes of each file, one after the other."""
    with Worker(scratch) as worker:
        for case in cases:
            yield worker.ask(case)


__all__ = ["Outcome", "Worker", "outcomes"]

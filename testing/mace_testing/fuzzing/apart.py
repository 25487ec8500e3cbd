"""A judge in a process of its own, for cases of which it may die."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from typing import Any

import onnx

from mace_core.host.children import safe_spawn
from mace_testing.fuzzing.judges import JUDGES, Array

LONGEST_SECONDS = 300.0


class JudgeDiedError(Exception):
    """The judge ended its process, or gave no answer in `LONGEST_SECONDS`."""


class JudgeApart:
    """Asks one judge after the other of cases; a process that died is started anew.

    Args:
        judge: which of `JUDGES`.
    """

    def __init__(self, judge: str) -> None:
        self._judge = judge
        self._process: Any = None
        self._ours: Any = None

    def __enter__(self) -> JudgeApart:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Any] | None:
        """All outputs; None where the judge refuses the model.

        Raises:
            JudgeDiedError: if it dies of it.
        """
        if self._process is None:
            self._start()
        try:
            self._ours.send((model.SerializeToString(), dict(feeds)))
            if not self._ours.poll(LONGEST_SECONDS):
                raise TimeoutError
            found: list[Any] | None = self._ours.recv()
            return found
        except (EOFError, OSError) as error:
            self._stop()
            raise JudgeDiedError(f"{self._judge} gave no answer") from error

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, self._judge), daemon=True)
        with safe_spawn():
            self._process.start()
        theirs.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._ours.close()
            self._process.kill()
            self._process.join()
            self._process = None


def _answer(connection: Any, judge: str) -> None:
    """The process: answers until the other end is closed."""
    try:
        import resource
    except ImportError:  # not on this system
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            model, feeds = connection.recv()
        except EOFError:
            return
        try:
            found: list[Any] | None = JUDGES[judge](onnx.load_from_string(model), feeds)
        except Exception:  # a judge that refuses has no say
            found = None
        connection.send(found)

"""The worker process seen from the driver: started, asked, and replaced when it crashes or hangs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mace_core.errors import CancelledError, ProviderError, TransientError
from mace_npu.rockchip import wire

START_SECONDS = 120.0
"""How long the worker may take to import the toolkit."""

_POLL_SECONDS = 0.01
_LAST_WORDS_BYTES = 4000


class WorkerGoneError(TransientError):
    """The worker crashed, or was ended because it did not answer; the next request starts another one."""


class RefusedError(ProviderError):
    """The worker is well, and says that the toolkit could not do it."""


class WorkerProcess:
    """One worker at a time.  Requests of several threads take turns.

    Attributes:
        generation: which worker it is; models of earlier ones are gone.
        toolkit: the version of rknn-toolkit2 in the worker.
    """

    def __init__(self, python: Path, device: str, *, seconds: float) -> None:
        """``seconds`` is how long a request may take before the worker is ended."""
        self._python = python
        self._device = device
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self.generation = 0
        self.toolkit = ""

    @property
    def is_alive(self) -> bool:
        """Whether there is a worker now."""
        process = self._process
        return process is not None and process.poll() is None

    def ask(
        self,
        message: dict[str, Any],
        payload: bytes = b"",
        *,
        generation: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """The worker's answer; a worker is started where there is none.

        Args:
            message: the request.
            payload: bytes that belong to it.
            generation: the worker that the request is for; None for any.
            cancelled: asked every few milliseconds; where it says so, the worker is ended.

        Raises:
            WorkerGoneError: if the worker crashed or did not answer in time, or is not the one it is for.
            CancelledError: if ``cancelled`` said so.
            RefusedError: with what the toolkit said.
            ProviderError: if no worker can be started.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                if generation is not None and self._process is not None:
                    self._end()
                    raise self._gone("it ended by itself")
                self._start()
            if generation is not None and generation != self.generation:
                raise self._gone("it was replaced by another one")
            process = self._process
            assert process is not None and process.stdin is not None
            with contextlib.suppress(wire.WireError):  # the answer tells, or that there is none
                wire.send(process.stdin, message, payload)
            answer = self._answer(process, self._seconds, cancelled)
        if not answer.get("ok"):
            raise RefusedError(
                f"rknn-toolkit2 failed: {answer.get('error', 'no reason is given')}", device=self._device
            )
        return answer

    def close(self) -> None:
        """End the worker.  Idempotent."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        self._end()
        script = Path(__file__).with_name("worker.py")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # until the worker ends
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        try:
            self._process = subprocess.Popen(
                [str(self._python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
            )
        except OSError as error:
            raise ProviderError(
                f"the worker for rknn-toolkit2 cannot be started with {self._python}: {error}", device=self._device
            ) from None
        self.generation += 1
        try:
            hello = self._answer(self._process, START_SECONDS, lambda: False)
        except WorkerGoneError as error:
            raise ProviderError(f"the worker for rknn-toolkit2 does not start: {error}", device=self._device) from None
        if not hello.get("ok") or hello.get("protocol") != wire.VERSION:
            self._end()
            said = (
                hello.get("error") or f"it speaks version {hello.get('protocol')} of the protocol, not {wire.VERSION}"
            )
            raise ProviderError(
                f"the worker for rknn-toolkit2 does not start with {self._python}: {said}", device=self._device
            )
        self.toolkit = str(hello.get("toolkit", ""))

    def _answer(
        self, process: subprocess.Popen[bytes], seconds: float, cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        """Wait for one message; a thread reads, so that the wait may end."""
        stream = process.stdout
        assert stream is not None
        found: list[dict[str, Any]] = []
        problems: list[wire.WireError] = []

        def read() -> None:
            try:
                found.append(wire.receive(stream)[0])
            except wire.WireError as error:
                problems.append(error)

        reader = threading.Thread(target=read, name="rknn answer", daemon=True)
        reader.start()
        waited = 0.0
        while reader.is_alive() and waited < seconds:
            reader.join(_POLL_SECONDS)
            waited += _POLL_SECONDS
            if cancelled():
                self._end()
                reader.join()
                raise CancelledError("the run was cancelled in rknn-toolkit2, whose worker was ended")
        if reader.is_alive():
            self._end()
            reader.join()
            raise self._gone(f"it did not answer for {seconds:g} seconds and was ended")
        if problems:
            code = self._exit_code(process)
            words = self._last_words()
            self._end()
            raise self._gone(f"it ended with {code}{f': {words}' if words else ''}")
        return found[0]

    def _gone(self, what: str) -> WorkerGoneError:
        return WorkerGoneError(f"the worker of rknn-toolkit2 is gone: {what}", device=self._device)

    @staticmethod
    def _exit_code(process: subprocess.Popen[bytes]) -> str:
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            return "its pipe closed"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _last_words(self) -> str:
        """The last line that the worker wrote to standard error."""
        if self._errors is None:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _LAST_WORDS_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return str(lines[-1].strip()) if lines else ""

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None and stream is process.stdin:
                    with contextlib.suppress(OSError):
                        stream.close()
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

"""Building many kernels: here and, if there are enough of them, in helper processes on the other processors."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence

from mace_core.errors import UsageError
from mace_core.host.children import python_command
from mace_core.host.threads import default_threads
from mace_core.native.build_worker import BUILT, encode_request, read_message, write_message
from mace_core.native.compiler import compile_object
from mace_core.native.source import KernelSource
from mace_core.native.target import Target

_LOG = logging.getLogger("mace.native")

_KERNELS_PER_HELPER = 6  # fewer are built here in the time that a helper needs to start
_MOST_HELPERS = 7
_HELPER = "from mace_core.native.build_worker import main; main()"
_MOST_COMPLAINT_BYTES = 2000


def build_objects(
    sources: Sequence[KernelSource],
    target: Target,
    finished: Callable[[KernelSource, bytes], None],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Build all sources; ``finished`` and ``progress`` are called in the calling thread.

    ``MACE_BUILD_PROCESSES`` sets how many processes take part at most, this one included.

    Raises:
        KernelError: a kernel cannot be built.
    """
    work = _Work(sources, target)
    helpers: list[_Helper] = []
    done = 0
    try:
        try:
            for _ in range(_helper_count(work)):
                helpers.append(_Helper(work))
        except OSError as error:
            _LOG.info("No more than %d helper processes can be started (%s).", len(helpers), error)
        while done < len(sources):
            if progress is not None:
                progress(done, len(sources))
            source = work.next_here()
            if source is None:
                work.wait_for_helper()
            else:
                finished(source, compile_object(source.build(target), source.symbol, target))
                done += 1
            for built in work.take_built():
                finished(*built)
                done += 1
        if progress is not None:
            progress(done, len(sources))
    finally:
        for helper in helpers:
            helper.close()


def _helper_count(work: _Work) -> int:
    if not sys.executable or getattr(sys, "frozen", False):
        return 0  # no Python interpreter to start
    setting = os.environ.get("MACE_BUILD_PROCESSES", "")
    if setting and not setting.isdigit():
        raise UsageError(f"MACE_BUILD_PROCESSES is '{setting}', which is not a number")
    most = int(setting) if setting else default_threads()
    return max(0, min(most - 1, _MOST_HELPERS, work.portable // _KERNELS_PER_HELPER))


class _Work:
    """What is still to be built, what helpers are at, and what they have built."""

    def __init__(self, sources: Sequence[KernelSource], target: Target) -> None:
        self._changed = threading.Condition()
        self._local: deque[KernelSource] = deque()
        self._portable: deque[tuple[KernelSource, bytes]] = deque()
        self._built: deque[tuple[KernelSource, bytes]] = deque()
        for source in sources:
            try:
                self._portable.append((source, encode_request(source, target)))
            except Exception:  # pickle raises many things; such a source is built here
                self._local.append(source)
        self.portable = len(self._portable)

    def next_here(self) -> KernelSource | None:
        with self._changed:
            if self._local:
                return self._local.popleft()
            return self._portable.pop()[0] if self._portable else None

    def next_for_helper(self) -> tuple[KernelSource, bytes] | None:
        with self._changed:
            return self._portable.popleft() if self._portable else None

    def built(self, source: KernelSource, image: bytes) -> None:
        with self._changed:
            self._built.append((source, image))
            self._changed.notify()

    def give_back(self, source: KernelSource) -> None:
        """The helper could not build it: build it here, where its error can be raised."""
        with self._changed:
            self._local.append(source)
            self._changed.notify()

    def take_built(self) -> list[tuple[KernelSource, bytes]]:
        with self._changed:
            taken = list(self._built)
            self._built.clear()
            return taken

    def wait_for_helper(self) -> None:
        """Wait a little for a helper to have built something or given something back."""
        with self._changed:
            # with a limit, because on Windows an unlimited wait does not see Ctrl-C
            self._changed.wait_for(lambda: self._built or self._local, timeout=0.5)


class _Helper:
    """A process and the thread that feeds it."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            self._process = subprocess.Popen(
                python_command(_HELPER),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,  # whatever ends it is told here, by the process that the user knows
                process_group=None if os.name == "nt" else 0,  # Ctrl-C is this process's to deal with
            )
        except BaseException:
            self._complaints.close()
            raise
        self._feeder = threading.Thread(target=self._feed, name="mace-build", daemon=True)
        self._feeder.start()

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._feeder.join()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._complaints.close()

    def _feed(self) -> None:
        while (item := self._work.next_for_helper()) is not None:
            source, request = item
            answer = self._ask(request)
            if answer is not None and answer.startswith(BUILT):
                self._work.built(source, answer[1:])
                continue
            reason = self._end() if answer is None else answer[1:].decode(errors="replace")
            _LOG.info("A helper process could not build kernel %s (%s); building it here.", source.symbol, reason)
            self._work.give_back(source)
            if answer is None:
                return

    def _end(self) -> str:
        """How the process ended, with the last of what it wrote about that."""
        self._process.wait()
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, size - _MOST_COMPLAINT_BYTES))
        said = self._complaints.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        return f"it ended with code {self._process.returncode}: {last}"

    def _ask(self, request: bytes) -> bytes | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_message(self._process.stdin, request)
            return read_message(self._process.stdout)
        except (OSError, ValueError):  # the process is gone, or its pipes were closed
            return None

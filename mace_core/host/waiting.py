"""Calls into plugins that may never come back: nobody waits for them for longer than the limits say.

A plugin is somebody else's code, and what hangs in a driver cannot be stopped from outside.  So it is called in a
thread of its own, and after a time the caller goes on without the answer.  The thread stays behind until the call comes
back, if ever; meanwhile the plugin is not called again, and what was to be closed of it is closed afterwards.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from mace_core.errors import DeviceLostError
from mace_core.host import fork_safe, process_end
from mace_core.host.fork_safe import fork_safe_lock, fork_safe_rlock

_log = logging.getLogger("mace.plugins")

_T = TypeVar("_T")

INTERRUPT_SECONDS = 5.0
"""So long a call that was interrupted, as by Ctrl-C, has to end by itself."""


class GivenUpError(DeviceLostError):
    """A call has not come back for so long that nobody waits for it any more."""


def within(
    seconds: float,
    plugin: str,
    deed: str,
    function: Callable[[], _T],
    *,
    limit: str,
    late: Callable[[_T], object] | None = None,
    ended: Callable[[], object] | None = None,
) -> _T:
    """The result of ``function``, which nobody waits for after ``seconds``.

    Args:
        seconds: where infinite, it is called in this thread.
        plugin: whose code it is.
        deed: what that does meanwhile, for messages ("looking for its devices").
        limit: the field of `FaultLimits` that has ``seconds``, for messages.
        late: given the result that comes when nobody waits for it any more.
        ended: called when it has come back, in time or not.

    Raises:
        GivenUpError: if that was not enough, or an earlier call of the plugin has not come back.
        BaseException: what ``function`` raises.
    """
    try:
        _wait_for_left(plugin, seconds)
    except BaseException:
        if ended is not None:
            ended()
        raise
    call = _Call(plugin, deed, function, late, ended)
    thread = threading.Thread(target=call.work, name=f"mace-call-{plugin}", daemon=True)
    if math.isinf(seconds) or not _started(thread):
        return call.here()
    try:  # not `Thread.join`: one that was interrupted takes the thread for ended
        call.done.wait(min(seconds, threading.TIMEOUT_MAX))
    except BaseException:  # Ctrl-C, or what the handler of another signal raised
        call.is_interrupted = True
        _interrupt(thread)
        try:
            call.done.wait(INTERRUPT_SECONDS)
        finally:
            call.leave(thread)
        raise
    if not call.leave(thread):
        return call.result()
    raise GivenUpError(
        f"it had not come back after {seconds:g} s; set {limit} in MACE_FAULT_LIMITS to wait longer, or "
        f"MACE_DISABLE_PLUGINS={plugin} to leave it out at once"
    )


def hangs(plugin: str) -> str:
    """What a call of ``plugin`` that nobody waits for any more is at, and for how long; "" where there is none."""
    with _lock:
        call = next(iter(_left.get(plugin, ())), None)
    return "" if call is None else f"has been {call.deed} for {time.monotonic() - call.begun:.0f} s without an end"


def put_off(plugin: str, function: Callable[[], object]) -> bool:
    """Whether ``function`` is called later: where a call of the plugin hangs, once that has come back, in order."""
    with _lock:
        calls = _left.get(plugin)
        if not calls or any(call.thread is threading.current_thread() for call in calls):
            return False
        calls[0].afterwards.append(function)
        return True


class OneAtATime:
    """Keeps the calls of one provider's ``probe`` and ``open`` apart."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()

    def call(
        self,
        seconds: float,
        plugin: str,
        deed: str,
        function: Callable[[], _T],
        *,
        limit: str,
        late: Callable[[_T], object] | None = None,
    ) -> _T:
        """As `within`, once the call that is going on has come back.

        Raises:
            GivenUpError: as `within`.
        """
        if self in _inside.get():  # a plugin that calls the core, which calls the plugin
            return function()
        self._acquire(plugin)

        def alone() -> _T:
            with _marked(self):
                return function()

        return within(seconds, plugin, deed, alone, limit=limit, late=late, ended=self._lock.release)

    @contextlib.contextmanager
    def held(self, plugin: str) -> Iterator[None]:
        """The body runs when the call that is going on has come back; it may be entered from its own body.

        Raises:
            GivenUpError: if that one hangs.
        """
        if self in _inside.get():
            yield
            return
        self._acquire(plugin)
        try:
            with _marked(self):
                yield
        finally:
            self._lock.release()

    def _acquire(self, plugin: str) -> None:
        while not self._lock.acquire(timeout=0.5):
            if told := hangs(plugin):
                raise _still_hanging(plugin, told)


_inside: contextvars.ContextVar[tuple[OneAtATime, ...]] = contextvars.ContextVar("one_at_a_time", default=())


@contextlib.contextmanager
def _marked(lock: OneAtATime) -> Iterator[None]:
    token = _inside.set((*_inside.get(), lock))
    try:
        yield
    finally:
        _inside.reset(token)


class _Call(Generic[_T]):
    """One call, by whatever thread."""

    def __init__(
        self,
        plugin: str,
        deed: str,
        function: Callable[[], _T],
        late: Callable[[_T], object] | None,
        ended: Callable[[], object] | None,
    ) -> None:
        self.plugin = plugin
        self.deed = deed
        self.begun = time.monotonic()
        self.is_interrupted = False
        self.thread: threading.Thread | None = None  # where nobody waits for it
        self.afterwards: list[Callable[[], object]] = []
        self.done = threading.Event()  # it has come back
        self.gone = threading.Event()  # and all that had to wait for that is done
        self._function = function
        self._late = late
        self._ended = ended
        self._context = contextvars.copy_context()
        self._results: list[_T] = []
        self._errors: list[BaseException] = []

    def here(self) -> _T:
        """The result, computed by this thread."""
        try:
            return self._function()
        finally:
            if self._ended is not None:
                self._ended()

    def work(self) -> None:
        """Compute the result, for another thread."""
        try:
            try:
                with process_end.at_work_for_another(), fork_safe.unforked_for_another():
                    self._results.append(self._context.run(self._function))
            except BaseException as error:
                self._errors.append(error)
            self._end()
        except KeyboardInterrupt:  # that of `_interrupt`, which came when the call was over
            self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        with _lock:
            self.done.set()
            is_left = self.thread is not None
        if is_left:
            self._come_late()
        self.gone.set()

    def result(self) -> _T:
        """What came of it."""
        if self._errors:
            try:
                raise self._errors[0]
            finally:
                self._errors.clear()  # its traceback refers to this
        return self._results[0]

    def leave(self, thread: threading.Thread) -> bool:
        """Wait no longer; False where it is done."""
        with _lock:
            if self.done.is_set():
                return False
            self.thread = thread
            _left.setdefault(self.plugin, []).append(self)
        assert thread.ident is not None
        fork_safe.leave_behind(thread.ident)
        process_end.leave_behind(thread.ident)
        return True

    def _come_late(self) -> None:
        if self._results and self._late is not None:
            _try(lambda: self._late and self._late(self._results[0]), self.plugin)
        while True:
            with _lock:
                calls = _left.get(self.plugin)
                if not self.afterwards:
                    if calls is None or self not in calls:
                        return
                    calls.remove(self)
                    if not calls:
                        del _left[self.plugin]
                    break
                function = self.afterwards.pop(0)
            _try(function, self.plugin)
        _log.warning(
            "the plugin '%s' is back after %.0f s of %s", self.plugin, time.monotonic() - self.begun, self.deed
        )


_lock = fork_safe_rlock()  # garbage may be collected where it is held, and what is closed then asks whether it may be
_left: dict[str, list[_Call[Any]]] = {}
"""Calls that nobody waits for any more and that have not come back, by plugin."""


def _try(function: Callable[[], object], plugin: str) -> None:
    try:
        function()
    except BaseException as error:
        _log.error("'%s': %r", plugin, error)


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:  # as many threads as there may be: rather wait without a limit
        return False
    return True


def _wait_for_left(plugin: str, seconds: float) -> None:
    """
    Raises:
        GivenUpError: if an earlier call hangs; one that was interrupted may take as long as another call.
    """
    with _lock:
        calls = list(_left.get(plugin, ()))
    for call in calls:
        if call.thread is not None and call.is_interrupted and call.thread is not threading.current_thread():
            call.gone.wait(min(seconds, threading.TIMEOUT_MAX))
    if told := hangs(plugin):
        raise _still_hanging(plugin, told)


def _still_hanging(plugin: str, told: str) -> GivenUpError:
    return GivenUpError(
        f"the plugin '{plugin}' {told}; set MACE_DISABLE_PLUGINS={plugin} to leave it out, or report it to its vendor"
    )


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in another thread, as soon as that is in Python."""
    import ctypes  # takes milliseconds, which `import mace_core` need not

    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))

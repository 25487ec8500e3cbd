"""The result of a run that was asked for and may not have begun yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from typing import Any

from mace_core.errors import CancelledError
from mace_core.provider.execution import CancelFlag


class RunFuture(Future[dict[str, Any]]):
    """What `Session.run_async` returns: ``await`` it, or call `result`.

    Done, it has the outputs by name or raises what the run raised.  It may be cancelled while it waits and while it
    runs; a run that is cancelled ends soon, and frees what it held.  A task that is cancelled while it awaits the
    future cancels the run.
    """

    def __init__(self, cancel: CancelFlag, cancelled: Callable[[], None]) -> None:
        """
        Args:
            cancel: stops the run.
            cancelled: tells the queue that the flag has been set.
        """
        super().__init__()
        self._cancel = cancel
        self._cancelled = cancelled

    def cancel(self) -> bool:
        """Ask for the run not to happen, or to stop.

        Returns:
            Whether the future is not done yet.  One that runs already is done once the run has stopped: it raises
            `mace_core.errors.CancelledError` then.
        """
        if self.done():
            return False
        self._cancel.set()
        self._cancelled()
        return True

    def cancelled(self) -> bool:
        """Whether it ended because it was cancelled."""
        return self.done() and isinstance(self.exception(), CancelledError | FutureCancelledError)

    def succeed(self, outputs: dict[str, Any]) -> None:
        """Set the outputs; for the queue alone."""
        self._cancelled = _nothing  # which holds the request, and so what it was fed
        self.set_result(outputs)

    def fail(self, error: BaseException) -> None:
        """Set what the run raised; for the queue alone."""
        self._cancelled = _nothing
        self.set_exception(error)

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        # asyncio.wrap_future would raise asyncio.CancelledError for a run that something else than this task stopped
        if not self.done():
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not waiter.done():
                    waiter.set_result(None)

            def done(_: object) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(wake)

            self.add_done_callback(done)
            try:
                yield from waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()


def _nothing() -> None:
    """What a future that is done tells nobody."""

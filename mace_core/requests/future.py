"""The result of a run that was asked for and may not have begun yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from typing import Any

from mace_core.errors import CancelledError
from mace_core.provider.execution import CancelFlag


class RunFuture(Future[dict[str, Any]]):
    """What `Session.run_async` returns: ``await`` it, or call `result`.

    Done, it has the outputs by name or raises what the run raised.  It may be cancelled while it waits and while it
    runs; a run that is cancelled ends soon, and frees what it held.
    """

    def __init__(self, cancel: CancelFlag, forget: Callable[[], bool]) -> None:
        """
        Args:
            cancel: stops the run.
            forget: takes the request out of its queue; False where it is not there any more.
        """
        super().__init__()
        self._cancel = cancel
        self._forget = forget

    def cancel(self) -> bool:
        """Ask for the run not to happen, or to stop.

        Returns:
            Whether the future is not done yet.  One that runs already is done once the run has stopped: it raises
            `mace_core.errors.CancelledError` then.
        """
        if self.done():
            return False
        self._cancel.set()
        if self._forget():
            self.fail(CancelledError("the run was cancelled before it began"))
        return True

    def cancelled(self) -> bool:
        """Whether it ended because it was cancelled."""
        return self.done() and isinstance(self.exception(), CancelledError | FutureCancelledError)

    def succeed(self, outputs: dict[str, Any]) -> None:
        """Set the outputs; for the queue alone."""
        if not self.done():
            self.set_result(outputs)

    def fail(self, error: BaseException) -> None:
        """Set what the run raised; for the queue alone."""
        if not self.done():
            self.set_exception(error)

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        return (yield from asyncio.wrap_future(self).__await__())

"""Connections of HTTP that cannot be held open by clients who send nothing, or too slowly."""

from __future__ import annotations

import asyncio
from typing import Any


def protocol_class(header_timeout: float, most: int) -> Any:
    """Uvicorn's protocol, with limits that it does not have itself.

    Args:
        header_timeout: seconds from the first byte of a request, or from the connection's beginning, to the end of the
            request's headers.
        most: connections at a time; further ones are closed.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol

    class LimitedProtocol(base):  # type: ignore[misc]
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
            self._wait_for_headers()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and self._is_between():
                self._wait_for_headers()
            super().data_received(data)
            if not self._is_between():
                self._stop_waiting()

        def _is_between(self) -> bool:
            """Whether no request is being read or answered."""
            return self.cycle is None or self.cycle.response_complete

        def _wait_for_headers(self) -> None:
            self._deadline = self.loop.call_later(header_timeout, self._give_up)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if self._is_between() and not self.transport.is_closing():
                self.transport.abort()

    return LimitedProtocol

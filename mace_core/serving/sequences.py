"""Sequences of requests to models that keep state: each has a state of its own (KServe's sequence extension)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mace_core.serving.exchange import InferRequest
from mace_core.serving.failures import Fault, ServingError, bad_request


@dataclass(slots=True)
class _Sequence:
    """One that is going on.

    Attributes:
        state: what the next run is fed, by the names of inputs.
        used: when it was last asked for something; of the monotonic clock.
        turn: held by the request that runs: one goes on from what the one before left.
    """

    state: Mapping[str, Any]
    used: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sequences:
    """Those of one model.

    Attributes:
        pairs: of the model's state: input name -> name of the output that feeds it next.
    """

    def __init__(self, name: str, pairs: Mapping[str, str], start: Mapping[str, Any], limit: int, idle: float) -> None:
        """
        Args:
            name: of the model.
            pairs: of its state.
            start: what the first run of a sequence is fed.
            limit: sequences at most.
            idle: seconds after which one that nobody uses may be given up.
        """
        self.pairs = dict(pairs)
        self._name = name
        self._start = dict(start)
        self._limit = limit
        self._idle = idle
        self._going: dict[int | str, _Sequence] = {}

    def __len__(self) -> int:
        return len(self._going)

    def of(self, request: InferRequest) -> _Sequence:
        """The sequence that a request belongs to: a new one where it says that it is the first.

        Raises:
            ServingError: if it belongs to none, or to one that has not begun, or there are too many.
        """
        wanted = request.sequence
        if wanted is None:
            raise bad_request(
                f"the model '{self._name}' keeps state from run to run: send 'sequence_id', and with the first request "
                "'sequence_start': true"
            )
        now = time.monotonic()
        found = self._going.get(wanted.id)
        if wanted.starts:
            if found is None:
                self._make_room(now)
            found = self._going[wanted.id] = _Sequence(self._start, now)
        elif found is None:
            raise bad_request(
                f"the model '{self._name}' has no sequence {_shown(wanted.id)}: send 'sequence_start': true with "
                f"the first request (sequences that nobody uses for {self._idle:g} s may be given up)"
            )
        found.used = now
        return found

    def ended(self, request: InferRequest, sequence: _Sequence) -> None:
        """Forget a sequence whose last request was answered."""
        wanted = request.sequence
        if wanted is not None and wanted.ends and self._going.get(wanted.id) is sequence:
            del self._going[wanted.id]

    def _make_room(self, now: float) -> None:
        if len(self._going) < self._limit:
            return
        for identity, each in list(self._going.items()):
            if now - each.used > self._idle and not each.turn.locked():
                del self._going[identity]
        if len(self._going) >= self._limit:
            raise ServingError(
                Fault.BUSY, f"{self._limit} sequences of the model '{self._name}' are going on already; try again later"
            )


def _shown(identity: int | str) -> str:
    return str(identity) if isinstance(identity, int) else repr(identity[:80])

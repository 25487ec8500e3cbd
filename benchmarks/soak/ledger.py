"""What became of every request: asked for once, answered once, and rightly."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter

RIGHT, CANCELLED, EXPIRED, REFUSED = "right", "cancelled", "expired", "refused"
GOOD = (RIGHT, CANCELLED, EXPIRED, REFUSED)
WRONG, FAILED, TWICE, LOST = "wrong", "failed", "answered twice", "lost"
BAD = (WRONG, FAILED, TWICE, LOST)

_MOST_NOTES = 20


class Ledger:
    """Requests of all loads.

    Attributes:
        notes: what was bad, in words; the first few.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._counts: dict[str, Counter[str]] = {}
        self._open: dict[int, tuple[str, float]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def ask(self, load: str) -> int:
        """A request is made; the number to `end` it with."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = load, time.monotonic()
            self._counts.setdefault(load, Counter())["asked"] += 1
            return number

    def end(self, number: int, outcome: str, note: str = "") -> None:
        """A request has been answered."""
        with self._lock:
            load, _ = self._open.pop(number, ("", 0.0))
            if not load:
                load, outcome, note = "all", TWICE, f"request {number}: {outcome}"
            self._counts.setdefault(load, Counter())[outcome] += 1
            if outcome in BAD and len(self.notes) < _MOST_NOTES:
                self.notes.append(f"{load}: {outcome}{f': {note}' if note else ''}")

    def close(self) -> None:
        """No answer will come any more: what has none is lost."""
        for number, (load, begun) in list(self._open.items()):
            self.end(number, LOST, f"request {number} of {load}, asked for {time.monotonic() - begun:.0f} s ago")

    @property
    def waiting(self) -> int:
        """Requests that have no answer yet."""
        return len(self._open)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For each load how many requests there were of each outcome, and how many were asked for."""
        with self._lock:
            return {load: dict(counts) for load, counts in self._counts.items()}

    def total(self, outcome: str) -> int:
        """Of all loads."""
        return sum(counts.get(outcome, 0) for counts in self.counts.values())

    def verdict(self) -> str:
        """What is wrong, as part of a sentence; "" where nothing is."""
        bad = {outcome: count for outcome in BAD if (count := self.total(outcome))}
        if not bad:
            return ""
        counted = ", ".join(f"{count} {outcome}" for outcome, count in bad.items())
        return f"of {self.total('asked')} requests {counted} ({self.notes[0]})"

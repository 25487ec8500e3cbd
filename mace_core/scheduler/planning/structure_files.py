"""Plans of symbolic sizes in the cache folder: an index for each model, and a file for each plan.

The index says what sizes have varied, and what each plan there is holds for, so that only one that serves a signature
is opened.  It is a hint: whoever opens a plan asks that plan's own conditions.  Two processes that store at the same
moment may forget what the other one stored; that is made again when it is needed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mace_core.scheduler.planning.signatures import MOST_STRUCTURES

if TYPE_CHECKING:
    from mace_core.caching.cache import CheckedCache
    from mace_core.caching.mapped import MappedCache

_log = logging.getLogger("mace")

MOST_FAMILIES = 32
"""Of one model, in the cache folder; the one that nobody has added to for longest is forgotten first."""


class Summary(NamedTuple):
    """What the index says of a plan: which numbers of a signature it holds for.

    Attributes:
        symbols: for each symbol the positions of the numbers that it stands for.
        fixed: other positions, and what numbers are there.
        largest: what the value of a symbol may be at most.
        rows: of a `SizeProgram`, which computes what the conditions look at.
        checks: register, relation to 0 (``==`` or ``<``), outcome.
    """

    symbols: Sequence[Sequence[int]]
    fixed: Sequence[Sequence[int]]
    largest: int
    rows: Sequence[Sequence[int]]
    checks: Sequence[tuple[int, str, bool]]

    def admits(self, numbers: Sequence[int]) -> bool:
        """Whether the plan is likely to hold for a signature.

        Raises:
            IndexError, KeyError, OverflowError, TypeError, ValueError: if this is not a summary of such a plan.
        """
        if any(numbers[position] != number for position, number in self.fixed):
            return False
        values = [numbers[first] for first, *_ in self.symbols]
        if any(numbers[position] != numbers[first] for first, *others in self.symbols for position in others):
            return False
        if any(abs(value) > self.largest for value in values):
            return False
        from mace_core.symbolic import SizeProgram

        program = SizeProgram(len(values), np.array(self.rows, np.int64).reshape(-1, 3))
        try:
            registers = program.run(values)
        except ZeroDivisionError:
            return False
        holds = {"==": lambda value: value == 0, "<": lambda value: value < 0}
        return all(holds[relation](registers[register]) is outcome for register, relation, outcome in self.checks)


class StructureFiles:
    """The plans of symbolic sizes of one model."""

    def __init__(
        self, entries: MappedCache, index: CheckedCache, model_key: Callable[[], str], *, mmap: bool = True
    ) -> None:
        """``mmap``: what is stored is used where it lies in its file."""
        self._entries = entries
        self._index = index
        self._model_key = model_key
        self._mmap = mmap

    def family(self, key: str) -> StoredFamily:
        """What is stored of signatures that differ in numbers alone; ``key`` tells them from others."""
        return StoredFamily(self, key, self._read().get(key, {}))

    def open(self, family: str, slot: int) -> memoryview | None:
        """The plan in a slot, if there is one."""
        return self._entries.view(self._entry_key(family, slot), mmap=self._mmap)

    def put(self, family: str, slot: int, parts: Sequence[bytes | memoryview]) -> bool:
        """Store a plan; whether that was possible."""
        return self._entries.put_parts(self._entry_key(family, slot), parts)

    def change(self, key: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change what the index says of a family, and count it as the one that was added to last."""
        families = self._read()
        family = families.pop(key, {})
        change(family)
        families[key] = family
        while len(families) > MOST_FAMILIES:
            stale = next(iter(families))
            for slot in families.pop(stale).get("structures", {}):
                self._entries.remove(self._entry_key(stale, int(slot)))
        document = {"families": families}
        self._index.put(self._model_key(), json.dumps(document, separators=(",", ":")).encode())

    def summaries(self, key: str) -> dict[int, Any]:
        """What the index says now of each plan of a family, by slot."""
        return {int(slot): stored for slot, stored in self._read().get(key, {}).get("structures", {}).items()}

    def _read(self) -> dict[str, dict[str, Any]]:
        entry = self._index.get(self._model_key())
        if entry is None:
            return {}
        try:
            families: dict[str, dict[str, Any]] = json.loads(entry)["families"]
            if all(isinstance(family, dict) for family in families.values()):
                return families
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.info("the index of stored plans cannot be read (%s: %s)", type(error).__name__, error)
        return {}

    def _entry_key(self, family: str, slot: int) -> str:
        return f"plan {self._model_key()} {family} {slot}"


class StoredFamily:
    """What the cache has of signatures that differ in numbers alone, as it was when this process looked.

    Attributes:
        first: the numbers of the first one that was planned; None where none was.
        varied: the positions of numbers that have been seen to vary.
        failures: how often no plan of symbolic sizes could be made; ``refusal`` says why, the last time.
    """

    def __init__(self, files: StructureFiles, key: str, stored: dict[str, Any]) -> None:
        """
        Args:
            files: where it is stored.
            key: tells it from other families.
            stored: what the index says of it.
        """
        self._files = files
        self.key = key
        self.first: tuple[int, ...] | None = None
        self.varied: frozenset[int] = frozenset()
        self.failures = 0
        self.refusal = ""
        self._summaries: dict[int, Summary] = {}
        self._stale: set[int] = set()
        try:
            if stored:
                self.first = tuple(map(int, stored["first"]))
                self.varied = frozenset(map(int, stored["varied"]))
                self.failures, self.refusal = int(stored.get("failures", 0)), str(stored.get("refusal", ""))
                found = {int(slot): Summary(*row) for slot, row in stored["structures"].items()}
                self._summaries = {slot: row for slot, row in found.items() if 0 <= slot < MOST_STRUCTURES}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.info("what is stored of some plans cannot be read (%s: %s)", type(error).__name__, error)

    def check(self, numbers: int) -> None:
        """Forget what cannot be of a signature of so many numbers."""
        if self.first is not None and len(self.first) != numbers:
            _log.info("what is stored of some plans is not used: it has %d numbers, not %d", len(self.first), numbers)
            self.first = None
            self.varied, self._summaries = frozenset(), {}
        self.varied = frozenset(position for position in self.varied if 0 <= position < numbers)

    @property
    def count(self) -> int:
        """How many plans there are."""
        return len(self._summaries)

    def admitting(self, numbers: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
        """The plans that are likely to hold for a signature, by slot, the latest first."""
        for slot, summary in sorted(self._summaries.items(), reverse=True):
            try:
                is_admitted = summary.admits(numbers)
            except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
                _log.info("a stored plan is not used (%s: %s)", type(error).__name__, error)
                self.forget(slot)
                continue
            if is_admitted:
                entry = self._files.open(self.key, slot)
                if entry is None:
                    self.forget(slot)
                else:
                    yield slot, entry

    def forget(self, slot: int) -> None:
        """What is in a slot is of no use; another plan may take its place."""
        self._summaries.pop(slot, None)
        self._stale.add(slot)

    def note(
        self, first: Sequence[int], varied: Sequence[int] = (), also: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """Store that a signature was planned, and which numbers have been seen to vary; ``also``: changes more."""

        def change(family: dict[str, Any]) -> None:
            if also is not None:
                also(family)
            family.setdefault("first", list(first))
            family.setdefault("structures", {})
            family["varied"] = sorted({*family.get("varied", ()), *varied})

        self.first, self.varied = self.first or tuple(first), self.varied.union(varied)
        self._files.change(self.key, change)

    def note_failure(self, first: Sequence[int], varied: Sequence[int], reason: str) -> None:
        """Store that no plan of symbolic sizes could be made, and why: later processes need not try as often."""

        def change(family: dict[str, Any]) -> None:
            family["failures"] = int(family.get("failures", 0)) + 1
            family["refusal"] = reason

        self.failures, self.refusal = self.failures + 1, reason
        self.note(first, varied, change)

    def keep(self, numbers: Sequence[int], summary: Summary, parts: Sequence[bytes | memoryview]) -> None:
        """Store a plan, if there is room for another one.

        Args:
            numbers: of the signature that it was made for.
            summary: what it holds for.
            parts: its content.
        """
        slot = self._slot_for(summary)
        if slot is None or not self._files.put(self.key, slot, parts):
            return
        varied = {position for group in summary.symbols for position in group}

        def change(family: dict[str, Any]) -> None:
            family.setdefault("first", list(numbers))
            family["varied"] = sorted({*family.get("varied", ()), *varied})
            family.setdefault("structures", {})[str(slot)] = summary

        self._summaries[slot] = summary
        self._stale.discard(slot)
        self._files.change(self.key, change)

    def _slot_for(self, summary: Summary) -> int | None:
        """Where to store a plan: in the place of one that holds for the same, else where there is room."""
        there = self._files.summaries(self.key)  # another process may have stored some meanwhile
        same = json.loads(json.dumps(summary))
        for slot, stored in there.items():
            if stored == same:
                return slot
        taken = {*there, *self._summaries} - self._stale
        return next((slot for slot in range(MOST_STRUCTURES) if slot not in taken), None)

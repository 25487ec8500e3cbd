"""What partitions of a model really took, kept between processes: they go over what rates predict.

Times are kept for a part of a model under one signature, and for each device under all that its rates depend on.  Of
several times the least counts, since all that disturbs only adds time, but for those that `mace calibrate` measures:
they replace what was there.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mace_core.caching.cache import CheckedCache
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.scheduler.planning.digests import digest_of, part_words
from mace_core.scheduler.planning.stored_rates import device_key

if TYPE_CHECKING:
    from mace_core.graph import Graph, Value
    from mace_core.scheduler.planning.devices import SessionDevice
    from mace_core.tensor import Tensor, ValueType

_log = logging.getLogger("mace")

FORMAT = "1"
"""Changes whenever a number means something else than before."""

BETTER = 0.9
"""A time is taken in place of an earlier one only if it is shorter by this factor: what is kept decides placements, and
these are not to be made again for nothing."""

MOST_PARTS = 64
"""Partitions kept of one part of a model on one device; the oldest are dropped."""

MOST_RUNS = 12
"""The same for runs of whole placements."""

Names: TypeAlias = "tuple[str, ...]"
"""The nodes of a partition, in order."""


class ModelTimes:
    """The times of one model's parts.

    Attributes:
        samples: runs of each plan that are timed.
        replace: whether what is measured now replaces what is kept, also where that is shorter.
    """

    def __init__(self, model_key: Callable[[], str], directory: Path | None = None) -> None:
        """``model_key``: what tells the model from others."""
        self.samples = 6
        self.replace = False
        self._model_key = model_key
        self._store = CheckedCache("times", FORMAT, directory)
        self._parts: dict[str, PartTimes] = {}
        self._lock: threading.Lock = fork_safe_lock()

    def of(self, graph: Graph, types: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> PartTimes:
        """Those of a part of the model under one signature."""
        key = digest_of(self._model_key(), *part_words(graph, types, values))
        with self._lock:
            found = self._parts.get(key)
            if found is None:
                found = self._parts[key] = PartTimes(self, key, self._store)
            return found


class KnownRun(NamedTuple):
    """A whole run: its seconds, the device of each node, and for each device what it depended on."""

    seconds: float
    where: Mapping[str, str]
    devices: Mapping[str, str]


class PartTimes:
    """The times of a part of a model: of its partitions, and of whole runs by where the nodes are."""

    def __init__(self, owner: ModelTimes, key: str, store: CheckedCache) -> None:
        self.owner = owner
        self._key = key
        self._store = store
        self._known: dict[str, dict[Names, float]] = {}
        self._runs: dict[str, KnownRun] | None = None
        self._lock = fork_safe_lock()

    def partitions(self, device: SessionDevice) -> Mapping[Names, float]:
        """Seconds of partitions that ran on the device as it is now, launching them included, borders not."""
        found = self._known.get(device.name)
        if found is None:
            found = self._known[device.name] = self._read_partitions(device)
        return found

    def run(self, placement: str, devices: Sequence[SessionDevice]) -> float | None:
        """Seconds of a whole run; ``placement``: of `placement_key`, ``devices``: those there are."""
        found = self._all_runs().get(placement)
        return found.seconds if found is not None and _holds(found, devices) else None

    def runs(self, devices: Sequence[SessionDevice]) -> list[KnownRun]:
        """The runs whose devices are as they were then."""
        return [found for found in self._all_runs().values() if _holds(found, devices)]

    def word(self, devices: Sequence[SessionDevice]) -> str:
        """Changes whenever what is known does; "" where nothing is."""
        times = {device.name: sorted(self.partitions(device).items()) for device in devices}
        known = [{name: each for name, each in times.items() if each}, *sorted(self._all_runs())]
        return digest_of(repr(known), *(repr(each.seconds) for each in self.runs(devices))) if len(known) > 1 else ""

    def note_partitions(self, device: SessionDevice, times: Mapping[Names, float]) -> None:
        """Keep what partitions took on ``device``."""
        with self._lock:
            known = dict(self.partitions(device))
            news = {names: seconds for names, seconds in times.items() if self._is_news(known.get(names), seconds)}
            if not news:
                return
            kept = [*((names, seconds) for names, seconds in known.items() if names not in news), *news.items()]
            self._known[device.name] = dict(kept[-MOST_PARTS:])
            data = [[list(names), seconds] for names, seconds in kept[-MOST_PARTS:]]
            self._store.put(self._partitions_key(device), json.dumps(data).encode())

    def note_run(self, where: Sequence[tuple[str, str]], devices: Sequence[SessionDevice], seconds: float) -> None:
        """Keep what a whole run took; ``where``: names of all nodes with their devices, in order."""
        with self._lock:
            key = placement_key(where)
            if not self._is_news(self.run(key, devices), seconds):
                return
            known = {name: each for name, each in self._all_runs().items() if name != key}
            known[key] = KnownRun(seconds, dict(where), {device.name: device_key(device) for device in devices})
            self._runs = dict(list(known.items())[-MOST_RUNS:])
            self._store.put(digest_of("runs", self._key), json.dumps(self._runs).encode())

    def _is_news(self, known: float | None, seconds: float) -> bool:
        return known is None or self.owner.replace or seconds < BETTER * known

    def _all_runs(self) -> dict[str, KnownRun]:
        if self._runs is None:
            payload = self._store.get(digest_of("runs", self._key))
            try:
                data = {} if payload is None else json.loads(payload)
                self._runs = {
                    str(key): KnownRun(float(seconds), dict(where), dict(devices))
                    for key, (seconds, where, devices) in data.items()
                }
            except (AttributeError, TypeError, ValueError) as error:
                _log.info("stored times of runs cannot be read (%s)", error)
                self._runs = {}
        return self._runs

    def _read_partitions(self, device: SessionDevice) -> dict[Names, float]:
        payload = self._store.get(self._partitions_key(device))
        if payload is None:
            return {}
        try:
            return {tuple(map(str, names)): float(seconds) for names, seconds in json.loads(payload)}
        except (TypeError, ValueError) as error:
            _log.info("stored times of %s cannot be read (%s)", device.name, error)
            return {}

    def _partitions_key(self, device: SessionDevice) -> str:
        return digest_of("partitions", self._key, device_key(device))


def _holds(run: KnownRun, devices: Sequence[SessionDevice]) -> bool:
    """Whether the devices of a run are there, and as they were."""
    return run.devices.items() <= {device.name: device_key(device) for device in devices}.items()


def placement_key(where: Iterable[tuple[str, str]]) -> str:
    """One word for where nodes are; ``where``: names of nodes with their devices, in the order of the nodes."""
    return digest_of(*(word for pair in where for word in pair))

"""Requests that come at about the same time, run as one batch."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mace_core.errors import UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.requests.rows import NotBatchableError, RowPlan

_log = logging.getLogger("mace")

SHARED_LIMIT = 4096
"""Bytes up to which inputs without a batch axis are compared; requests that feed more run alone."""

SHAPES_KEPT = 256
"""Shapes of which is remembered whether they may share a run."""

Shapes: TypeAlias = "tuple[tuple[str, tuple[int, ...]], ...]"
"""Of inputs: without the first axis for those that are joined."""

Feeds: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are put together.

    Attributes:
        max_batch: the most rows of a batch.
        max_delay: seconds that a request waits for others at most.
    """

    max_batch: int = 8
    max_delay: float = 0.002

    def __post_init__(self) -> None:
        if self.max_batch < 1 or not self.max_delay >= 0:
            raise UsageError(f"batches have one row at least, and a delay is not negative: {self}")


class Batcher:
    """Joins the feeds of requests along their first axis, and parts the outputs again."""

    def __init__(
        self,
        limits: Batching,
        inputs: Sequence[str],
        shared: Sequence[str],
        plan_of: Callable[[Shapes], RowPlan],
    ) -> None:
        """
        Args:
            inputs: those that are joined.
            shared: the others: requests run together where they feed the same.
            plan_of: how requests of some shapes share a run; raises `NotBatchableError` where they cannot.
        """
        self.limits = limits
        self._inputs, self._shared = tuple(inputs), tuple(shared)
        self._plan_of = plan_of
        self._plans: OrderedDict[Shapes, RowPlan | None] = OrderedDict()
        self._lock = fork_safe_lock()

    def key(self, feeds: Feeds, outputs: Sequence[str] | None) -> tuple[Hashable, int]:
        """What is equal for requests that may run together, and the rows of this one; None where it runs alone."""
        if not isinstance(feeds, Mapping) or len(feeds) != len(self._inputs) + len(self._shared):
            return None, 1
        found: list[Hashable] = []
        rows = set()
        for name in self._inputs:
            array = feeds.get(name)
            if not isinstance(array, np.ndarray) or not array.ndim or array.dtype.hasobject:
                return None, 1
            rows.add(array.shape[0])
            found.append((array.dtype.str, array.shape[1:]))
        for name in self._shared:
            array = feeds.get(name)
            if not isinstance(array, np.ndarray | np.generic) or array.dtype.hasobject or array.nbytes > SHARED_LIMIT:
                return None, 1
            found.append((array.dtype.str, array.shape, array.tobytes()))
        count = rows.pop()
        if rows or not 0 < count <= self.limits.max_batch or self._plans.get(self._shapes(feeds), True) is None:
            return None, 1
        try:
            wanted = None if outputs is None else tuple(outputs)
            hash(wanted)
        except TypeError:
            return None, 1  # the run says what is wrong with it
        return (tuple(found), wanted), count

    def plan(self, feeds: Feeds) -> RowPlan | None:
        """How requests of these shapes share a run; None where they cannot.  Looked at once for each shape."""
        shapes = self._shapes(feeds)
        with self._lock:
            if shapes in self._plans:
                self._plans.move_to_end(shapes)
                return self._plans[shapes]
        try:
            found: RowPlan | None = self._plan_of(shapes)
        except NotBatchableError as error:
            _log.info("requests of the shapes %s are run one by one: %s", dict(shapes), error)
            found = None
        with self._lock:
            self._plans[shapes] = found
            while len(self._plans) > SHAPES_KEPT:
                self._plans.popitem(last=False)
        return found

    def joined(self, batch: Sequence[Feeds]) -> dict[str, Any]:
        """The feeds of one run for all."""
        found = {name: np.concatenate([feeds[name] for feeds in batch]) for name in self._inputs}
        return {**found, **{name: batch[0][name] for name in self._shared}}

    def parted(self, outputs: Mapping[str, Any], rows: Sequence[int], plan: RowPlan) -> list[dict[str, Any]]:
        """The outputs of each request, whose rows are given.

        Raises:
            NotBatchableError: if an output has not the rows it should have.
        """
        found: list[dict[str, Any]] = [{} for _ in rows]
        for name, value in outputs.items():
            each = plan.outputs[name]
            if each is None:
                for part in found:
                    part[name] = value.copy() if isinstance(value, np.ndarray) else value
                continue
            if not isinstance(value, np.ndarray) or not value.ndim or value.shape[0] != sum(rows) * each:
                raise NotBatchableError(f"the output '{name}' does not have the rows of the batch")
            begin = 0
            for part, count in zip(found, rows, strict=True):
                part[name] = value[begin : begin + count * each].copy()
                begin += count * each
        return found

    def _shapes(self, feeds: Feeds) -> Shapes:
        joined = [(name, tuple(feeds[name].shape[1:])) for name in self._inputs]
        return (*joined, *((name, tuple(feeds[name].shape)) for name in self._shared))

"""Requests that come at about the same time, run as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mace_core.errors import UsageError


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
        if self.max_batch < 1 or self.max_delay < 0:
            raise UsageError(f"batches have one row at least, and a delay is not negative: {self}")


class Batcher:
    """Joins the feeds of requests along their first axis, and parts the outputs again."""

    def __init__(self, limits: Batching, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """
        Args:
            inputs, outputs: those whose first axis is the batch; all others must not exist.
        """
        self.limits = limits
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    def fits(self, batch: Sequence[Mapping[str, Any]], feeds: Mapping[str, Any]) -> bool:
        """Whether ``feeds`` may join: arrays of the same types and of the same shapes but for the rows, and there is
        room for them."""
        first = batch[0]
        for name in self._inputs:
            mine, other = feeds.get(name), first.get(name)
            if not isinstance(mine, np.ndarray) or not isinstance(other, np.ndarray):
                return False
            if mine.dtype != other.dtype or mine.shape[1:] != other.shape[1:] or not mine.ndim:
                return False
        if len(feeds) != len(self._inputs) or len({feeds[name].shape[0] for name in self._inputs}) != 1:
            return False
        return sum(map(self._rows, batch)) + self._rows(feeds) <= self.limits.max_batch

    def is_full(self, batch: Sequence[Mapping[str, Any]]) -> bool:
        """Whether nothing more fits."""
        return sum(map(self._rows, batch)) >= self.limits.max_batch

    def joined(self, batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The feeds of one run for all."""
        return {name: np.concatenate([feeds[name] for feeds in batch]) for name in self._inputs}

    def parted(self, outputs: Mapping[str, Any], batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The outputs of each request.

        Raises:
            UsageError: if an output has not as many rows as were fed.
        """
        rows = [self._rows(feeds) for feeds in batch]
        for name, value in outputs.items():
            if not isinstance(value, np.ndarray) or not value.ndim or value.shape[0] != sum(rows):
                raise UsageError(f"the output '{name}' does not have the rows of the batch")
        ends = np.cumsum(rows)
        return [
            {name: value[end - count : end].copy() for name, value in outputs.items()}
            for end, count in zip(ends, rows, strict=True)
        ]

    def _rows(self, feeds: Mapping[str, Any]) -> int:
        found = feeds[self._inputs[0]]
        return int(found.shape[0]) if isinstance(found, np.ndarray) and found.ndim else self.limits.max_batch

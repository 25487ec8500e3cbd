"""The speed of a device in a few numbers, and the time of a node that follows from them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mace_core.scheduler.placing.problem import Link


class WorkKind(enum.Enum):
    """Kinds of work that a device does at different rates."""

    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise"  # few multiply-accumulates for each element: bound by memory on most devices
    MATMUL = "matmul"
    INTEGER = "integer"  # multiply-accumulates of 8-bit integers
    OTHER = "other"  # moves bytes


HERE = Link()
"""Between memories that are the same."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one node has to do: multiply-accumulates, and bytes that it reads and writes."""

    kind: WorkKind
    macs: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device takes, in seconds.

    Attributes:
        launch: for running a partition, however small.
        node: for one more node in a partition.
        byte: for each byte that a node reads or writes.
        mac: for each multiply-accumulate, by kind of work; a missing kind goes as the slowest that is there.
        to_device, from_device: for a tensor that crosses the border.
        watts: power while it works; None where nobody states or measured it.
        source: where the numbers are from, for explanations.
    """

    launch: float = 0.0
    node: float = 0.0
    byte: float = 0.0
    mac: Mapping[WorkKind, float] = field(default_factory=dict)
    to_device: Link = HERE
    from_device: Link = HERE
    watts: float | None = None
    source: str = "measured"

    def seconds(self, work: Work) -> float:
        """The time of one node within a partition: what bounds it, arithmetic or memory, and its overhead."""
        arithmetic = 0.0
        if work.macs:
            each = self.mac.get(work.kind)
            if each is None:
                each = max(self.mac.values(), default=0.0)
            arithmetic = work.macs * each
        return self.node + max(arithmetic, work.nbytes * self.byte)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "launch": self.launch,
            "node": self.node,
            "byte": self.byte,
            "mac": {kind.value: seconds for kind, seconds in self.mac.items()},
            "to_device": [self.to_device.seconds, self.to_device.seconds_per_byte],
            "from_device": [self.from_device.seconds, self.from_device.seconds_per_byte],
            "watts": self.watts,
            "source": self.source,
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Rates:
        """
        Raises:
            ValueError, KeyError, TypeError: if ``data`` is not of `as_data`.
        """
        watts = data["watts"]
        return Rates(
            launch=float(data["launch"]),
            node=float(data["node"]),
            byte=float(data["byte"]),
            mac={WorkKind(kind): float(seconds) for kind, seconds in data["mac"].items()},
            to_device=Link(*map(float, data["to_device"])),
            from_device=Link(*map(float, data["from_device"])),
            watts=None if watts is None else float(watts),
            source=str(data["source"]),
        )


LAST_RESORT = Rates(launch=1e-3, node=1e-3, byte=1e-8, mac={WorkKind.MATMUL: 1e-9}, source="assumed")
"""Of devices that only take what others leave over."""

ASSUMED = Rates(byte=1e-10, mac={WorkKind.MATMUL: 5e-11}, source="assumed")
"""Of any device where nothing is known: 20 billion multiply-accumulates a second, 10 gigabytes a second."""

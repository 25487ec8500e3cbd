"""The speed of a device in a few numbers, and the time of a node that follows from them."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

from mace_core.scheduler.placing.problem import Link


class WorkKind(enum.Enum):
    """Kinds of work that a device does at different rates."""

    CONVOLUTION = "convolution"
    POINTWISE = "pointwise"  # convolutions of one tap: products, without what makes those of many taps cheaper
    DEPTHWISE = "depthwise"  # few multiply-accumulates for each element: bound by memory on most devices
    MATMUL = "matmul"
    INTEGER = "integer"  # multiply-accumulates of 8-bit integers
    OTHER = "other"  # moves bytes


HERE = Link()
"""Between memories that are the same."""


Curve: TypeAlias = "tuple[tuple[int, float], ...]"
"""Measured points: multiply-accumulates of a node, or bytes, and the seconds that they took, both rising."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one node has to do: multiply-accumulates, and bytes that it reads and writes.

    ``follows``: it works on each element of what the node before it made, and nothing else reads that: devices that
    fuse compute it on the way.
    """

    kind: WorkKind
    macs: int
    nbytes: int
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device takes, in seconds.

    Attributes:
        launch: for running a partition, however small.
        node: for one more node in a partition.
        byte: for each byte that a node reads or writes, streaming.
        mac: for each multiply-accumulate, by kind of work; a missing kind goes as the slowest that is there.
        curves: the same by size, where it was measured at several: small nodes do not keep a device busy, and small
            tensors stay in its caches.  That of `WorkKind.OTHER` counts bytes.
        fused: the share of its own time that a node takes which follows another (see `Work`): 1 on a device that runs
            node by node.
        to_device, from_device: for a tensor that crosses the border.
        watts: power while it works; None where nobody states or measured it.
        watts_source: who says so.
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
    curves: Mapping[WorkKind, Curve] = field(default_factory=dict)
    fused: float = 1.0
    watts_source: str = ""

    def seconds(self, work: Work) -> float:
        """The time of one node within a partition: what bounds it, arithmetic or memory, and its overhead."""
        if work.follows and not work.macs:
            return self.fused * (self.node + self._moving(work))
        if work.macs:
            return self.node + max(self._arithmetic(work), work.nbytes * self.byte)
        return self.node + self._moving(work)

    def _moving(self, work: Work) -> float:
        curve = self.curves.get(WorkKind.OTHER)
        return _on_curve(curve, work.nbytes) if curve and work.nbytes else work.nbytes * self.byte

    def _arithmetic(self, work: Work) -> float:
        kind = work.kind
        if kind is WorkKind.POINTWISE and kind not in self.mac:
            kind = WorkKind.CONVOLUTION
        if curve := self.curves.get(kind):
            return _on_curve(curve, work.macs)
        each = self.mac.get(kind)
        return work.macs * (max(self.mac.values(), default=0.0) if each is None else each)

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
            "watts_source": self.watts_source,
            "source": self.source,
            "curves": {kind.value: [list(point) for point in curve] for kind, curve in self.curves.items()},
            "fused": self.fused,
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
            curves={
                WorkKind(kind): tuple((int(macs), float(seconds)) for macs, seconds in curve)
                for kind, curve in data["curves"].items()
            },
            fused=float(data["fused"]),
            watts_source=str(data["watts_source"]),
        )


def _on_curve(curve: Curve, macs: int) -> float:
    """Seconds between the measured points, straight in the logarithms; beyond them at the rate of the nearest."""
    (least, first), (most, last) = curve[0], curve[-1]
    if macs <= least:
        return first * macs / least
    if macs >= most:
        return last * macs / most
    for (low, before), (high, after) in pairwise(curve):
        if macs <= high:
            share = math.log(macs / low) / math.log(high / low)
            return math.exp(math.log(before) * (1 - share) + math.log(after) * share)
    raise AssertionError("the points of a curve rise")


LAST_RESORT = Rates(launch=1e-3, node=1e-3, byte=1e-8, mac={WorkKind.MATMUL: 1e-9}, watts=100.0, source="assumed")
"""Of devices that only take what others leave over: dearer than any other, in time and in energy."""

ASSUMED = Rates(byte=1e-10, mac={WorkKind.MATMUL: 5e-11}, source="assumed")
"""Of any device where nothing is known: 20 billion multiply-accumulates a second, 10 gigabytes a second."""

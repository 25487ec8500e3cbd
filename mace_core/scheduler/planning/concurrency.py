"""Which steps of a plan may run at the same time: one track per device, and what a track waits for in others.

Steps of one track run one after the other, in the order of the plan.  A step waits for the steps of other tracks that
computed what it reads.  Since both follow the order of the plan, no tracks can wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mace_core.graph import Node
from mace_core.scheduler.planning.steps import (
    HOST,
    DownloadStep,
    Register,
    RunStep,
    Step,
    UploadStep,
    owner,
    reads,
    writes,
)

LEAST_OVERLAP_SECONDS = 100e-6
"""Where costs are known: what two partitions must have to share, so that telling another thread is worth it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A step of one track that a step of another one waits for, by their numbers."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Tracks:
    """How the steps of a plan are shared among threads.

    Attributes:
        devices: the device of each track whose steps are of one; the first track is that of the calling thread, which
            also does what the core does itself.
        steps: for each track the numbers of its steps, in order.
        edges: what has to be waited for; what follows from other edges and from the order in the tracks is left out.
        before: for each step the set of the steps that are over when it begins, as bits.
    """

    devices: tuple[str, ...]
    steps: tuple[tuple[int, ...], ...]
    edges: tuple[Edge, ...]
    before: tuple[int, ...]

    def is_over(self, users: int, writer: int) -> bool:
        """Whether all ``users`` (steps, as bits) are over when the step ``writer`` begins."""
        return not users & ~self.before[writer]


def with_downloads_early(steps: Sequence[Step]) -> list[Step]:
    """The steps in another order: what a device computed goes to the host at once, and does not wait until that device
    has done what else the plan has for it before the first reader."""
    writer = {register: step for step in steps for register in writes(step)}
    behind: dict[int, list[Step]] = {}
    moved: set[int] = set()
    for step in steps:
        if isinstance(step, DownloadStep) and step.source in writer:
            behind.setdefault(id(writer[step.source]), []).append(step)
            moved.add(id(step))
    found: list[Step] = []
    for step in steps:
        if id(step) not in moved:
            found += [step, *behind.get(id(step), ())]
    return found


def tracks_of(
    steps: Sequence[Step], registers: Sequence[Register], predicted: Mapping[tuple[Node, ...], float] | None = None
) -> Tracks | None:
    """The tracks of a plan; None where no two devices have anything to do at the same time.

    Args:
        predicted: seconds of each partition, by its nodes, where they are known.
    """
    home = _home(steps)
    if home is None or any(isinstance(step, RunStep) and step.writes_over for step in steps):
        return None
    names = list(dict.fromkeys((home, *(_device(step) or home for step in steps))))
    track_of = [names.index(_device(step) or home) for step in steps]
    written: dict[int, int] = {}
    latest: dict[int, int] = {}
    before: list[int] = []
    edges: list[Edge] = []
    for number, step in enumerate(steps):
        known, previous = 0, latest.get(track_of[number])
        if previous is not None:
            known = before[previous] | 1 << previous
        needed = {written[at] for r in reads(step) if (at := owner(r, registers)) in written}
        for source in sorted(needed, reverse=True):
            if not known >> source & 1:
                edges.append(Edge(source, number))
                known |= before[source] | 1 << source
        before.append(known)
        latest[track_of[number]] = number
        written.update((owner(register, registers), number) for register in writes(step))
    found = Tracks(
        tuple(names),
        tuple(tuple(n for n, own in enumerate(track_of) if own == track) for track in range(len(names))),
        tuple(edges),
        tuple(before),
    )
    return found if _is_worth_it(found, steps, predicted) else None


def _device(step: Step) -> str:
    """The device that a step keeps busy; "" for what the core does itself."""
    return step.device if isinstance(step, RunStep | UploadStep | DownloadStep) else ""


def _home(steps: Sequence[Step]) -> str | None:
    """The device that the calling thread serves: of those on the host's memory, whose calls usually last as long as
    their work, the one with the most nodes; the first one where there is none.  None for a plan of one device."""
    devices = {step.device for step in steps if isinstance(step, RunStep)}
    if len(devices) < 2:
        return None
    nodes: dict[str, int] = {}
    for step in steps:
        if isinstance(step, RunStep) and step.location == HOST:
            nodes[step.device] = nodes.get(step.device, 0) + len(step.nodes)
    if nodes:
        return max(nodes, key=lambda device: nodes[device])
    return next(step.device for step in steps if isinstance(step, RunStep))


def _is_worth_it(tracks: Tracks, steps: Sequence[Step], predicted: Mapping[tuple[Node, ...], float] | None) -> bool:
    """Whether two devices can work at the same time, and not for a moment only where that is known."""
    runs = [(number, step) for number, step in enumerate(steps) if isinstance(step, RunStep)]
    for place, (number, step) in enumerate(runs):
        for earlier, other in runs[:place]:
            if other.device == step.device or tracks.before[number] >> earlier & 1:
                continue
            if predicted is None:
                return True
            both = [predicted.get(each.nodes, 0.0) for each in (step, other)]
            if min(both) >= LEAST_OVERLAP_SECONDS:
                return True
    return False

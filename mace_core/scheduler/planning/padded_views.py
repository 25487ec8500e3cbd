"""What subgraphs are compiled as on devices that declare buckets (`mace_core.provider.Buckets`): see `padding`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from mace_core.graph import GraphView, Node

MOST_SEEN = 256
"""Subgraphs of one device whose sizes are remembered."""

Ask: TypeAlias = "Callable[[GraphView], str]"
"""Why the device does not take a view; "" where it does."""


class PaddedView(GraphView):
    """A subgraph under a larger signature than the one at hand: its inputs are padded and its results cut at each
    run."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a subgraph is compiled as.

    Attributes:
        view: a `PaddedView`, or the view as it was.
        notes: what is padded, or why not, for explanations.
    """

    view: GraphView
    notes: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Seen:
    """The signatures that one subgraph has been planned for.

    Attributes:
        first: sizes of its inputs' axes, the first time.
        varied: positions of those that have differed.
        contents: what else its nodes read that is not the same for every shape, the first time; None before.
        is_steady: whether that was always the same.
    """

    first: tuple[int, ...]
    varied: set[int] = field(default_factory=set)
    contents: tuple[str, ...] | None = None
    is_steady: bool = True

    def read(self, contents: tuple[str, ...]) -> None:
        """Note what is read this time."""
        if self.contents is None:
            self.contents = contents
        self.is_steady &= self.contents == contents


class SeenSizes:
    """The sizes that the subgraphs of a device have been planned for."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[Node, ...], Seen] = OrderedDict()

    def add(self, nodes: tuple[Node, ...], sizes: tuple[int, ...]) -> Seen:
        """Note the sizes of one more plan."""
        found = self._seen.get(nodes)
        if found is None or len(found.first) != len(sizes):
            found = self._seen[nodes] = Seen(sizes)
        self._seen.move_to_end(nodes)
        while len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
        found.varied.update(i for i, (a, b) in enumerate(zip(found.first, sizes, strict=True)) if a != b)
        return found

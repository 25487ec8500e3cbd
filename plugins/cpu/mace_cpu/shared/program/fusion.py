"""Which nodes are computed, and which are left to whom: so that no two fusions take one node."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mace_core.graph import GraphView, Node, Value
from mace_cpu.shared.parts.steps import Steps


@dataclass(frozen=True, slots=True)
class Deferred:
    """What is to be known of a value that is left to the node that alone reads it; each fusion has a class of its own.

    Everything it names is ready.
    """


D = TypeVar("D", bound=Deferred)


class Fusion:
    """The nodes that are computed already (alone, or fused into another's step), and the values left to later nodes."""

    def __init__(self, view: GraphView, steps: Steps) -> None:
        self._view = view
        self._steps = steps
        self._done: set[Node] = set()
        self._deferred: dict[Value, tuple[Node, Deferred]] = {}

    @functools.cached_property
    def producers(self) -> dict[Value, Node]:
        """The node of the view that computes a value."""
        return {value: node for node in self._view.nodes for value in node.outputs if value is not None}

    def begin(self, node: Node) -> None:
        """``node`` is computed by the steps that come now."""
        self._steps.begin(node)
        self._done.add(node)

    def is_done(self, node: Node) -> bool:
        """Whether the steps that compute ``node`` are emitted, or are being emitted."""
        return node in self._done

    def is_free(self, node: Node) -> bool:
        """Whether a fusion may take ``node``: it is not computed yet, and no deferred value is left to it."""
        return node not in self._done and all(user is not node for user, _ in self._deferred.values())

    def sole_user(self, value: Value) -> Node | None:
        """The one node that reads ``value`` (once), if nobody else, and nothing outside or in a branch, needs it."""
        users = self._view.users(value)
        if len(users) != 1 or value not in users[0].inputs or self._view.is_output(value) or not self.is_free(users[0]):
            return None
        return users[0]

    def claim(self, nodes: Sequence[Node]) -> None:
        """Mark nodes as computed by a step that somebody else builds.

        Raises:
            ValueError: if one of them is not free: two fusions overlap.
        """
        for node in nodes:
            if not self.is_free(node):
                raise ValueError(f"node '{node.name}' ({node.op_type}) is taken by two fusions")
            self._done.add(node)

    def fuse(self, node: Node) -> None:
        """Mark ``node`` as computed by the step that is being built for the current one."""
        self.claim([node])
        self._steps.add_node(node)

    def defer(self, value: Value, user: Node, note: Deferred) -> None:
        """Leave ``value`` uncomputed: the lowering of ``user``, which alone reads it, asks for ``note`` (`take`).

        Until then ``user`` is not free.
        """
        if self.sole_user(value) is not user:
            raise ValueError(f"'{value.name}' is left to node '{user.name}', which is not free or not its only reader")
        self._deferred[value] = user, note

    def take(self, value: Value, kind: type[D]) -> D | None:
        """What the current node is to know about a value that was left to it; None where it was not."""
        _, note = self._deferred.get(value, (None, None))
        if not isinstance(note, kind):
            return None
        del self._deferred[value]
        return note

    def finish(self) -> None:
        """See that whatever was left to a node was taken.

        Raises:
            ValueError: where it was not.
        """
        for value, (user, _) in self._deferred.items():
            raise ValueError(
                f"'{value.name}' was left to node '{user.name}' ({user.op_type}), which did not compute it"
            )

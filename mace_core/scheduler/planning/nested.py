"""Which nodes with nested graphs a device may run as a whole, though it claims more of them."""

from __future__ import annotations

from collections.abc import Mapping

from mace_core.graph import Node
from mace_core.provider import Capability
from mace_core.scheduler.planning.in_place import of_body
from mace_core.scheduler.planning.stages import Stage


def kept_in_core(
    stage: Stage, answer: Capability, device: str, first: str, pins: Mapping[Node, str], *, apart: bool
) -> dict[Node, str]:
    """Those of the nodes claimed by ``device`` that the core runs nevertheless, with the reasons.

    Args:
        stage: what is placed.
        answer: what the device says of it.
        device, first: names of the device, and of the first in the order of devices.
        pins: devices that nodes are pinned to, those in nested graphs included.
        apart: whether the results of every node are looked at.
    """
    kept: dict[Node, str] = {}
    for node in (node for claim in answer.claims for node in claim.nodes):
        inner = list(_inner_nodes(node))
        if not inner:
            continue
        strangers = [one for one in inner if pins.get(one, device) != device]
        if apart:
            kept[node] = "the results of every node in it are looked at"
        elif strangers:
            kept[node] = f"node '{strangers[0].name}' in it is pinned to {pins[strangers[0]]}"
        elif device != first and pins.get(node) != device:
            kept[node] = f"the nodes in it are offered to {first} first"
        elif of_body(stage, node) is not None:
            kept[node] = "a result of it may grow in place"
    return kept


def _inner_nodes(node: Node) -> list[Node]:
    return [one for body in node.subgraphs() for own in body.nodes for one in (own, *_inner_nodes(own))]

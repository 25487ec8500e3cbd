"""Nodes that the user binds to devices, by name or operator type; a node may be split over several.

{"conv1": "cpu", "MatMul": "cpu + opencl", "conv2": "3 * cpu + 1 * opencl"}
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mace_core.errors import UsageError
from mace_core.graph import Graph, Node


class Share(NamedTuple):
    """A device that computes a part of a node; ``weight``: how much beside the others, None: by its speed."""

    device: str
    weight: float | None


def shares_of(pin: str) -> list[Share]:
    """The devices of a pin.

    Raises:
        UsageError: for a text of another form.
    """
    found = []
    for text in pin.split("+"):
        before, star, after = text.rpartition("*")
        device = after.strip()
        try:
            weight = float(before) if star else None
        except ValueError:
            weight = math.nan
        if not device or (weight is not None and not (0 < weight < math.inf)):
            raise UsageError(f"the pin '{pin}' is no device, nor several, as 'cpu + opencl' or '3 * cpu + 1 * opencl'")
        found.append(Share(device, weight))
    if len(found) == 1 and found[0].weight is not None:
        raise UsageError(f"the pin '{pin}' gives a share of a node to one device; name the others with a '+' between")
    names, weights = [share.device for share in found], [share.weight for share in found]
    if len(set(names)) < len(names):
        raise UsageError(f"the pin '{pin}' names a device twice")
    if None in weights and any(weight is not None for weight in weights):
        raise UsageError(f"the pin '{pin}' says the share of some devices; say that of all, or of none")
    return found


def pin_of(shares: list[Share]) -> str:
    """The text of a pin."""
    return " + ".join(
        share.device if share.weight is None else f"{share.weight!r} * {share.device}" for share in shares
    )


def pin_lookup(pins: Mapping[str, str]) -> Callable[[Node], str | None]:
    """The pin of the first pattern that a node's name or operator type matches."""
    if not pins:
        return lambda node: None

    def lookup(node: Node) -> str | None:
        for pattern, device in pins.items():
            if node.name == pattern or any(
                fnmatch.fnmatchcase(text, pattern) for text in (node.name, node.qualified_op)
            ):
                return device
        return None

    return lookup


def check_pins_match(pins: Mapping[str, str], graph: Graph, label: str) -> None:
    """A pin that matches nothing is a mistake.

    Raises:
        UsageError: naming it.
    """
    nodes = list(_all_nodes(graph))
    for pattern, device in pins.items():
        lookup = pin_lookup({pattern: device})
        if not any(lookup(node) for node in nodes):
            raise UsageError(f"the pin '{pattern}' -> {device} matches no node name and no operator of {label}")


def _all_nodes(graph: Graph) -> list[Node]:
    return [*graph.nodes, *(inner for node in graph.nodes for body in node.subgraphs() for inner in _all_nodes(body))]

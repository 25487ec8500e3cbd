"""Nodes that the user binds to devices, by name or operator type."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping

from mace_core.errors import UsageError
from mace_core.graph import Graph, Node


def pin_lookup(pins: Mapping[str, str]) -> Callable[[Node], str | None]:
    """The device of the first pattern that a node's name or operator type matches."""
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

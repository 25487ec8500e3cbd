"""What a graph pass is, and helpers that all passes use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mace_core.graph import Graph, Node, Value


class GraphPass(ABC):
    """Changes a graph in place without changing what it computes.

    Attributes:
        name: short, in the imperative ("fold constants"); shown by ``mace explain``.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: Graph, context: PassContext) -> int:
        """Apply to ``graph`` alone (the driver visits nested graphs) and return the number of changes made.

        0 means that nothing was touched; the driver repeats the passes until all of them say so.
        """


@dataclass(frozen=True, slots=True)
class PassContext:
    """What holds for the whole model, also while a nested graph is visited.

    ``nested`` tells whether the graph at hand is the body of a control-flow node.
    """

    opset_imports: Mapping[str, int]
    nested: bool = False


@dataclass(slots=True)
class PassReport:
    """How many changes each pass made in all."""

    changes: dict[str, int]

    def __str__(self) -> str:
        made = [f"{name}: {count}" for name, count in self.changes.items() if count]
        return ", ".join(made) or "nothing to simplify"


def replace_values(graph: Graph, replacements: Mapping[Value, Value]) -> None:
    """Let every reader in ``graph`` and the graphs nested in it read the replacement of each value.

    Chains (a -> b, b -> c) are followed.  The list of graph outputs is left alone: an output is known by its name.
    """
    if not replacements:
        return
    for node in graph.nodes:
        node.inputs = [None if value is None else final(replacements, value) for value in node.inputs]
        for body in node.subgraphs():
            body.outputs = [final(replacements, value) for value in body.outputs]
            replace_values(body, replacements)


def final(replacements: Mapping[Value, Value], value: Value) -> Value:
    """What ``value`` is replaced by in the end; itself where it is not replaced."""
    while value in replacements:
        value = replacements[value]
    return value


def remove_nodes(graph: Graph, gone: set[Node]) -> None:
    """Take nodes out of a graph."""
    if gone:
        graph.nodes = [node for node in graph.nodes if node not in gone]

"""Names that tell nothing: what MACE's ``obfuscate`` does to a model."""

from __future__ import annotations

from collections.abc import Iterator

from mace_core.graph import Graph
from mace_core.graph.kept import STATE_KEY


def obfuscate(graph: Graph) -> None:
    """Rename all that is inside a graph, and forget where it is from.

    Inputs and outputs keep their names, and the model its state (`mace_core.graph.kept`).
    """
    ends = {value.name for value in (*graph.inputs, *graph.outputs)}
    numbers = (f"_{number}" for number in range(1 << 62))
    names = (name for name in numbers if name not in ends)
    _rename(graph, names, set(graph.inputs) | set(graph.outputs))
    graph.doc_string, graph.source_path, graph.origins = "", None, {}
    graph.metadata = {key: text for key, text in graph.metadata.items() if key == STATE_KEY}


def _rename(graph: Graph, names: Iterator[str], kept: set[object]) -> None:
    for value in (*graph.inputs, *graph.initializers.values()):
        if value not in kept:
            value.name = next(names)
            kept.add(value)  # shared with a graph around this one
    for node in graph.nodes:
        node.name = next(names)
        node.source = (node.name,)
        for output in node.outputs:
            if output is not None and output not in kept:
                output.name = next(names)
                kept.add(output)
        for body in node.subgraphs():
            _rename(body, names, kept)
            body.name, body.doc_string = "", ""
    graph.initializers = {value.name: value for value in graph.initializers.values()}

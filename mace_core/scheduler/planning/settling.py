"""The shapes that a model is planned for ahead of a run: those given, and usual ones for what nobody gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mace_core.graph import Graph
from mace_core.scheduler.planning.assumptions import AssumedShapes, assumed_shapes, first_taken
from mace_core.scheduler.planning.signatures import given_shapes, types_from_shapes


def settled_shapes(graph: Graph, given: Mapping[str, Sequence[int]], label: str) -> AssumedShapes:
    """The shapes of a signature, with usual sizes for what nobody gives.

    Raises:
        InputError: if ``given`` does not fit the model, which messages call ``label``.
        UsageError: if it takes none of the sizes tried.
    """
    from mace_core.operators import resolve

    inputs = graph.inputs
    candidates = assumed_shapes(inputs, given_shapes(inputs, given, label))

    def attempt(tried: Mapping[str, tuple[int, ...]]) -> None:
        resolve(graph, types_from_shapes(inputs, tried, label))

    return first_taken(candidates, attempt, model=label)

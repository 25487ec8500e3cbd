"""Whether a model may be run on several requests at once: every node must treat the rows of its inputs apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mace_core.errors import UsageError
from mace_core.scheduler.planning.lanes import AxisClasses
from mace_core.tensor import TensorType

if TYPE_CHECKING:
    from mace_core.graph import Graph
    from mace_core.graph.signature import Resolution

ROWS = 3
"""The size that is looked at; 1 would be mistaken for an axis that is broadcast."""


def rows_shapes(graph: Graph, assumed: Mapping[str, Sequence[int]], label: str) -> dict[str, tuple[int, ...]]:
    """The assumed shapes of all inputs, with `ROWS` rows.

    Raises:
        UsageError: if an input has no first axis that the model leaves free.
    """
    found = {}
    for value in graph.inputs:
        declared = value.type.shape if isinstance(value.type, TensorType) else None
        if not declared or isinstance(declared[0], int):
            shape = "no known shape" if declared is None else f"the shape {list(declared)}"
            raise UsageError(
                f"{label}: requests cannot be batched, since the input '{value.name}' has {shape}: its first axis is "
                f"not left free; export the model with a free batch axis"
            )
        found[value.name] = (ROWS, *tuple(assumed[value.name])[1:])
    return found


def check_rows_are_apart(graph: Graph, resolution: Resolution, label: str) -> None:
    """Look at every node between the inputs and the outputs.

    Raises:
        UsageError: if more rows would change the others' results, or an output has no rows.
    """
    classes = AxisClasses(graph.nodes, resolution.types, resolution.known, graph.opset_imports)
    rows = {classes.of((value, 0)) for value in graph.inputs}
    for value in graph.inputs:
        reason = classes.reason((value, 0))
        if reason:
            raise UsageError(f"{label}: requests cannot be batched: {reason}; run them one by one")
    for value in graph.outputs:
        if classes.of((value, 0)) not in rows:
            raise UsageError(
                f"{label}: requests cannot be batched, since the first axis of the output '{value.name}' is not that "
                f"of the inputs; run them one by one"
            )

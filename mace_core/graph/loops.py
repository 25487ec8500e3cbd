"""What ends a Loop."""

from __future__ import annotations

from mace_core.graph.graph import Graph

MOST_ENDLESS_TURNS = 1 << 30
"""Of a loop that only its count ends.  Even at a microsecond each, more would take longer than anyone waits."""


def ends_by_itself(body: Graph) -> bool:
    """Whether the condition that a loop's body returns can be false: neither a constant nor the one it was given."""
    condition = body.outputs[0]
    while condition.producer is not None and condition.producer.op_type == "Identity":
        given = condition.producer.input(0)
        if given is None:
            break
        condition = given
    if condition.constant is not None:
        return not bool(condition.constant.numpy().reshape(-1)[0])
    return condition is not body.inputs[1]

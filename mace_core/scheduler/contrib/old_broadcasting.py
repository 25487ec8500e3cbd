"""Until opset 6 the second operand said where in the first it belongs."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_core.scheduler.contrib.registry import given, made
from mace_core.scheduler.rewriting import BodyBuilder

AXIS_BROADCASTING_UNTIL = 6
BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"})


def is_old(view: GraphView) -> bool:
    """Whether such nodes can be in the view's model."""
    return view.opset() <= AXIS_BROADCASTING_UNTIL


def explicit_broadcasting(b: BodyBuilder, node: Node) -> bool:
    """Append ``node`` without its axis; False where it has none, or is no such operator."""
    if not (node.op_type in BROADCASTING and node.attr("broadcast", 0)) and node.op_type != "PRelu":
        return False
    first, second = given(node, 0), given(node, 1)
    ranks = [len(b.view.shape(value)) for value in (first, second)]
    axis = node.attr("axis", 1 if node.op_type == "PRelu" else None)
    if axis is None:
        return False
    missing = ranks[0] - ranks[1] - (axis + ranks[0] if axis < 0 else axis)
    if node.op_type == "PRelu" and (missing <= 0 or b.view.shape(second) == (1,)):
        return False
    rest = {key: value for key, value in node.attributes.items() if key not in ("axis", "broadcast")}
    spread = second
    if missing > 0 and b.view.shape(second) != (1,):
        spread = b.op("Unsqueeze", [second], {"axes": range(ranks[1], ranks[1] + missing)})
    b.op(node.op_type, [first, spread], rest, into=made(node))
    return True

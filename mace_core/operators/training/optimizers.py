"""Optimizer steps: what they are checked for, and what they are made of.

Tried for nodes that no device claims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext
from mace_core.operators.pieces import cast_like, scaled
from mace_core.operators.registry import agreement, body
from mace_core.operators.training import DOMAIN
from mace_core.tensor import DType

Update = Callable[[BodyBuilder, Node, Value, Sequence[Value]], list[Value]]
"""``(builder, node, learning rate, tensors)``: the new values of the first tensor and of its states, in order."""


# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("Momentum", domain=DOMAIN, rules={"mode": one_of("standard", "nesterov")})


# --- agreement --------------------------------------------------------------------------------------------------------


_TENSORS = {"Adagrad": 3, "Adam": 4, "Momentum": 3}
"""What belongs to one tensor among the inputs: itself, its gradient, its states; all but the gradient is given back."""


@agreement(*_TENSORS, domain=DOMAIN)
def check_step(ctx: NodeContext) -> None:
    each = _TENSORS[ctx.node.op_type]
    count, left = divmod(ctx.input_count - 2, each)
    require(count >= 1 and not left, f"after the rate and the step there must be {each} inputs for each tensor")
    wanted = count * (each - 1)
    require(ctx.output_count == wanted, f"it updates {wanted} values, the node has {ctx.output_count} outputs")


# --- bodies -----------------------------------------------------------------------------------------------------------


@body(*_TENSORS, domain=DOMAIN)
def build_step(b: BodyBuilder, node: Node) -> bool:
    count = (len(node.inputs) - 2) // _TENSORS[node.op_type]
    rate, *given = (value for value in node.inputs)
    if rate is None or any(value is None for value in given):
        return False
    update = _UPDATES[node.op_type]
    for index in range(count):
        own = [value for value in node.inputs[2 + index :: count] if value is not None]
        for value, target in zip(update(b, node, rate, own), node.outputs[index::count], strict=True):
            if target is not None:
                b.op("Identity", [value], into=target)
    return True


def _regularised(b: BodyBuilder, node: Node, x: Value, gradient: Value) -> Value:
    return b.op("Add", [scaled(b, float(node.attr("norm_coefficient", 0.0)), x), gradient])


def _double(b: BodyBuilder, value: Value) -> Value:
    """Learning rates are worked out in float64: 1 - 0.999**t leaves few digits of a float32."""
    return b.op("Cast", [value], {"to": DType.FLOAT64.value})


def _count(b: BodyBuilder, node: Node) -> Value:
    """How often the tensors were updated before, as float64."""
    updates = node.inputs[1]
    assert updates is not None
    return _double(b, updates)


def _number(b: BodyBuilder, number: float) -> Value:
    return b.constant(number, "float64")


def _adagrad(b: BodyBuilder, node: Node, rate: Value, tensors: Sequence[Value]) -> list[Value]:
    x, gradient, squares = tensors
    slower = b.op("Mul", [_count(b, node), _number(b, float(node.attr("decay_factor", 0.0)))])
    step = cast_like(b, b.op("Div", [_double(b, rate), b.op("Add", [_number(b, 1.0), slower])]), x)
    gradient = _regularised(b, node, x, gradient)
    total = b.op("Add", [squares, b.op("Mul", [gradient, gradient])])
    epsilon = b.scalar_like(float(node.attr("epsilon", 1e-6)), x)
    size = b.op("Add", [b.op("Sqrt", [total]), epsilon])
    return [b.op("Sub", [x, b.op("Div", [b.op("Mul", [step, gradient]), size])]), total]


def _adam(b: BodyBuilder, node: Node, rate: Value, tensors: Sequence[Value]) -> list[Value]:
    x, gradient, mean, squares = tensors
    alpha, beta = float(node.attr("alpha", 0.9)), float(node.attr("beta", 0.999))
    gradient = _regularised(b, node, x, gradient)
    mean = b.op("Add", [scaled(b, alpha, mean), scaled(b, 1.0 - alpha, gradient)])
    new = scaled(b, 1.0 - beta, b.op("Mul", [gradient, gradient]))
    squares = b.op("Add", [scaled(b, beta, squares), new])
    size = b.op("Add", [b.op("Sqrt", [squares]), b.scalar_like(float(node.attr("epsilon", 1e-6)), x)])
    count, wide = _count(b, node), _double(b, rate)

    def missing(decay: float) -> Value:
        return b.op("Sub", [_number(b, 1.0), b.op("Pow", [_number(b, decay), count])])

    corrected = b.op("Div", [b.op("Mul", [wide, b.op("Sqrt", [missing(beta)])]), missing(alpha)])
    chosen = b.op("Where", [b.op("Greater", [count, _number(b, 0.0)]), corrected, wide])
    moved = b.op("Sub", [x, b.op("Mul", [cast_like(b, chosen, x), b.op("Div", [mean, size])])])
    return [scaled(b, 1.0 - float(node.attr("norm_coefficient_post", 0.0)), moved), mean, squares]


def _momentum(b: BodyBuilder, node: Node, rate: Value, tensors: Sequence[Value]) -> list[Value]:
    x, gradient, speed = tensors
    alpha = float(node.attr("alpha"))
    gradient = _regularised(b, node, x, gradient)
    is_later = b.op("Greater", [_count(b, node), _number(b, 0.0)])
    beta = b.op("Where", [is_later, b.scalar_like(float(node.attr("beta")), x), b.scalar_like(1.0, x)])
    speed = b.op("Add", [scaled(b, alpha, speed), b.op("Mul", [beta, gradient])])
    direction = speed
    if node.attr("mode") == "nesterov":
        direction = b.op("Add", [gradient, scaled(b, alpha, speed)])
    return [b.op("Sub", [x, b.op("Mul", [cast_like(b, rate, x), direction])]), speed]


_UPDATES: dict[str, Update] = {"Adagrad": _adagrad, "Adam": _adam, "Momentum": _momentum}

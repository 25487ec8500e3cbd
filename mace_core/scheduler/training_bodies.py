"""What a training step is made of: optimizer updates and batch statistics as simpler operators.

Tried like those of the package ``contrib``: for nodes that no device claims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.scheduler.rewriting import BodyBuilder
from mace_core.tensor import DType

DOMAIN = "ai.onnx.preview.training"
STATISTICS_ARE_UPDATED_SINCE = 14
"""The opset that gave BatchNormalization its attribute training_mode."""

AXES_ARE_INPUTS_SINCE = 18
"""Of ReduceMean."""

Update = Callable[[BodyBuilder, Node, Value, Sequence[Value]], list[Value]]
"""``(builder, node, learning rate, tensors)``: the new values of the first tensor and of its states, in order."""


def training_body(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where this module knows nothing."""
    if not node.domain and node.op_type == "BatchNormalization":
        return _batch_statistics(view, node)
    found = _OPTIMIZERS.get(node.op_type) if node.domain == DOMAIN else None
    if found is None:
        return None
    update, tensors = found
    count = (len(node.inputs) - 2) // tensors
    rate, *given = (value for value in node.inputs)
    if rate is None or any(value is None for value in given):
        return None
    builder = BodyBuilder(view, node)
    for index in range(count):
        own = [value for value in node.inputs[2 + index :: count] if value is not None]
        for value, target in zip(update(builder, node, rate, own), node.outputs[index::count], strict=True):
            if target is not None:
                builder.op("Identity", [value], into=target)
    return builder.graph


# --- optimizers -------------------------------------------------------------------------------------------------------


def _factor(b: BodyBuilder, number: float, value: Value) -> Value:
    return b.op("Mul", [b.scalar_like(number, value), value])


def _regularised(b: BodyBuilder, node: Node, x: Value, gradient: Value) -> Value:
    return b.op("Add", [_factor(b, float(node.attr("norm_coefficient", 0.0)), x), gradient])


def _double(b: BodyBuilder, value: Value) -> Value:
    """Learning rates are worked out in float64: 1 - 0.999**t leaves few digits of a float32."""
    return b.op("Cast", [value], {"to": DType.FLOAT64.value})


def _like(b: BodyBuilder, value: Value, other: Value) -> Value:
    found = b.view.tensor_type(other)
    return b.op("Cast", [value], {"to": DType.FLOAT32.value if found is None else found.dtype.value})


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
    step = _like(b, b.op("Div", [_double(b, rate), b.op("Add", [_number(b, 1.0), slower])]), x)
    gradient = _regularised(b, node, x, gradient)
    total = b.op("Add", [squares, b.op("Mul", [gradient, gradient])])
    epsilon = b.scalar_like(float(node.attr("epsilon", 1e-6)), x)
    size = b.op("Add", [b.op("Sqrt", [total]), epsilon])
    return [b.op("Sub", [x, b.op("Div", [b.op("Mul", [step, gradient]), size])]), total]


def _adam(b: BodyBuilder, node: Node, rate: Value, tensors: Sequence[Value]) -> list[Value]:
    x, gradient, mean, squares = tensors
    alpha, beta = float(node.attr("alpha", 0.9)), float(node.attr("beta", 0.999))
    gradient = _regularised(b, node, x, gradient)
    mean = b.op("Add", [_factor(b, alpha, mean), _factor(b, 1.0 - alpha, gradient)])
    new = _factor(b, 1.0 - beta, b.op("Mul", [gradient, gradient]))
    squares = b.op("Add", [_factor(b, beta, squares), new])
    size = b.op("Add", [b.op("Sqrt", [squares]), b.scalar_like(float(node.attr("epsilon", 1e-6)), x)])
    count, wide = _count(b, node), _double(b, rate)

    def missing(decay: float) -> Value:
        return b.op("Sub", [_number(b, 1.0), b.op("Pow", [_number(b, decay), count])])

    corrected = b.op("Div", [b.op("Mul", [wide, b.op("Sqrt", [missing(beta)])]), missing(alpha)])
    chosen = b.op("Where", [b.op("Greater", [count, _number(b, 0.0)]), corrected, wide])
    moved = b.op("Sub", [x, b.op("Mul", [_like(b, chosen, x), b.op("Div", [mean, size])])])
    return [_factor(b, 1.0 - float(node.attr("norm_coefficient_post", 0.0)), moved), mean, squares]


def _momentum(b: BodyBuilder, node: Node, rate: Value, tensors: Sequence[Value]) -> list[Value]:
    x, gradient, speed = tensors
    alpha = float(node.attr("alpha"))
    gradient = _regularised(b, node, x, gradient)
    is_later = b.op("Greater", [_count(b, node), _number(b, 0.0)])
    beta = b.op("Where", [is_later, b.scalar_like(float(node.attr("beta")), x), b.scalar_like(1.0, x)])
    speed = b.op("Add", [_factor(b, alpha, speed), b.op("Mul", [beta, gradient])])
    direction = speed
    if node.attr("mode") == "nesterov":
        direction = b.op("Add", [gradient, _factor(b, alpha, speed)])
    return [b.op("Sub", [x, b.op("Mul", [_like(b, rate, x), direction])]), speed]


_OPTIMIZERS: dict[str, tuple[Update, int]] = {"Adagrad": (_adagrad, 3), "Adam": (_adam, 4), "Momentum": (_momentum, 3)}
"""The rule of each, and how many tensors belong to one that is optimized."""


# --- batch statistics -------------------------------------------------------------------------------------------------


def _batch_statistics(view: GraphView, node: Node) -> Graph | None:
    """BatchNormalization with the mean and variance of this batch, and the running ones brought up to date."""
    x, scale, bias, mean, variance = node.inputs
    if not node.attr("training_mode", 0) or view.opset() < STATISTICS_ARE_UPDATED_SINCE:
        return None
    found = None if x is None else view.tensor_type(x)
    if x is None or mean is None or variance is None or found is None or not found.is_concrete:
        return None
    b = BodyBuilder(view, node)
    axes = [axis for axis in range(len(view.shape(x))) if axis != 1]
    is_half = found.dtype in (DType.FLOAT16, DType.BFLOAT16)
    wide = b.op("Cast", [x], {"to": DType.FLOAT32.value}) if is_half else x

    def mean_of(value: Value, *, keep: bool) -> Value:
        if view.opset() < AXES_ARE_INPUTS_SINCE:
            return b.op("ReduceMean", [value], {"axes": axes, "keepdims": int(keep)})
        return b.op("ReduceMean", [value, b.constant(axes, "int64")], {"keepdims": int(keep)})

    centred = b.op("Sub", [wide, mean_of(wide, keep=True)])
    batch = (mean_of(wide, keep=False), mean_of(b.op("Mul", [centred, centred]), keep=False))
    own = [_like(b, statistic, running) for statistic, running in zip(batch, (mean, variance), strict=True)]
    kept = {"epsilon": float(node.attr("epsilon", 1e-5))}
    b.op("BatchNormalization", [x, scale, bias, *own], kept, into=node.output(0))
    momentum = float(node.attr("momentum", 0.9))
    for index, (running, statistic) in enumerate(zip((mean, variance), own, strict=True), start=1):
        target = node.output(index)
        if target is not None:
            parts = [_factor(b, momentum, running), _factor(b, 1.0 - momentum, statistic)]
            b.op("Add", parts, into=target)
    return b.graph

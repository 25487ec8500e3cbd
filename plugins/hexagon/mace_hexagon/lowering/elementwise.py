"""Operators that work element by element; they keep whatever order their first operand is in."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.description import CODES, Encoding, QTensor
from mace_hexagon.lowering import integers
from mace_hexagon.lowering.carriers import INTEGERS
from mace_hexagon.lowering.context import DeclinedError, NodeContext, Order, activation_bounds
from mace_hexagon.lowering.infinities import BEYOND, COMPARISONS, LARGEST
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS
from mace_hexagon.qnn.types import DataType

HARD_SIGMOID = 2  # operation of ElementWiseNeuron
MOST_SIGN_RANK = 4
LEAST_EXPONENT = -20.0
MOST_EXPONENT = 20.0
"""Of which exp is beyond float16: further up the library gives anything."""

_UNARY = {
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "HardSwish": "HardSwish",
    "Log": "ElementWiseLog",
    "Sqrt": "ElementWiseSquareRoot",
    "Abs": "ElementWiseAbs",
    "Neg": "ElementWiseNeg",
    "Floor": "ElementWiseFloor",
    "Ceil": "ElementWiseCeil",
    "Round": "ElementWiseRound",
    "Sign": "ElementWiseSign",
    "Sin": "ElementWiseSin",
    "Cos": "ElementWiseCos",
    "Not": "ElementWiseNot",
    "Atan": "ElementWiseAtan",
}

_BINARY = {
    "Add": "ElementWiseAdd",
    "Sub": "ElementWiseSubtract",
    "Mul": "ElementWiseMultiply",
    "Div": "ElementWiseDivide",
    "Pow": "ElementWisePower",
    "Max": "ElementWiseMaximum",
    "Min": "ElementWiseMinimum",
    "Mod": "ElementWiseMod",
    "Equal": "ElementWiseEqual",
    "Less": "ElementWiseLess",
    "LessOrEqual": "ElementWiseLessEqual",
    "Greater": "ElementWiseGreater",
    "GreaterOrEqual": "ElementWiseGreaterEqual",
    "And": "ElementWiseAnd",
    "Or": "ElementWiseOr",
    "Xor": "ElementWiseXor",
}
_LOGICAL = frozenset({"And", "Or", "Xor"})

_VARIADIC = {
    "Max": "ElementWiseMaximum",
    "Min": "ElementWiseMinimum",
    "Sum": "ElementWiseAdd",
    "Mean": "ElementWiseAdd",
}

_ACTIVATIONS = frozenset(
    ("Relu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Gelu", "Softplus", "PRelu")
)
_FLOATS = (DType.FLOAT32, DType.FLOAT16)


def _unary(context: NodeContext) -> None:
    if context.node.op_type in ("Abs", "Neg", "Sign") and context.dtype() in INTEGERS:
        integers.unary(context)
        return
    _require_float(context)
    if context.node.op_type == "Sign" and len(context.shape()) > MOST_SIGN_RANK:
        raise DeclinedError(f"Sign of more than {MOST_SIGN_RANK} dimensions does not compile for the HTP")
    order = context.order()
    if context.node.op_type == "Log" and context.lowering.half and not context.is_quantized:
        _log(context, order)
        return
    context.emit(_UNARY[context.node.op_type], [context.x(0, order)], order)


def _log(context: NodeContext, order: Order) -> None:
    """Out of range where it is infinite or not defined: the library gives small numbers there."""
    chain, x = Chain(context), context.x(0, order)
    found = chain.op("ElementWiseLog", x)
    positive = chain.test("ElementWiseGreater", x, chain.number(0.0, x))
    context.emit("ElementWiseSelect", [positive, found, chain.number(-LARGEST, found)], order)


def _binary(context: NodeContext) -> None:
    if sum(value is not None for value in context.node.inputs) != 2:
        _variadic(context)
        return
    if _joins_activations(context):
        raise DeclinedError("the library crashes where it joins two activations of one value")
    name, dtype = context.node.op_type, context.dtype()
    if name == "Pow":
        _pow(context)
        return
    order, operands = broadcast(context, (0, 1))
    if name == "BitShift":
        integers.bit_shift(context, order, operands)
    elif dtype not in _FLOATS and name not in _LOGICAL:
        integers.binary(context, order, operands)
    elif name == "Mod":
        raise DeclinedError("Mod of real numbers jumps where they are rounded to float16")
    elif (
        name in COMPARISONS
        and context.lowering.half
        and any(map(context.lowering.infinities.reach, context.node.inputs))
    ):
        chain = Chain(context)
        context.emit(_BINARY[name], [_limited(chain, operand) for operand in operands], order)
    else:
        context.emit(_BINARY[name], operands, order)


def _limited(chain: Chain, x: QTensor) -> QTensor:
    """``x`` with one number for all that count as infinite."""
    above = chain.op("ElementWiseMaximum", x, chain.number(-BEYOND, x))
    return chain.op("ElementWiseMinimum", above, chain.number(BEYOND, x))


def _variadic(context: NodeContext) -> None:
    """Max, Min, Sum and Mean of any number of operands, one after the other."""
    operation = _VARIADIC.get(context.node.op_type)
    if operation is None or context.is_quantized or context.dtype() not in _FLOATS:
        raise DeclinedError(f"{context.node.op_type} of other than two operands is not offered")
    order, operands = broadcast(context, tuple(range(len(context.node.inputs))))
    chain = Chain(context)
    total = operands[0]
    for operand in operands[1:]:
        total = chain.op(operation, total, operand)
    if context.node.op_type == "Mean":
        total = chain.op("ElementWiseMultiply", total, chain.number(1 / len(operands), total))
    context.emit("Reshape", [total], order)


def _pow(context: NodeContext) -> None:
    """Powers of real numbers; integer exponents are cast."""
    if context.dtype() not in _FLOATS:
        raise DeclinedError(f"Pow of {context.dtype().label} is not offered by QNN")
    exponent = context.array(1)
    if exponent is not None and exponent.size == 1 and _power(context, float(exponent.reshape(-1)[0])):
        return
    order, (left, right) = broadcast(context, (0, 1))
    chain = Chain(context)
    if context.dtype(1) in INTEGERS:
        right = chain.op("Cast", right, data_type=left.data_type)
    if context.is_quantized or not context.lowering.half:
        context.emit("ElementWisePower", [left, right], order)
        return
    found = chain.op("ElementWisePower", left, right)
    odd = _undefined(context, chain, left, right)
    context.emit("ElementWiseSelect", [odd, chain.number(LARGEST, found), found], order)


def _undefined(context: NodeContext, chain: Chain, left: QTensor, right: QTensor) -> QTensor:
    """Whether a power is infinite or not defined, where the library gives some number."""
    zero = chain.number(0.0, left)
    flat = chain.test("ElementWiseEqual", left, zero)
    odd = chain.op("ElementWiseAnd", flat, chain.test("ElementWiseLess", right, chain.number(0.0, right)))
    if context.dtype(1) in INTEGERS:
        return odd
    broken = chain.test("ElementWiseNotEqual", right, chain.op("ElementWiseFloor", right))
    rooted = chain.op("ElementWiseAnd", chain.test("ElementWiseLess", left, zero), broken)
    return chain.op("ElementWiseOr", odd, rooted)


def _joins_activations(context: NodeContext) -> bool:
    """Whether both operands are activations of the same value (seen with Relu and Clip, HardSwish and HardSigmoid)."""
    producers = [context.operand(index).producer for index in (0, 1)]
    if any(producer is None or producer.op_type not in _ACTIVATIONS for producer in producers):
        return False
    left, right = producers
    assert left is not None
    assert right is not None
    return left is not right and left.inputs[0] is right.inputs[0]


def _power(context: NodeContext, exponent: float) -> bool:
    """Squares and roots, which are exact where a general power is not."""
    if context.is_quantized or context.out_shape() != context.shape():
        return False
    order = context.order()
    if exponent == 2.0:
        x = context.x(0, order)
        context.emit("ElementWiseMultiply", [x, x], order)
    elif exponent == 0.5:
        context.emit("ElementWiseSquareRoot", [context.x(0, order)], order)
    else:
        return False
    return True


def _where(context: NodeContext) -> None:
    order, (condition, one, other) = broadcast(context, (0, 1, 2))
    if one.data_type is DataType.BOOL_8:
        chain = Chain(context)
        first = chain.op("ElementWiseAnd", condition, one)
        second = chain.op("ElementWiseAnd", chain.op("ElementWiseNot", condition), other)
        context.emit("ElementWiseOr", [first, second], order)
        return
    context.emit("ElementWiseSelect", [condition, one, other], order)


def _clip(context: NodeContext) -> None:
    if context.dtype() in INTEGERS:
        integers.clip(context)
        return
    _require_float(context)
    if any(context.has(index) and context.array(index) is None for index in (1, 2)):
        _clip_computed(context)
        return
    low, high = activation_bounds(context.lowering, context.node)
    order = context.order()
    limits = np.finfo(np.float32)
    lowest, highest = max(low, float(limits.min)), min(high, float(limits.max))
    context.emit(
        "ReluMinMax", [context.x(0, order)], order, min_value=np.float32(lowest), max_value=np.float32(highest)
    )


def _clip_computed(context: NodeContext) -> None:
    """Clip by bounds computed at run time."""
    if context.is_quantized:
        raise DeclinedError("a quantized Clip is offered with constant bounds only")
    order, chain = context.order(), Chain(context)
    tensor = context.x(0, order)
    for index, operation in ((1, "ElementWiseMaximum"), (2, "ElementWiseMinimum")):
        if context.has(index):
            tensor = chain.op(operation, tensor, context.x(index))
    context.emit("Reshape", [tensor], order)


def _neuron(context: NodeContext, operation: int, **params: Any) -> None:
    _require_float(context)
    if context.is_quantized and context.x(0).data_type in (DataType.UFIXED_POINT_16, DataType.SFIXED_POINT_16):
        raise DeclinedError(f"{context.node.op_type} of 16-bit codes is computed wrongly by the library")
    order = context.order()
    context.emit("ElementWiseNeuron", [context.x(0, order)], order, operation=np.uint32(operation), **params)


def _hard_sigmoid(context: NodeContext) -> None:
    alpha, beta = float(context.attr("alpha", 0.2)), float(context.attr("beta", 0.5))
    _neuron(context, HARD_SIGMOID, alpha=np.float32(alpha), beta=np.float32(beta))


def _softplus(context: NodeContext) -> None:
    """max(x, 0) + log(1 + exp(-|x|)): the library's own is wrong for numbers far below zero."""
    _require_float(context)
    if context.is_quantized:
        raise DeclinedError("a quantized Softplus is not offered")
    order = context.order()
    x = context.x(0, order)
    one = context.constant(np.array([1], context.dtype().numpy), "one")
    distance = _temporary(context, "ElementWiseNeg", [_temporary(context, "ElementWiseAbs", [x])])
    step = _temporary(context, "ElementWiseExp", [_bounded(context, distance)])
    tail = _temporary(context, "ElementWiseLog", [_temporary(context, "ElementWiseAdd", [step, one])])
    context.emit("ElementWiseAdd", [_temporary(context, "Relu", [x]), tail], order)


def _exp(context: NodeContext) -> None:
    _require_float(context)
    order = context.order()
    x = context.x(0, order)
    context.emit("ElementWiseExp", [x if context.is_quantized else _bounded(context, x)], order)


def _bounded(context: NodeContext, x: QTensor) -> QTensor:
    """``x`` between where exp is 0 in half precision and where it is beyond: the library gives anything further on."""
    if not context.lowering.half:
        return x
    least = context.constant(np.array([LEAST_EXPONENT], context.dtype().numpy), "least")
    most = context.constant(np.array([MOST_EXPONENT], context.dtype().numpy), "most")
    return _temporary(context, "ElementWiseMinimum", [_temporary(context, "ElementWiseMaximum", [x, least]), most])


def _temporary(context: NodeContext, operation: str, operands: list[QTensor]) -> QTensor:
    """The result of one more operation, of the first operand's shape."""
    result = context.temporary(operands[0].shape, operands[0], operation)
    context.lowering.add(operation, operands, [result])
    return result


def _elu(context: NodeContext) -> None:
    _require_float(context)
    order = context.order()
    context.emit("Elu", [context.x(0, order)], order, alpha=np.float32(context.attr("alpha", 1.0)))


def _gelu(context: NodeContext) -> None:
    _require_float(context)
    if context.attr("approximate", "none") != "none":
        raise DeclinedError("the approximated Gelu is not offered by QNN")
    order = context.order()
    context.emit("Gelu", [context.x(0, order)], order)


def _leaky_relu(context: NodeContext) -> None:
    _require_float(context)
    order, alpha = context.order(), float(context.attr("alpha", 0.01))
    x = context.x(0, order)
    if context.is_quantized:
        slope = _one_code(context, alpha, x)
    else:
        slope = context.constant(np.array([alpha], context.dtype().numpy), "slope")
    context.emit("Prelu", [x, slope], order)


def _one_code(context: NodeContext, number: float, like: QTensor) -> QTensor:
    """A constant among quantized numbers, exactly: the scale is its size."""
    codes = np.iinfo(CODES[like.data_type])
    zero = (int(codes.min) + int(codes.max) + 1) // 2
    encoding = Encoding(np.array([abs(number) or 1.0], np.float32), np.array([zero], np.int32))
    code = np.array([zero + int(np.sign(number))], codes.dtype)
    return context.lowering.constant(code, f"{context.node.name}.number", encoding, like.data_type)


def _prelu(context: NodeContext) -> None:
    slope = context.shape(1)
    if context.lowering.view.opset() < 7 and slope != (1,) and len(slope) < len(context.shape(0)):
        raise DeclinedError("PRelu with a slope per channel as until opset 6 is not offered")
    order, operands = broadcast(context, (0, 1))
    context.emit("Prelu", operands, order)


def _reciprocal(context: NodeContext) -> None:
    _require_float(context)
    if context.is_quantized:
        raise DeclinedError("a quantized Reciprocal is not offered")
    order = context.order()
    one = context.constant(np.array([1], context.dtype().numpy), "one")
    context.emit("ElementWiseDivide", [one, context.x(0, order)], order)


def broadcast(context: NodeContext, indices: tuple[int, ...]) -> tuple[Order, list[QTensor]]:
    """Operands in one order, so that they broadcast as ONNX says."""
    rank = len(context.out_shape())
    natural = tuple(range(rank))
    order: Order = natural
    computed = [index for index in indices if not context.is_constant(index)]
    if computed and all(len(context.shape(index)) == rank for index in computed):
        order = next((o for o in (context.order(index) for index in computed) if o != natural), natural)
    operands = []
    for index in indices:
        shape = context.shape(index)
        if len(shape) == rank:
            operands.append(context.x(index, order))
        elif order == natural:
            operands.append(context.x(index))
        else:  # a constant of lower rank
            full = (1,) * (rank - len(shape)) + shape
            padded = context.reshaped(context.x(index), full)
            if padded.data is None or (padded.encoding is not None and padded.encoding.axis is not None):
                raise DeclinedError("a constant quantized per channel is not offered as an operand here")
            data = np.transpose(padded.data, order)
            operands.append(context.lowering.constant(data, padded.name, padded.encoding, padded.data_type))
    return order, operands


def _require_float(context: NodeContext) -> None:
    dtype = context.dtype()
    if dtype not in _FLOATS and context.node.op_type != "Not":
        raise DeclinedError(f"{context.node.op_type} of {dtype.label} is not offered")


LOWERINGS.add(
    {
        **dict.fromkeys(_UNARY, _unary),
        **dict.fromkeys(_BINARY, _binary),
        "Where": _where,
        "Clip": _clip,
        "Exp": _exp,
        "HardSigmoid": _hard_sigmoid,
        "Softplus": _softplus,
        "Elu": _elu,
        "Gelu": _gelu,
        "LeakyRelu": _leaky_relu,
        "PRelu": _prelu,
        "Reciprocal": _reciprocal,
        "Sum": _variadic,
        "Mean": _variadic,
        "BitShift": _binary,
    }
)

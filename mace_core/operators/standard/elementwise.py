"""Operators whose outputs follow input 0 or the broadcast of all inputs.

Only what every provider computes to the same bit is evaluated here: whole numbers, and floats whose result is rounded
correctly once.  Where implementations may differ (exponentials, sums of floats, the sign of a zero, NaN, what a type
cannot hold) the answer is None, and the run decides.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mace_core.graph import AttributeKind as K
from mace_core.graph import Node
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import number, of_kind, one_of
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import singles
from mace_core.operators.context import (
    Array,
    NodeContext,
    ShapeMismatchError,
    broadcast,
    dtype_of_code,
    normalize_axis,
    same_as_first,
)
from mace_core.operators.evaluation import Contents, given_contents
from mace_core.operators.registry import (
    Evaluator,
    agreement,
    body,
    declare_random,
    evaluator,
    shape_function,
    symbolic_evaluator,
)
from mace_core.symbolic import SymbolicQuotient, is_symbolic, maximum, minimum
from mace_core.symbolic.quotient import SIGNIFICANT_BITS
from mace_core.tensor import DType, TensorType, ValueType
from mace_core.tensor.symbolic import concrete

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("BitShift", rules={"direction": one_of("LEFT", "RIGHT")})
attribute_rules("Cast", rules={"to": of_kind(K.INT, K.STRING)})
attribute_rules("Dropout", rules={"seed": number()})

declare_random("Dropout")


# --- shapes -----------------------------------------------------------------------------------------------------------


shape_function(
    *("Abs", "Acos", "Acosh", "Affine", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos"),
    *("Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish"),
    *("Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus"),
    *("Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
)(same_as_first)


@shape_function("Hardmax", "LogSoftmax", "Softmax")
def along_axis(ctx: NodeContext) -> Sequence[ValueType]:
    axis, rank = ctx.attr("axis", -1), len(ctx.shape(0))
    behind_last = ctx.opset < 13 and axis == rank  # then axes from `axis` on count, which may be none
    if rank and not behind_last:
        normalize_axis(axis, rank)
    return [ctx.type(0)]


def broadcast_inputs(ctx: NodeContext) -> tuple[int, ...]:
    """The broadcast shape of all inputs."""
    return broadcast(*(ctx.shape(i) for i in range(ctx.input_count)))


@shape_function("Add", "Sub", "Mul", "Div", "Pow")
def arithmetic(ctx: NodeContext) -> Sequence[ValueType]:
    first, second = ctx.tensor(0), ctx.tensor(1)
    if ctx.opset < 7 or second.shape is first.shape:
        return [first]  # before opset 7 only input 1 was ever broadcast
    return [TensorType(first.dtype, broadcast(ctx.shape(0), ctx.shape(1)))]


@shape_function("Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Max", "Min", "Mean", "Sum")
def variadic(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(0), broadcast_inputs(ctx))]


def _boolean(ctx: NodeContext) -> Sequence[DType]:
    return [DType.BOOL]


@shape_function(
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    dtypes=_boolean,
)
def predicate(ctx: NodeContext) -> Sequence[ValueType]:
    if ctx.opset < 7:
        return [TensorType(DType.BOOL, ctx.shape(0))]
    return [TensorType(DType.BOOL, broadcast_inputs(ctx))]


@shape_function("IsNaN", "IsInf", dtypes=_boolean)
def classify(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(DType.BOOL, ctx.shape(0))]


@shape_function("Where", dtypes=lambda ctx: [ctx.dtype(1)])
def where(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(1), broadcast_inputs(ctx))]


@shape_function("PRelu")
def prelu(ctx: NodeContext) -> Sequence[ValueType]:
    shape, slope = ctx.shape(0), ctx.shape(1)
    if ctx.opset >= 7 and broadcast(shape, slope) != shape:
        raise ShapeMismatchError(f"the slope {list(slope)} must broadcast to the input {list(shape)}")
    return [ctx.type(0)]


@shape_function("Cast", dtypes=lambda ctx: [_cast_target(ctx)])
def cast(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(_cast_target(ctx), ctx.shape(0))]


def _cast_target(ctx: NodeContext) -> DType:
    target = ctx.attr("to")
    if target is None:
        raise ShapeMismatchError("the attribute 'to' is required")
    if isinstance(target, str):  # opset 1 to 5 name the type
        names = {"FLOAT": "FLOAT32", "DOUBLE": "FLOAT64"}
        name = names.get(target.upper(), target.upper())
        if name not in DType.__members__:
            raise ShapeMismatchError(f"there is no element type '{target}'")
        return DType[name]
    return dtype_of_code(target)


@shape_function("CastLike", dtypes=lambda ctx: [ctx.dtype(1)])
def cast_like(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(1), ctx.shape(0))]


@shape_function("BitCast", dtypes=lambda ctx: [dtype_of_code(ctx.attr("to", 0))])
def bit_cast(ctx: NodeContext) -> Sequence[ValueType]:
    target, own = dtype_of_code(ctx.attr("to", 0)), ctx.dtype(0)
    if target.bits != own.bits:
        raise ShapeMismatchError(f"{own.label} and {target.label} differ in width")
    return [TensorType(target, ctx.shape(0))]


@shape_function("Dropout")
def dropout(ctx: NodeContext) -> Sequence[ValueType]:
    mask = DType.BOOL if ctx.opset >= 10 else ctx.dtype(0)
    return [ctx.type(0), TensorType(mask, ctx.shape(0))]


# --- agreement --------------------------------------------------------------------------------------------------------

agreement("Clip")(singles(minimum=1, maximum=2))

agreement("Dropout")(singles(ratio=1, mode=2))


# --- evaluation -------------------------------------------------------------------------------------------------------


def _elementwise(function: Callable[..., Any]) -> Evaluator:
    """An evaluator that applies a numpy function to the inputs and keeps the element type of the first."""

    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        if ctx.opset < 7 and len(arrays) > 1:
            return None  # the old broadcast attribute: never met in shape arithmetic
        operands = given_contents(arrays)
        return [np.asarray(function(*operands)).astype(operands[0].dtype, copy=False)]

    return evaluate


def _if_settled(function: Callable[..., Any]) -> Evaluator:
    """The same, but only for operands without NaN and -0.0, of which the standard does not say what comes out."""
    evaluate = _elementwise(function)
    return lambda ctx, arrays: evaluate(ctx, arrays) if _are_settled(arrays) else None


def _are_settled(arrays: Contents) -> bool:
    """Whether no operand has a NaN or a zero with a sign."""
    floats = [array for array in given_contents(arrays) if array.dtype.kind == "f"]
    return not any(np.isnan(a).any() or (np.signbit(a) & (a == 0)).any() for a in floats)


def _of_kinds(kinds: str, function: Callable[..., Any]) -> Evaluator:
    """The same, but only for numbers of these kinds, as numpy names them."""
    evaluate = _elementwise(function)
    return lambda ctx, arrays: (
        evaluate(ctx, arrays) if all(a.dtype.kind in kinds for a in given_contents(arrays)) else None
    )


def _comparison(function: Callable[..., Any]) -> Evaluator:
    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        return None if ctx.opset < 7 else [np.asarray(function(*given_contents(arrays)))]

    return evaluate


_ARITHMETIC: dict[str, tuple[Callable[..., Any], str]] = {
    "Add": (np.add, "iuf"),
    "Sub": (np.subtract, "iuf"),
    "Mul": (np.multiply, "iuf"),
    "Neg": (np.negative, "if"),
    "Abs": (np.abs, "iuf"),
    "Floor": (np.floor, "f"),
    "Ceil": (np.ceil, "f"),
    "Round": (np.rint, "f"),
    "Sqrt": (np.sqrt, "f"),
    "Reciprocal": (np.reciprocal, "f"),
    "Identity": (lambda x: x, "biuf"),
}
"""Functions, and the kinds of numbers (as numpy names them) that the standard has the operator for: bodies of other
operators come to others, such as Neg of unsigned numbers in Shrink, and mean nothing there."""

for _name, (_function, _kinds) in _ARITHMETIC.items():
    evaluator(_name)(_of_kinds(_kinds, _function))

evaluator("Sign")(_if_settled(np.sign))

evaluator("Relu")(_if_settled(lambda x: np.maximum(x, x.dtype.type(0))))

evaluator("Pow")(_of_kinds("iu", np.power))

_PREDICATES: dict[str, Callable[..., Any]] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Not": np.logical_not,
    "IsNaN": np.isnan,
}

for _name, _function in _PREDICATES.items():
    evaluator(_name)(_comparison(_function))


def truncated_quotient(first: Array, second: Array) -> Array:
    """Integer quotients rounded towards zero, as C divides."""
    quotient = np.floor_divide(first, second)
    inexact = (quotient * second != first) & ((first < 0) != (second < 0))
    return np.asarray(quotient + inexact).astype(first.dtype, copy=False)


@evaluator("Div")
def evaluate_divide(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    first, second = given_contents(arrays)
    if ctx.opset < 7:
        return None
    if first.dtype.kind == "f":
        return [np.asarray(np.divide(first, second))]
    if not second.all():
        return None
    return [truncated_quotient(first, second)]


@evaluator("Mod")
def evaluate_modulo(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    first, second = given_contents(arrays)
    if first.dtype.kind != "f" and not second.all():
        return None
    return [np.asarray(np.fmod(first, second) if ctx.attr("fmod", 0) else np.mod(first, second))]


@evaluator("Min", "Max", "Sum")
def evaluate_variadic(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    function = {"Min": np.minimum, "Max": np.maximum, "Sum": np.add}[ctx.node.op_type]
    operands = given_contents(arrays)
    if ctx.node.op_type != "Sum" and not _are_settled(arrays):
        return None
    result = operands[0]
    for operand in operands[1:]:
        result = np.asarray(function(result, operand))
    return [result]


@evaluator("Clip")
def evaluate_clip(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = given_contents(arrays)[0]
    lowest = arrays[1] if len(arrays) > 1 else ctx.attr("min")
    highest = arrays[2] if len(arrays) > 2 else ctx.attr("max")
    if not _are_settled(arrays):
        return None
    if lowest is not None:
        data = np.maximum(data, np.asarray(lowest, data.dtype))
    if highest is not None:
        data = np.minimum(data, np.asarray(highest, data.dtype))
    return [np.asarray(data)]


@evaluator("Where")
def evaluate_where(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    condition, chosen, other = given_contents(arrays)
    return [np.where(condition, chosen, other)]


@evaluator("Cast")
def evaluate_cast(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    target = ctx.attr("to")
    if not isinstance(target, int):
        return None
    dtype = DType(target)
    if dtype not in _PLAIN:
        return None
    return _converted(given_contents(arrays)[0], dtype.numpy)


def _converted(data: Array, dtype: np.dtype[Any]) -> Sequence[Array] | None:
    """``data`` in another type; None where that type cannot hold it: then the provider decides what comes out."""
    if data.dtype.kind == "f" and dtype.kind in "iu":
        whole, limits = np.trunc(data.astype(np.float64)), np.iinfo(dtype)
        # the largest number of a type of 64 bits is not a float64; the first one beyond it is
        if not ((whole >= float(int(limits.min))) & (whole < float(int(limits.max) + 1))).all():
            return None
    return [data.astype(dtype)]


_PLAIN = frozenset(
    {DType.BOOL, DType.FLOAT16, DType.FLOAT32, DType.FLOAT64, DType.INT8, DType.INT16, DType.INT32, DType.INT64}
    | {DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64}
)


@evaluator("CastLike")
def evaluate_cast_like(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, like = given_contents(arrays)
    return _converted(data, like.dtype)


def _symbolic(function: Callable[..., Any], operands: int) -> Evaluator:
    apply = np.frompyfunc(function, operands, 1)

    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        if ctx.opset < 7 and operands > 1:
            return None
        return [np.asarray(apply(*(array.astype(object) for array in given_contents(arrays))), object)]

    return evaluate


def _quotient(first: int, second: int) -> int:
    """An integer quotient rounded towards zero."""
    if (first < 0) == (second < 0):
        return first // second
    return -(-first // second)


def _divided(first: Any, second: Any) -> Any:
    return first / second if isinstance(first, float | SymbolicQuotient) else _quotient(first, second)


for _name, _function, _count in (
    ("Add", operator.add, 2),
    ("Sub", operator.sub, 2),
    ("Mul", operator.mul, 2),
    ("Neg", operator.neg, 1),
    ("Abs", abs, 1),
    ("Div", _divided, 2),
    ("Identity", operator.pos, 1),
):
    symbolic_evaluator(_name)(_symbolic(_function, _count))


@symbolic_evaluator("Mod")
def evaluate_symbolic_modulo(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    """The remainder of a quotient rounded down, or, with ``fmod``, rounded towards zero."""
    first, second = (array.astype(object) for array in given_contents(arrays))
    apply = np.frompyfunc(_remainder if ctx.attr("fmod", 0) else operator.mod, 2, 1)
    return [np.asarray(apply(first, second), object)]


def _remainder(first: int, second: int) -> int:
    return first - _quotient(first, second) * second


def _symbolic_comparison(function: Callable[..., Any]) -> Evaluator:
    apply = _symbolic(function, 2)

    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        found = apply(ctx, arrays)
        return None if found is None else [found[0].astype(bool)]

    return evaluate


for _name, _function in (
    ("Equal", operator.eq),
    ("Less", operator.lt),
    ("LessOrEqual", operator.le),
    ("Greater", operator.gt),
    ("GreaterOrEqual", operator.ge),
):
    symbolic_evaluator(_name)(_symbolic_comparison(_function))


@symbolic_evaluator("Min", "Max", "Sum")
def evaluate_symbolic_variadic(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    functions: dict[str, Callable[..., Any]] = {"Min": minimum, "Max": maximum, "Sum": operator.add}
    apply = np.frompyfunc(functions[ctx.node.op_type], 2, 1)
    result, *others = (array.astype(object) for array in given_contents(arrays))
    for operand in others:
        result = np.asarray(apply(result, operand), object)
    return [result]


@symbolic_evaluator("Where")
def evaluate_symbolic_where(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    condition, chosen, other = given_contents(arrays)
    return [np.where(concrete(condition).astype(bool), chosen.astype(object), other.astype(object))]


@symbolic_evaluator("Cast")
def evaluate_symbolic_cast(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    """To an integer that holds every size, or to a float, as far as that is exact."""
    target, data = DType(ctx.attr("to")), given_contents(arrays)[0]
    if target in (DType.INT64, DType.INT32):
        return [_each(_as_whole, data)] if ctx.dtype(0).is_float else [data]
    bits = SIGNIFICANT_BITS.get(target.label)
    if bits is None:
        return None
    return [_each(lambda item: _as_float(item, bits, target.numpy), data)]


def _each(function: Callable[[Any], Any], data: Array) -> Array:
    return np.asarray(np.frompyfunc(function, 1, 1)(data.astype(object)), object)


def _as_whole(item: Any) -> int:
    return item.whole() if is_symbolic(item) else int(item)


def _as_float(item: Any, bits: int, dtype: np.dtype[Any]) -> Any:
    if isinstance(item, SymbolicQuotient):
        return item.as_type(bits)
    return SymbolicQuotient(item, 1, bits) if is_symbolic(item) else float(dtype.type(item))


@symbolic_evaluator("Floor", "Ceil")
def evaluate_symbolic_rounding(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    whole, number = ("floor", math.floor) if ctx.node.op_type == "Floor" else ("ceil", math.ceil)

    def rounded(item: Any) -> Any:
        return getattr(item, whole)() if is_symbolic(item) else float(number(item))

    return [_each(rounded, given_contents(arrays)[0])]


@symbolic_evaluator("Sign")
def evaluate_symbolic_sign(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [_each(lambda item: (item > 0) - (item < 0), given_contents(arrays)[0])]


@symbolic_evaluator("Relu")
def evaluate_symbolic_relu(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [_each(lambda item: maximum(item, 0), given_contents(arrays)[0])]


@symbolic_evaluator("Clip")
def evaluate_symbolic_clip(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    if ctx.opset < 11:
        return None
    (data, *_), bounds = given_contents(arrays[:1]), [*arrays[1:], None, None][:2]
    for bound, apply in zip(bounds, (maximum, minimum), strict=True):
        if bound is not None:
            data = np.asarray(np.frompyfunc(apply, 2, 1)(data.astype(object), bound.astype(object).reshape(())), object)
    return [data]


# --- bodies -----------------------------------------------------------------------------------------------------------

AXIS_BROADCASTING_UNTIL = 6
"""Until this opset the second operand said where in the first it belongs."""


@body("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater", "PRelu")
def build_explicit_broadcasting(b: BodyBuilder, node: Node) -> bool:
    """Append ``node`` without its axis; False where it has none."""
    if b.view.opset() > AXIS_BROADCASTING_UNTIL or not (node.attr("broadcast", 0) or node.op_type == "PRelu"):
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

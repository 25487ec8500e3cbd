"""Arithmetic, comparison, logic and mathematical functions, element by element with broadcasting."""

from __future__ import annotations

from collections.abc import Collection

from mace_core.graph import GraphView, Node
from mace_core.tensor import DType
from mace_cpu.elementwise.lower_chain import Chain, elementwise
from mace_cpu.shared.checks import INTEGERS, NUMBERS, all_concrete, dtype_in, inputs_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.registry import Check

BOOLS = frozenset({DType.BOOL})
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64, DType.FLOAT16, DType.BFLOAT16})
ARITHMETIC = NUMBERS | FLOATS
UNSIGNED = frozenset({DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64})
"""Without a negative: ONNX has no Neg of these, but bodies of operators that take them contain one."""

EVERYTHING = ARITHMETIC | BOOLS
FLOORED_FLOATS_SINCE = 28
"""The opset that gave Mod of floats with fmod=0 a meaning."""


def without_axis(view: GraphView, node: Node) -> str | None:
    """A reason if a node written for opset 6 or older asks for a broadcasting that is not numpy's."""
    if node.attr("broadcast", 0) and node.attr("axis") is not None:
        return "broadcasting along an explicit axis (opset 6 and older) is not supported"
    return None


def arithmetic(view: GraphView, node: Node) -> str | None:
    return inputs_in(ARITHMETIC)(view, node) or without_axis(view, node)


def comparison(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or without_axis(view, node)
    for value in node.inputs:
        reason = reason or dtype_in(view, value, EVERYTHING)
    return reason


def logical(view: GraphView, node: Node) -> str | None:
    return inputs_in(BOOLS)(view, node) or without_axis(view, node)


def float_to_bool(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.inputs[0], FLOATS)


def modulo(view: GraphView, node: Node) -> str | None:
    reason = inputs_in(ARITHMETIC)(view, node)
    old = view.opset() < FLOORED_FLOATS_SINCE
    if reason is None and old and not node.attr("fmod", 0) and dtype_in(view, node.inputs[0], FLOATS) is None:
        return "Mod of floats needs the attribute fmod=1"
    return reason


# --- functions of one argument ----------------------------------------------------------------------------------------

_UNARY = {
    "Neg": "neg",
    "Abs": "abs",
    "Sign": "sign",
    "Sqrt": "sqrt",
    "Exp": "exp",
    "Log": "log",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Reciprocal": "reciprocal",
    "Erf": "erf",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Asinh": "asinh",
    "Acosh": "acosh",
    "Atanh": "atanh",
}
_FLOAT_ONLY = [op for op in _UNARY if op not in ("Neg", "Abs", "Sign")]


@elementwise(*_FLOAT_ONLY, check=inputs_in(FLOATS))
@elementwise("Neg", check=inputs_in(ARITHMETIC - UNSIGNED))
@elementwise("Abs", "Sign", check=inputs_in(ARITHMETIC))
def unary(chain: Chain, node: Node) -> int:
    return chain.apply(_UNARY[node.op_type], chain.read(node.inputs[0]))


@elementwise("Not", check=inputs_in(BOOLS))
@elementwise("BitwiseNot", check=inputs_in(INTEGERS))
def negation(chain: Chain, node: Node) -> int:
    return chain.apply("not", chain.read(node.inputs[0]))


@elementwise("IsNaN", check=float_to_bool)
def is_nan(chain: Chain, node: Node) -> int:
    return chain.apply("is_nan", chain.read(node.inputs[0]), dtype="bool")


@elementwise("IsInf", check=float_to_bool)
def is_inf(chain: Chain, node: Node) -> int:
    wanted = (int(node.attr("detect_negative", 1)), int(node.attr("detect_positive", 1)))
    return chain.apply("is_inf", chain.read(node.inputs[0]), dtype="bool", parameters=wanted)


# --- two arguments ----------------------------------------------------------------------------------------------------

_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
    "BitwiseAnd": "and",
    "BitwiseOr": "or",
    "BitwiseXor": "xor",
}
_COMPARE = {
    "Equal": "equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
}


@elementwise("Add", "Sub", "Mul", "Div", check=arithmetic)
@elementwise("And", "Or", "Xor", check=logical)
@elementwise("BitwiseAnd", "BitwiseOr", "BitwiseXor", check=inputs_in(INTEGERS))
def binary(chain: Chain, node: Node) -> int:
    return chain.apply(_BINARY[node.op_type], chain.read(node.inputs[0]), chain.read(node.inputs[1]))


@elementwise(*_COMPARE, check=comparison)
def compare(chain: Chain, node: Node) -> int:
    left, right = chain.read(node.inputs[0]), chain.read(node.inputs[1])
    return chain.apply(_COMPARE[node.op_type], left, right, dtype="bool")


@elementwise("Mod", check=modulo)
def mod(chain: Chain, node: Node) -> int:
    name = "fmod" if node.attr("fmod", 0) else "mod"
    return chain.apply(name, chain.read(node.inputs[0]), chain.read(node.inputs[1]))


@elementwise("BitShift", check=inputs_in(INTEGERS))
def bit_shift(chain: Chain, node: Node) -> int:
    direction = node.attr("direction", "LEFT")
    name = "shift_left" if direction == "LEFT" else "shift_right"
    return chain.apply(name, chain.read(node.inputs[0]), chain.read(node.inputs[1]))


_EASY_POWERS: dict[float, tuple[str, ...]] = {
    1.0: (),
    2.0: ("square",),
    3.0: ("cube",),
    0.5: ("sqrt",),
    -1.0: ("reciprocal",),
    -0.5: ("sqrt", "reciprocal"),
}


@elementwise("Pow", check=arithmetic)
def power(chain: Chain, node: Node) -> int:
    base = chain.read(node.inputs[0])
    kind = chain.program.facts.dtype(need(node.inputs[0]))
    exponent_kind = chain.program.facts.dtype(need(node.inputs[1]))
    constant = chain.program.facts.constant_of(node.inputs[1])
    if constant is not None and constant.size == 1:
        easy = _EASY_POWERS.get(float(constant.reshape(())))
        if easy is not None and (kind.is_float or easy in ((), ("square",), ("cube",))):
            for name in easy:
                base = chain.apply(name, base)
            return base
    exponent = chain.read(node.inputs[1])
    between = _power_type(kind, exponent_kind)
    raised = chain.apply("pow", chain.cast(base, between), chain.cast(exponent, between))
    return chain.cast(raised, kind.label)


def _power_type(base: DType, exponent: DType) -> str:
    """The type a power is computed in: wide enough for both, as C's ``pow`` would."""
    if base.is_integer and exponent.is_integer:
        return "uint64" if exponent is DType.UINT64 else "int64"
    narrow = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
    if base in narrow and (exponent in narrow or exponent.bits <= 16):
        return "float32"
    return "float64"


# --- any number of arguments ------------------------------------------------------------------------------------------


MOST_ARGUMENTS = 256
"""Of a variadic operator: one kernel reads them all, and what a compiler needs for it grows faster than they do."""


def _variadic(allowed: Collection[DType]) -> Check:
    types = inputs_in(allowed)

    def check(view: GraphView, node: Node) -> str | None:
        if len(node.inputs) > MOST_ARGUMENTS:
            return f"it has {len(node.inputs)} inputs; the kernel takes at most {MOST_ARGUMENTS}"
        return types(view, node)

    return check


@elementwise("Sum", "Mean", check=_variadic(FLOATS))
@elementwise("Min", "Max", check=_variadic(ARITHMETIC))
def variadic(chain: Chain, node: Node) -> int:
    name = {"Sum": "add", "Mean": "add", "Min": "min", "Max": "max"}[node.op_type]
    result = chain.read(node.inputs[0])
    for value in node.inputs[1:]:
        result = chain.apply(name, result, chain.read(value))
    if node.op_type == "Mean" and len(node.inputs) > 1:
        result = chain.apply("divide_by", result, parameters=(float(len(node.inputs)),))
    return result


def selectable(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.inputs[0], BOOLS)
    return reason or dtype_in(view, node.inputs[1], EVERYTHING)


@elementwise("Where", check=selectable)
def where(chain: Chain, node: Node) -> int:
    condition, x, y = (chain.read(value) for value in node.inputs)
    return chain.apply("select", condition, x, y, dtype=chain.dtype(x))

"""Elementwise operators as C expressions of their operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from mace_core.graph import Node
from mace_core.tensor import DType

Formula = Callable[[Node, Sequence[str]], str]

C_TYPES: Mapping[DType, str] = {
    DType.FLOAT32: "float",
    DType.INT32: "int",
    DType.INT64: "long",
    DType.UINT8: "uchar",
    DType.INT8: "char",
    DType.INT16: "short",
    DType.UINT16: "ushort",
    DType.UINT32: "uint",
    DType.UINT64: "ulong",
    DType.BOOL: "uchar",
}
"""How kernels that look at elements spell their types; booleans are 0 or 1 in a byte."""


def literal(value: float) -> str:
    """A float constant in OpenCL C, exactly."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    text = float(value).hex()
    return f"({text}f)" if value < 0 else f"{text}f"


def _attribute(node: Node, name: str, default: float) -> str:
    return literal(float(node.attr(name, default)))


def _call(function: str) -> Formula:
    return lambda node, x: f"{function}({x[0]})"


def _elu(node: Node, x: Sequence[str]) -> str:
    return f"({x[0]} < 0.0f ? {_attribute(node, 'alpha', 1.0)} * expm1({x[0]}) : {x[0]})"


def _celu(node: Node, x: Sequence[str]) -> str:
    alpha = _attribute(node, "alpha", 1.0)
    return f"({x[0]} < 0.0f ? {alpha} * expm1({x[0]} / {alpha}) : {x[0]})"


def _selu(node: Node, x: Sequence[str]) -> str:
    alpha, gamma = _attribute(node, "alpha", 1.67326319217681884765625), _attribute(node, "gamma", 1.05070102214813232)
    return f"({gamma} * ({x[0]} > 0.0f ? {x[0]} : {alpha} * expm1({x[0]})))"


def _hard_sigmoid(node: Node, x: Sequence[str]) -> str:
    inner = f"{_attribute(node, 'alpha', 0.2)} * {x[0]} + {_attribute(node, 'beta', 0.5)}"
    return f"clamp({inner}, 0.0f, 1.0f)"


def _gelu(node: Node, x: Sequence[str]) -> str:
    v = x[0]
    if node.attr("approximate", "none") == "tanh":
        inner = f"{literal(math.sqrt(2 / math.pi))} * ({v} + {literal(0.044715)} * {v} * {v} * {v})"
        return f"(0.5f * {v} * (1.0f + tanh({inner})))"
    return f"(0.5f * {v} * (1.0f + erf({v} * {literal(math.sqrt(0.5))})))"


def _softplus(node: Node, x: Sequence[str]) -> str:
    return f"(fmax({x[0]}, 0.0f) + log1p(exp(-fabs({x[0]}))))"


def _mish(node: Node, x: Sequence[str]) -> str:
    return f"({x[0]} * tanh({_softplus(node, x)}))"


def _infix(operator: str) -> Formula:
    return lambda node, x: "(" + f" {operator} ".join(x) + ")"


def _extreme(relation: str) -> Formula:
    """The larger or smaller one; NaN where either is."""

    def formula(node: Node, x: Sequence[str]) -> str:
        found = x[0]
        for other in x[1:]:
            found = f"({found} {relation} {other} || {found} != {found} ? {found} : {other})"
        return found

    return formula


def _mean(node: Node, x: Sequence[str]) -> str:
    return f"({_infix('+')(node, x)} / {literal(len(x))})"


def _compare(relation: str) -> Formula:
    return lambda node, x: f"(uchar)({x[0]} {relation} {x[1]})"


def _logic(operator: str) -> Formula:
    return lambda node, x: f"(uchar)(({x[0]} != 0) {operator} ({x[1]} != 0))"


UNARY: Mapping[str, Formula] = {
    "Relu": lambda node, x: f"({x[0]} < 0 ? 0 : {x[0]})",
    "Sigmoid": lambda node, x: f"(1.0f / (1.0f + exp(-{x[0]})))",
    "Tanh": _call("tanh"),
    "Exp": _call("exp"),
    "Log": _call("log"),
    "Sqrt": _call("sqrt"),
    "Reciprocal": lambda node, x: f"(1.0f / {x[0]})",
    "Neg": lambda node, x: f"(-{x[0]})",
    "Abs": lambda node, x: f"({x[0]} < 0 ? -{x[0]} : {x[0]} + 0)",
    "Sign": lambda node, x: f"({x[0]} > 0 ? 1 : {x[0]} < 0 ? -1 : {x[0]})",
    "Floor": _call("floor"),
    "Ceil": _call("ceil"),
    "Round": _call("rint"),
    "Erf": _call("erf"),
    "Sin": _call("sin"),
    "Cos": _call("cos"),
    "Tan": _call("tan"),
    "Asin": _call("asin"),
    "Acos": _call("acos"),
    "Atan": _call("atan"),
    "Sinh": _call("sinh"),
    "Cosh": _call("cosh"),
    "Asinh": _call("asinh"),
    "Acosh": _call("acosh"),
    "Atanh": _call("atanh"),
    "LeakyRelu": lambda node, x: f"({x[0]} < 0.0f ? {_attribute(node, 'alpha', 0.01)} * {x[0]} : {x[0]})",
    "ThresholdedRelu": lambda node, x: f"({x[0]} > {_attribute(node, 'alpha', 1.0)} ? {x[0]} : 0.0f)",
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, x: f"({x[0]} * clamp({x[0]} / 6.0f + 0.5f, 0.0f, 1.0f))",
    "Gelu": _gelu,
    "Mish": _mish,
    "Softplus": _softplus,
    "Softsign": lambda node, x: f"({x[0]} / (1.0f + fabs({x[0]})))",
}
"""Of one float; Relu, Neg, Abs and Sign of integers too."""

INTEGER_UNARY = frozenset({"Relu", "Neg", "Abs", "Sign"})

BINARY: Mapping[str, Formula] = {
    "Add": _infix("+"),
    "Sub": _infix("-"),
    "Mul": _infix("*"),
    "Div": _infix("/"),
    "Pow": lambda node, x: f"pow({x[0]}, {x[1]})",
    "PRelu": lambda node, x: f"({x[0]} < 0.0f ? {x[1]} * {x[0]} : {x[0]})",
    "Max": _extreme(">"),
    "Min": _extreme("<"),
    "Sum": _infix("+"),
    "Mean": _mean,
}
"""Of two operands or, the last four, of any number."""

INTEGER_BINARY = frozenset({"Add", "Sub", "Mul", "Max", "Min"})

COMPARISONS: Mapping[str, Formula] = {
    "Equal": _compare("=="),
    "Less": _compare("<"),
    "Greater": _compare(">"),
    "LessOrEqual": _compare("<="),
    "GreaterOrEqual": _compare(">="),
}

LOGIC: Mapping[str, Formula] = {
    "And": _logic("&&"),
    "Or": _logic("||"),
    "Xor": _logic("!="),
    "Not": lambda node, x: f"(uchar)({x[0]} == 0)",
}


def power(base: str, exponent: float) -> str | None:
    """A cheaper form of raising to a constant, None where there is none."""
    forms = {1.0: base, 2.0: f"({base} * {base})", 3.0: f"({base} * {base} * {base})", -1.0: f"(1.0f / {base})"}
    if exponent == 0.5:
        return f"sqrt({base})"
    return forms.get(exponent)


def cast(value: str, source: DType, target: DType) -> str:
    """A conversion as ONNX has it: towards zero for integers, "is not zero" for booleans."""
    if target is DType.BOOL:
        return f"(uchar)({value} != 0)"
    return f"({C_TYPES[target]})({value})"

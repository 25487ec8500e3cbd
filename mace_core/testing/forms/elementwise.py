"""Operators of two operands, with all that broadcasting can mean, and of one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_core.tensor import DType
from mace_core.testing.cases import OPSET, Case
from mace_core.testing.forms.building import form, forms_of, ints, on_a_grid, rows, values

BROADCASTS = (
    ((3, 5), (3, 5)),
    ((2, 3, 5), (5,)),
    ((5,), (2, 3, 5)),
    ((2, 3, 5), (3, 1)),
    ((2, 3, 5), (2, 1, 5)),
    ((2, 1, 5), (1, 3, 1)),
    ((2, 3, 5), ()),
    ((), (2, 3, 5)),
    ((), ()),
    ((1,), (17,)),
    ((1, 7, 3, 5), (7, 1, 1)),
    ((1, 7, 3, 5), (1, 7, 1, 1)),
    ((2, 1, 1, 7), (3, 5, 1)),
    ((129,), (129,)),
    ((0, 3), (1, 3)),
    ((2, 3, 1, 5), (1, 1, 4, 5)),
)
FLOATS = ("float32", "float16", "float64")
ALL_TYPES = (*FLOATS, "int32", "int64", "int8", "uint8")
BINARY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Max", "Min"), ALL_TYPES),
    **dict.fromkeys(("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"), (*FLOATS, "int32", "int64")),
    "Div": ("float32", "float16", "float64", "int32", "int64"),
    "Pow": ("float32", "float64"),
    **dict.fromkeys(("And", "Or", "Xor"), ("bool",)),
    "PRelu": FLOATS,
}


def _alone(op_type: str) -> tuple[str, ...]:
    """Of the operators that differ in nothing but their function, a few are tried in every combination."""
    return ("dtype",) if op_type in ("Add", "Sub", "Mul", "Div") else ("dtype", "shapes", "constant")


@forms_of(*BINARY)
def binary(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        shapes=BROADCASTS, constant=("neither", "second", "first"), dtype=BINARY[op_type], alone=_alone(op_type)
    ):
        left, right = row["shapes"]
        if op_type == "PRelu" and np.broadcast_shapes(left, right) != left:
            continue  # the slope is broadcast, the input is not
        a, b = values(left, row["dtype"], 40), values(right, row["dtype"], 41)
        if op_type == "Div":
            b = (
                np.where(np.abs(b) < 1, np.ones((), b.dtype), b)
                if b.dtype.kind != "f"
                else np.asarray(np.abs(b) + b.dtype.type(0.5))
            )
            a = np.abs(a) if a.dtype.kind != "f" else a  # how whole numbers below zero are divided is not settled
        if op_type == "Pow":
            a = np.asarray(np.abs(a) + a.dtype.type(0.5))
        if op_type in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
            a, b = (np.asarray(np.rint(v), v.dtype) for v in (a, b))  # so that some are equal
        yield form(op_type, [a, b], different, constants={"neither": [], "second": [1], "first": [0]}[row["constant"]])


@forms_of("Max", "Min", "Sum", "Mean")
def many_operands(op_type: str) -> Iterator[Case]:
    for count in (1, 2, 3, 5):
        shapes = ((2, 3, 5), (5,), (3, 1), (1,), (2, 1, 1))[:count]
        yield form(op_type, [values(s, seed=42 + i) for i, s in enumerate(shapes)], {"operands": count})


@forms_of("Mod")
def remainders(op_type: str) -> Iterator[Case]:
    for row, different in rows(dtype=("int32", "int64", "float32"), shapes=BROADCASTS[:8], alone=("dtype", "shapes")):
        left, right = row["shapes"]
        a, b = values(left, row["dtype"], 43), np.abs(values(right, row["dtype"], 44)) + np.ones((), row["dtype"])
        fmod = 1 if row["dtype"] == "float32" else None
        yield form(op_type, [a, np.asarray(b)], different, attributes={"fmod": fmod})
    yield form(op_type, [values((9,), "int32", 45), np.full(9, 7, np.int32)], {"fmod": 1}, attributes={"fmod": 1})


@forms_of("Where")
def selections(op_type: str) -> Iterator[Case]:
    shapes = (
        ((3, 4), (3, 4), (3, 4)),
        ((3, 4), (4,), (3, 1)),
        ((4,), (3, 4), ()),
        ((3, 1), (1, 4), (2, 1, 1)),
        ((), (5,), (5,)),
        ((1,), (), (7,)),
    )
    for row, different in rows(
        shapes=shapes, dtype=("float32", "float16", "int64", "bool"), constant=(False, True), alone=("dtype",)
    ):
        condition, x, y = row["shapes"]
        inputs = [values(condition, "bool", 46), values(x, row["dtype"], 47), values(y, row["dtype"], 48)]
        yield form(op_type, inputs, different, constants=[1, 2] if row["constant"] else [])


@forms_of("Cast")
def casts(op_type: str) -> Iterator[Case]:
    types = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool")
    for source in types:
        for target in types:
            if source == target:
                continue
            x = on_a_grid(values((3, 7), source, 49, 0.0 if target == "uint8" else -9.0, 9.0))
            if target == "uint8" and x.dtype.kind == "i":
                x = np.abs(x)
            if source == "uint8" and target == "int8":
                x = np.minimum(x, 100).astype(np.uint8)
            to = DType.from_numpy(np.dtype(target)).value
            yield form(op_type, [x], {"dtype": source, "to": target}, attributes={"to": to})


@forms_of("Clip")
def clips(op_type: str) -> Iterator[Case]:
    """Each bound left out or given, as an attribute (opset 6) or an input, constant or not."""
    for row, different in rows(
        bounds=("both", "max", "min", "neither"),
        given=("constant", "fed"),
        opset=(OPSET, 6, 11, 12),
        shape=((3, 17), (2, 3, 5, 7), (), (0, 3)),
        dtype=("float32", "float16", "int32", "int8"),
        alone=("dtype",),
        allowed=lambda row: row["opset"] >= 12 or not row["dtype"].startswith("int"),
    ):
        has_low, has_high = row["bounds"] in ("both", "min"), row["bounds"] in ("both", "max")
        is_whole = row["dtype"].startswith("int")
        x = values(row["shape"], row["dtype"], 50)
        low, high = (-7, 11) if is_whole else (-0.625, 0.375)
        traits = {name: value for name, value in different.items() if name != "opset"}
        if row["opset"] < 11:
            bounds = {"min": float(low) if has_low else None, "max": float(high) if has_high else None}
            yield form(op_type, [x], traits, attributes=bounds, opset=row["opset"])
            continue
        inputs = [x, np.array(low, x.dtype) if has_low else None, np.array(high, x.dtype) if has_high else None]
        while inputs[-1] is None:
            inputs.pop()
        constants = [1, 2] if row["given"] == "constant" else []
        yield form(op_type, inputs, traits, constants=constants, opset=row["opset"])


@forms_of("CumSum")
def running_sums(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axis=(1, 0, -1), exclusive=(0, 1), reverse=(0, 1), dtype=("float32", "int64"), alone=("dtype",)
    ):
        attributes = {name: row[name] or None for name in ("exclusive", "reverse")}
        x = values((3, 5, 7), row["dtype"], 51)
        yield form(op_type, [x, ints(row["axis"])[0:1].reshape(())], different, constants=[1], attributes=attributes)

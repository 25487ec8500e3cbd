"""Functions of one number, with their parameters, and at magnitudes at which careless formulas overflow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_core.testing.cases import OPSET, Case
from mace_core.testing.forms.building import form, forms_of, on_a_grid, rows, sized, values
from mace_core.testing.forms.covering import Row

SHAPES = ((3, 17), (1,), (), (2, 19, 5, 7), (1, 1, 1, 1), (129,), (3, 1, 7), (0, 4), (2, 3, 2, 3, 2))
FLOATS = ("float32", "float16", "float64")

PARAMETERS: dict[str, tuple[dict[str, object], ...]] = {
    "LeakyRelu": ({"alpha": 0.25}, {"alpha": 0.0}, {"alpha": 1.5}, {"alpha": -0.5}),
    "Elu": ({"alpha": 0.5}, {"alpha": 2.0}),
    "Celu": ({"alpha": 0.5}, {"alpha": 2.0}),
    "Selu": ({"alpha": 0.5}, {"gamma": 2.0}, {"alpha": 2.0, "gamma": 0.5}),
    "HardSigmoid": ({"alpha": 0.5}, {"beta": 0.25}, {"alpha": 0.125, "beta": 0.75}),
    "ThresholdedRelu": ({"alpha": 0.5}, {"alpha": -0.5}),
    "Gelu": ({"approximate": "tanh"},),
    "Shrink": ({"lambd": 1.0}, {"bias": 0.5}, {"lambd": 0.25, "bias": -0.5}),
}
PLAIN = (
    *("Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Floor", "Ceil", "Erf", "HardSwish", "Softplus", "Softsign"),
    *("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Round", "Sign", "Reciprocal", "Identity", "Sqrt", "Log"),
    *("Mish", "Not"),
)
SATURATING = {"Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Elu", "Celu", "Selu", "Gelu", "Mish"} | {
    "HardSigmoid", "HardSwish", "Atan", "LeakyRelu", "ThresholdedRelu"
}  # fmt: skip
"""What stays finite whatever it is given, where it is computed with care."""

JUMPING = {"Floor", "Ceil", "Round", "Sign", "Not"}
"""What has jumps, at which a device of half precision must not be on the other side."""

WHOLE = {"Neg", "Abs", "Sign", "Relu"}


@forms_of(*PLAIN, *PARAMETERS)
def functions(op_type: str) -> Iterator[Case]:
    dtypes: tuple[str, ...] = (
        ("bool",) if op_type == "Not" else (*FLOATS, "int32", "int8") if op_type in WHOLE else FLOATS
    )
    if op_type == "Identity":
        dtypes = (*FLOATS, "int64", "uint8", "bool")
    for row, different in rows(shape=SHAPES, dtype=dtypes, alone=("shape", "dtype")):
        low = 0.25 if op_type in ("Sqrt", "Log", "Reciprocal") else -3.0
        x = values(row["shape"], row["dtype"], 60, low, 3.0)
        if op_type == "Celu" and row["dtype"] != "float32":
            continue
        if op_type in JUMPING:
            x = on_a_grid(x)
        yield form(op_type, [x], different)
    for parameters in PARAMETERS.get(op_type, ()):
        yield form(op_type, [values((3, 17), seed=61)], parameters, attributes=parameters)
    if op_type in SATURATING:
        for magnitude in (30.0, 200.0, 1500.0):
            yield form(op_type, [sized((5, 13), "float32", magnitude)], {"magnitude": magnitude})
    if op_type == "Exp":
        for magnitude in (20.0, 200.0, 1500.0):
            yield form(op_type, [-np.abs(sized((5, 13), "float32", magnitude))], {"magnitude": -magnitude})
    if op_type in ("Round", "Floor", "Ceil"):
        halves = np.arange(-9, 10, dtype=np.float32) / 2
        yield form(op_type, [halves], {"values": "halves"})


@forms_of("Softmax", "LogSoftmax", "Hardmax")
def softmaxes(op_type: str) -> Iterator[Case]:
    """Along one axis since opset 13, over all axes from one on before; at magnitudes at which exponentials overflow."""
    shapes = ((2, 3, 5), (3, 40), (7,), (2, 3, 4, 5), (2, 1, 3), (1, 1), (2, 131))
    for opset in (OPSET, 11, 13, 9):

        def has_axis(row: Row, opset: int = opset) -> bool:
            axis, rank = row["axis"], len(row["shape"])
            if axis == "left out":
                return rank > 1 or opset >= 13  # it is 1 before opset 13
            return bool(-rank <= axis < rank and (axis >= 0 or opset >= 11))  # counted from the end since opset 11

        for row, different in rows(
            axis=("left out", -1, 0, 1, 2, -2),
            shape=shapes,
            magnitude=(2.0, 100.0, 1000.0),
            dtype=("float32", "float16", "float64"),
            alone=("dtype", "magnitude") if opset in (OPSET, 11) else ("dtype", "magnitude", "shape"),
            allowed=has_axis,
        ):
            attributes = {} if row["axis"] == "left out" else {"axis": row["axis"]}
            if row["magnitude"] > 2:
                x = sized(row["shape"], row["dtype"], row["magnitude"], 62)
            else:
                x = values(row["shape"], row["dtype"], 62)
            precise = row["magnitude"] > 100  # differences of thousands
            yield form(op_type, [x], different, attributes=attributes, opset=opset, needs_precision=precise)

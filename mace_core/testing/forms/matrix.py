"""Products of matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import Array, form, forms_of, rows, values

FEW = 20
PRODUCTS = (
    ((5, 7), (7, 3)),
    ((1, 1), (1, 1)),
    ((1, 13), (13, 1)),
    ((17, 1), (1, 19)),
    ((7,), (7, 3)),
    ((5, 7), (7,)),
    ((7,), (7,)),
    ((2, 5, 7), (7, 3)),
    ((2, 5, 7), (2, 7, 3)),
    ((3, 1, 4, 5), (2, 5, 6)),
    ((4, 5), (3, 5, 2)),
    ((2, 1, 3, 4), (1, 5, 4, 2)),
    ((31, 67), (67, 129)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
)


def _uncancelled(array: Array) -> Array:
    """Vectors and other small operands with one sign, so that the few sums they make are no small differences."""
    return np.abs(array) if array.ndim == 1 or array.size < FEW else array


@forms_of("MatMul")
def products(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        shapes=PRODUCTS,
        constant=("second", "neither", "first"),
        dtype=("float32", "float16", "float64", "int32"),
        alone=("dtype",),
    ):
        left, right = row["shapes"]
        inputs = [_uncancelled(values(left, row["dtype"], 30)), _uncancelled(values(right, row["dtype"], 31))]
        constants = {"second": [1], "first": [0], "neither": []}[row["constant"]]
        yield form(op_type, inputs, different, constants=constants)


@forms_of("Gemm")
def gemms(op_type: str) -> Iterator[Case]:
    choices = rows(
        size=((4, 6, 5), (1, 7, 1), (13, 1, 3), (5, 31, 33)),
        transA=(0, 1),
        transB=(0, 1),
        alpha=(1.0, 0.5, -2.0),
        beta=(1.0, 0.25, 3.0),
        c=("row", "none", "column", "matrix", "scalar", "one row"),
        weights=("constant", "fed"),
        dtype=("float32", "float16", "float64"),
        opset=(21, 7, 11),
        alone=("dtype", "opset", "size"),
        allowed=lambda row: row["c"] != "none" or row["opset"] >= 11,
    )
    for row, different in choices:
        m, k, n = row["size"]
        a = values((k, m) if row["transA"] else (m, k), row["dtype"], 32)
        b = values((n, k) if row["transB"] else (k, n), row["dtype"], 33)
        if m * n == 1:
            a, b = _uncancelled(a), _uncancelled(b)
        shape = {"row": (n,), "column": (m, 1), "matrix": (m, n), "scalar": (), "one row": (1, n), "none": None}[
            row["c"]
        ]
        inputs = [a, b] if shape is None else [a, b, values(shape, row["dtype"], 34)]
        attributes = {
            "transA": row["transA"] or None,
            "transB": row["transB"] or None,
            "alpha": None if row["alpha"] == 1 else row["alpha"],
            "beta": None if row["beta"] == 1 else row["beta"],
        }
        constants = [1, 2] if row["weights"] == "constant" else []
        traits = {name: value for name, value in different.items() if name != "opset"}
        yield form(op_type, inputs, traits, constants=constants, attributes=attributes, opset=row["opset"])


@forms_of("MatMulInteger", "QLinearMatMul")
def whole_products(op_type: str) -> Iterator[Case]:
    choices = rows(
        a=("uint8", "int8"),
        b=("int8", "uint8"),
        shapes=(((5, 7), (7, 3)), ((2, 3, 4), (4, 5)), ((1, 33), (33, 17))),
        scales=("tensor", "column"),
        weights=("constant", "fed"),
        alone=("a", "b"),
    )
    for row, different in choices:
        left, right = row["shapes"]
        a, b = values(left, row["a"], 35), values(right, row["b"], 36)
        a_zero = np.array(5 if row["a"] == "uint8" else -4, row["a"])
        b_zero = np.array(9 if row["b"] == "uint8" else 2, row["b"])
        per_column = row["scales"] == "column"
        if per_column:
            b_zero = np.full(right[-1], b_zero)
        fixed = [] if row["weights"] == "fed" else [1] if op_type == "MatMulInteger" else [3]
        if op_type == "MatMulInteger":
            yield form(op_type, [a, b, a_zero, b_zero], different, constants=[*fixed, 2, 3])
            continue
        steps = np.linspace(0.01, 0.03, right[-1], dtype=np.float32) if per_column else np.array(0.02, np.float32)
        scale, result, zero = np.array(0.05, np.float32), np.array(0.9, np.float32), np.array(3, row["a"])
        inputs = [a, scale, a_zero, b, steps, b_zero, result, zero]
        yield form(op_type, inputs, different, constants=[*fixed, 1, 2, 4, 5, 6, 7])

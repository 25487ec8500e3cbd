"""Reductions along axes, given as attributes or inputs, kept or dropped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import form, forms_of, ints, rows, sized, values

SINCE = {"ReduceSum": 13}
"""The opset with which the axes became an input; 18 for all others."""

REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum"),
    *("ReduceLogSumExp", "ReduceSumSquare"),
)


@forms_of(*REDUCTIONS)
def reductions(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axes=((1,), (-1,), (0, 2), None, (1, 3), (-3, -1), (0, 1, 2, 3), (2,)),
        keepdims=(None, 0),
        opset=(21, 11, 13),
        shape=((2, 3, 4, 5), (1, 7, 1, 13), (3, 1, 17, 2)),
        dtype=("float32", "float16", "float64", "int32", "int64"),
        alone=("dtype", "opset")
        if op_type in ("ReduceSum", "ReduceMean", "ReduceMax")
        else ("dtype", "shape", "opset"),
    ):
        if row["dtype"].startswith("int") and op_type not in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"):
            continue
        low = 0.5 if op_type in ("ReduceLogSum", "ReduceProd") else -2.0
        x = values(row["shape"], row["dtype"], 90, low, 1.5)
        if op_type == "ReduceProd" and x.dtype.kind == "i":
            x = np.sign(x)
        traits = {name: value for name, value in different.items() if name != "opset"}
        takes_input = row["opset"] >= SINCE.get(op_type, 18)
        inputs = [x] if row["axes"] is None or not takes_input else [x, ints(*row["axes"])]
        attributes = {"keepdims": row["keepdims"], "axes": None if takes_input else row["axes"]}
        yield form(op_type, inputs, traits, constants=[1], attributes=attributes, opset=row["opset"])
    for axes in (None, ()):
        traits = {"noop_with_empty_axes": 1, "axes": "left out" if axes is None else "empty"}
        inputs = [values((2, 3), seed=91, low=0.5)] + ([] if axes is None else [ints()])
        if op_type in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            yield form(op_type, inputs, traits, constants=[1], attributes={"noop_with_empty_axes": 1})
    if op_type == "ReduceLogSumExp":
        yield form(op_type, [sized((3, 17), "float32", 300.0), ints(1)], {"magnitude": 300.0}, constants=[1])
    if op_type in ("ReduceMax", "ReduceMin"):
        x = values((3, 17), seed=92, low=1.0, high=9.0)
        for sign in (1, -1):
            yield form(op_type, [sign * x, ints(1)], {"sign": sign}, constants=[1])


@forms_of("ArgMax", "ArgMin")
def places(op_type: str) -> Iterator[Case]:
    """Ties too: the first is meant unless the last is asked for."""
    for row, different in rows(
        axis=(None, 1, -1, 2, -2),
        keepdims=(None, 0),
        select_last_index=(None, 1),
        content=("distinct", "ties"),
        dtype=("float32", "float16", "int32"),
        alone=("dtype",),
    ):
        x = values((3, 5, 7), row["dtype"], 93)
        if row["content"] == "ties":
            x = np.asarray(np.sign(x), x.dtype)
        names = ("axis", "keepdims", "select_last_index")
        yield form(op_type, [x], different, attributes={name: row[name] for name in names})


@forms_of("TopK")
def largest(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axis=(None, 0, 1, -2), k=(1, 3), largest=(None, 0), opset=(21, 10), dtype=("float32", "int64")
    ):
        if row["opset"] == 10 and (row["largest"] == 0 or row["dtype"] != "float32"):
            continue
        x = values((3, 5, 7), row["dtype"], 94)
        if x.dtype.kind == "i":
            x = np.random.default_rng(95).permutation(x.size).reshape(x.shape).astype(x.dtype)
        attributes = {"axis": row["axis"], "largest": row["largest"]}
        traits = {name: value for name, value in different.items() if name != "opset"}
        yield form(
            op_type, [x, ints(row["k"])], traits, constants=[1], attributes=attributes, outputs=2, opset=row["opset"]
        )

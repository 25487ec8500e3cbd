"""Operators that read or write at places given by numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import form, forms_of, ints, rows, values

TYPES = ("float32", "float16", "int64", "uint8")


def _places(shape: tuple[int, ...], size: int, seed: int, kind: str = "int64") -> np.ndarray:
    """Places from the beginning and from the end."""
    return np.random.default_rng(seed).integers(-size, size, shape).astype(kind)


@forms_of("Gather")
def gathers(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axis=(None, 1, 2, -1, -2),
        shape=((3,), (), (2, 3), (1,), (0,)),
        given=("constant", "fed"),
        indices=("int64", "int32"),
        dtype=TYPES,
        alone=("dtype",),
    ):
        axis = row["axis"]
        x = values((4, 5, 6), row["dtype"], 130)
        places = np.asarray(_places(row["shape"], x.shape[axis or 0], 131, row["indices"]))
        constants = [1] if row["given"] == "constant" else []
        yield form(op_type, [x, places], different, constants=constants, attributes={"axis": axis})


@forms_of("GatherElements")
def gathered_elements(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axis=(None, 1, -1), shape=((2, 3, 4), (3, 4, 5), (1, 1, 1)), given=("constant", "fed"), dtype=TYPES
    ):
        x = values((3, 4, 5), row["dtype"], 132)
        places = _places(row["shape"], x.shape[row["axis"] or 0], 133)
        constants = [1] if row["given"] == "constant" else []
        yield form(op_type, [x, places], different, constants=constants, attributes={"axis": row["axis"]})


@forms_of("GatherND")
def gathered_slices(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        batch_dims=(None, 1), shape=((3, 2), (3, 4, 1), (3, 2, 2)), dtype=TYPES, alone=("dtype",)
    ):
        x = values((3, 3, 3, 3), row["dtype"], 134)
        attributes = {"batch_dims": row["batch_dims"]}
        yield form(op_type, [x, _places(row["shape"], 3, 135)], different, constants=[1], attributes=attributes)


@forms_of("ScatterElements")
def scattered_elements(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axis=(None, 1, -1), reduction=(None, "add", "mul", "max", "min"), dtype=("float32", "int64")
    ):
        x = values((4, 5), row["dtype"], 136)
        # Each place once, since the order of two writes is not settled.
        axis = 0 if row["axis"] is None else row["axis"]
        columns = [np.random.default_rng(i).permutation(x.shape[axis])[:2] for i in range(3)]
        places = np.stack(columns, axis=1 if axis == 0 else 0)
        updates = values(places.shape, row["dtype"], 137)
        attributes = {"axis": row["axis"], "reduction": row["reduction"]}
        yield form(
            op_type, [x, places.astype(np.int64), updates], different, constants=[1], attributes=attributes, opset=18
        )


@forms_of("ScatterND")
def scattered_slices(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        reduction=(None, "add", "mul", "max", "min"), depth=(1, 2), dtype=("float32", "int64"), alone=("dtype",)
    ):
        x = values((4, 5, 3), row["dtype"], 138)
        places = np.array([[0], [-1], [2]]) if row["depth"] == 1 else np.array([[0, 1], [-1, 4], [2, -3]])
        updates = values((3, *x.shape[row["depth"] :]), row["dtype"], 139)
        attributes = {"reduction": row["reduction"]}
        yield form(
            op_type, [x, places.astype(np.int64), updates], different, constants=[1], attributes=attributes, opset=18
        )


@forms_of("OneHot")
def one_hots(op_type: str) -> Iterator[Case]:
    for row, different in rows(axis=(None, 0, 1, -2), dtype=("float32", "int64"), alone=("dtype",)):
        inputs = [np.array([[0, 2, 4], [-1, 1, 3]], np.int64), ints(5), np.array([-1, 3], row["dtype"])]
        yield form(op_type, inputs, different, constants=[1, 2], attributes={"axis": row["axis"]})

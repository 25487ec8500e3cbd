"""Pooling, with windows that hang over every edge, and resizing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import form, forms_of, rows, values
from mace_core.testing.forms.convolution import SPATIAL, geometry, shown

KERNELS = {1: (3,), 2: (3, 4), 3: (3, 2, 3)}
"""Larger than every padding, as the operators demand."""


def _is_sensible(row: dict[str, Any]) -> bool:
    """``auto_pad`` stands in the place of pads and rounding; an order of indices without indices says nothing."""
    if row["auto_pad"] != "none" and (row["pads"] != "none" or row["dilations"] != "none" or row["ceil_mode"]):
        return False
    if row["sign"] == "negative" and row["dtype"] == "uint8":
        return False
    return not row.get("storage_order") or bool(row["indices"])


@forms_of("MaxPool", "AveragePool", "LpPool")
def pools(op_type: str) -> Iterator[Case]:
    own = {
        "MaxPool": {
            "indices": (False, True),
            "storage_order": (0, 1),
            "dtype": ("float32", "float16", "int8", "uint8"),
        },
        "AveragePool": {"count_include_pad": (0, 1), "dtype": ("float32", "float16", "float64")},
        "LpPool": {"p": (2, 1, 3), "dtype": ("float32",)},
    }[op_type]
    choices = rows(
        rank=(2, 1, 3),
        strides=("none", "strides", "other strides"),
        dilations=("none", "dilations", "other dilations"),
        pads=("none", "pads", "other pads"),
        auto_pad=("none", "SAME_UPPER", "SAME_LOWER", "VALID"),
        ceil_mode=(0, 1),
        sign=("both", "negative"),
        batch=(1, 3),
        **own,
        alone=("rank", "dtype"),
        allowed=_is_sensible,
    )
    for row, different in choices:
        rank = row["rank"]
        automatic = row["auto_pad"] != "none"
        x = values((row["batch"], 3, *SPATIAL[rank]), row["dtype"], 20)
        if row["sign"] == "negative":
            x = -np.abs(x) - np.ones((), x.dtype)
        attributes = {
            "kernel_shape": KERNELS[rank],
            "strides": geometry(row["strides"], rank),
            "dilations": geometry(row["dilations"], rank),
            "pads": geometry(row["pads"], rank),
            "auto_pad": row["auto_pad"] if automatic else None,
            "ceil_mode": row["ceil_mode"] or None,
            "count_include_pad": row.get("count_include_pad") or None,
            "storage_order": row.get("storage_order") or None,
            "p": row.get("p"),
        }
        outputs = 2 if row.get("indices") else 1
        yield form(op_type, [x], shown(row, different, rank), attributes=attributes, outputs=outputs)


@forms_of("MaxPool", "AveragePool")
def older_pools(op_type: str) -> Iterator[Case]:
    """As models of the years before wrote them."""
    for opset in (7, 8, 10, 11, 12):
        if op_type == "AveragePool" or opset != 7:
            attributes = {"kernel_shape": (3, 2), "strides": (1, 2), "pads": (1, 0, 0, 1)}
            yield form(op_type, [values((2, 3, 7, 8), seed=21)], {}, attributes=attributes, opset=opset)


@forms_of("MaxPool", "AveragePool")
def shapes_of_pools(op_type: str) -> Iterator[Case]:
    for shape, kernel in (
        ((1, 1, 1, 1), (1, 1)),
        ((2, 17, 1, 13), (1, 3)),
        ((1, 5, 13, 1), (13, 1)),
        ((0, 2, 4, 4), (2, 2)),
    ):
        traits = {"shape": list(shape), "kernel": list(kernel)}
        yield form(op_type, [values(shape, seed=22)], traits, attributes={"kernel_shape": kernel})


@forms_of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pools(op_type: str) -> Iterator[Case]:
    shapes = ((2, 3, 5, 7), (1, 1, 1, 1), (1, 17, 13), (2, 3, 2, 3, 5), (3, 2, 1, 31))
    for row, different in rows(shape=shapes, dtype=("float32", "float16"), sign=("both", "negative")):
        x = values(row["shape"], row["dtype"], 23)
        yield form(op_type, [-np.abs(x) - 1 if row["sign"] == "negative" else x], different)


def _is_settled(row: dict[str, Any]) -> bool:
    """Roundings are for nearest elements; lengths that scales give are rounded, and so corners do not align."""
    if row["coordinates"] == "align_corners" and row["by"] == "scales":
        return False
    return bool(row["mode"] == "nearest" or row["nearest"] == "round_prefer_floor")


@forms_of("Resize")
def resizes(op_type: str) -> Iterator[Case]:
    """By scales and by sizes, in every mode and at all coordinates but those that no two libraries agree upon."""
    choices = rows(
        mode=("nearest", "linear", "cubic"),
        coordinates=("half_pixel", "asymmetric", "align_corners"),
        nearest=("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        by=("sizes", "scales"),
        to=("larger", "smaller", "one axis", "whole factors"),
        batch=(1, 2),
        opset=(19, 13, 11, 18),
        alone=("opset", "batch"),
        allowed=_is_settled,
    )
    for row, different in choices:
        shape = (row["batch"], 2, 5, 6)
        target = {"larger": (9, 13), "smaller": (3, 4), "one axis": (5, 11), "whole factors": (10, 18)}[row["to"]]
        sizes = np.array([*shape[:2], *target], np.int64)
        scales = (sizes / np.array(shape)).astype(np.float32)
        x = values(shape, seed=24)
        none = np.zeros(0, np.float32) if row["opset"] < 13 else None
        # Before opset 13 the region and the scales had to be given, empty where they do not matter.
        inputs = [x, none, none, sizes] if row["by"] == "sizes" else [x, none, scales]
        if row["by"] == "scales" and row["to"] in ("larger", "smaller"):
            scales[2:] = (1.5, 2.5) if row["to"] == "larger" else (0.6, 0.5)
        attributes = {
            "mode": row["mode"],
            "coordinate_transformation_mode": row["coordinates"],
            "nearest_mode": row["nearest"] if row["mode"] == "nearest" else None,
        }
        traits = {name: value for name, value in different.items() if name != "opset"}
        yield form(op_type, inputs, traits, constants=[1, 2, 3], attributes=attributes, opset=row["opset"])


@forms_of("Resize")
def other_resizes(op_type: str) -> Iterator[Case]:
    x = values((1, 2, 7, 6), seed=25)
    for extra in (
        {"mode": "cubic", "cubic_coeff_a": -0.5},
        {"mode": "cubic", "exclude_outside": 1},
        {"mode": "linear", "antialias": 1},
    ):
        sizes = np.array([1, 2, 4, 5], np.int64)
        yield form(op_type, [x, None, None, sizes], extra, constants=[3], attributes=extra, opset=19)
    for axes in ([2, 3], [3], [3, 2]):
        scales = np.array([2.0] * len(axes), np.float32)
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "axes": axes}
        yield form(op_type, [x, None, scales], {"axes": axes}, constants=[2], attributes=attributes, opset=19)
    scales = np.array([1, 1, 2, 3], np.float32)
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for opset in (21, 11, 13):
        none = np.zeros(0, np.float32) if opset < 13 else None
        yield form(
            op_type, [x, none, scales], {"factors": [2, 3]}, constants=[1, 2], attributes=attributes, opset=opset
        )
    yield form(op_type, [x, scales], {}, constants=[1], attributes={"mode": "nearest"}, opset=10)

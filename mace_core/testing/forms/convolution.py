"""Convolutions: every geometry at values that differ between the axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import form, forms_of, rows, values

SPATIAL = {1: (11,), 2: (9, 11), 3: (5, 6, 7)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}
STRIDES = {1: (2,), 2: (2, 1), 3: (1, 2, 1)}
OTHER_STRIDES = {1: (3,), 2: (1, 3), 3: (3, 1, 2)}
DILATIONS = {1: (2,), 2: (2, 1), 3: (1, 1, 2)}
OTHER_DILATIONS = {1: (3,), 2: (1, 3), 3: (2, 1, 1)}
PADS = {1: (2, 0), 2: (1, 0, 0, 2), 3: (1, 0, 2, 0, 1, 0)}
OTHER_PADS = {1: (0, 1), 2: (0, 1, 2, 0), 3: (0, 1, 0, 2, 0, 1)}


def geometry(name: str, rank: int) -> tuple[int, ...] | None:
    """An attribute's value by its short name; None for "none"."""
    tables: dict[str, dict[int, tuple[int, ...]]] = {
        "strides": STRIDES,
        "other strides": OTHER_STRIDES,
        "dilations": DILATIONS,
        "other dilations": OTHER_DILATIONS,
        "pads": PADS,
        "other pads": OTHER_PADS,
    }
    return tables[name][rank] if name in tables else None


def shown(row: dict[str, Any], different: dict[str, Any], rank: int) -> dict[str, Any]:
    """The traits of a row with the attributes' values in the place of their short names."""
    return {name: list(geometry(str(v), rank) or ()) or v for name, v in different.items() if row[name] != "none"}


def _is_padded_once(row: dict[str, Any]) -> bool:
    """``auto_pad`` stands in the place of pads, and has no dilations to go with in some libraries."""
    return bool(row["auto_pad"] == "none" or (row["pads"] == "none" and row["dilations"] == "none"))


def _is_transposable(row: dict[str, Any]) -> bool:
    """Output padding is smaller than the strides, and ``auto_pad`` leaves no room for it."""
    if row["output_padding"] and (row["strides"] == "none" or row["auto_pad"] != "none"):
        return False
    if row["auto_pad"] != "none" and row["strides"] == "other strides":
        return False  # longer than the kernel, so that there would be less than nothing to pad
    return _is_padded_once(row)


@forms_of("Conv")
def convolutions(op_type: str) -> Iterator[Case]:
    choices = rows(
        rank=(2, 1, 3),
        strides=("none", "strides", "other strides"),
        dilations=("none", "dilations", "other dilations"),
        pads=("none", "pads", "other pads"),
        auto_pad=("none", "SAME_UPPER", "SAME_LOWER", "VALID"),
        groups=("one", "two", "depthwise"),
        bias=("none", "constant", "fed"),
        weights=("constant", "fed"),
        batch=(1, 3),
        dtype=("float32", "float16", "float64"),
        alone=("rank", "dtype"),
        allowed=_is_padded_once,
    )
    for row, different in choices:
        rank, dtype = row["rank"], row["dtype"]
        channels, filters, group = {"one": (3, 5, 1), "two": (4, 6, 2), "depthwise": (4, 8, 4)}[row["groups"]]
        x = values((row["batch"], channels, *SPATIAL[rank]), dtype, 1)
        w = values((filters, channels // group, *KERNELS[rank]), dtype, 2, -0.5, 0.5)
        b = None if row["bias"] == "none" else values((filters,), dtype, 3)
        constants = [place for place, key in ((1, "weights"), (2, "bias")) if row[key] == "constant"]
        yield form(
            op_type,
            [x, w] if b is None else [x, w, b],
            shown(row, different, rank),
            constants=constants,
            attributes={
                "strides": geometry(row["strides"], rank),
                "dilations": geometry(row["dilations"], rank),
                "pads": geometry(row["pads"], rank),
                "auto_pad": None if row["auto_pad"] == "none" else row["auto_pad"],
                "group": None if group == 1 else group,
            },
        )


@forms_of("Conv")
def shapes_of_convolutions(op_type: str) -> Iterator[Case]:
    """Sizes at which blocked kernels have remainders, and axes of one and zero."""
    for x, w, pads in (
        ((1, 1, 1, 1), (1, 1, 1, 1), None),
        ((1, 1, 1, 13), (1, 1, 1, 5), None),
        ((2, 17, 7, 5), (33, 17, 1, 1), None),
        ((1, 3, 1, 1), (2, 3, 3, 3), (1, 1, 1, 1)),
        ((1, 16, 13, 1), (31, 16, 3, 1), (1, 0, 1, 0)),
        ((1, 64, 5, 7), (24, 64, 3, 3), (1, 1, 1, 1)),
        ((1, 2, 29, 31), (3, 2, 7, 5), (3, 2, 3, 2)),
        ((0, 3, 5, 5), (2, 3, 3, 3), None),
    ):
        traits = {"shape": list(x), "kernel": list(w)}
        inputs = [values(x, seed=4), values(w, seed=5, low=-0.3, high=0.3)]
        yield form(op_type, inputs, traits, constants=[1], attributes={"pads": pads, "kernel_shape": w[2:]})


@forms_of("ConvTranspose")
def transposed_convolutions(op_type: str) -> Iterator[Case]:
    choices = rows(
        rank=(2, 1, 3),
        strides=("none", "strides", "other strides"),
        dilations=("none", "dilations", "other dilations"),
        pads=("none", "pads", "other pads"),
        auto_pad=("none", "SAME_UPPER", "SAME_LOWER"),
        output_padding=(False, True),
        groups=("one", "two"),
        bias=("none", "constant"),
        weights=("constant", "fed"),
        batch=(1, 2),
        dtype=("float32", "float16"),
        alone=("rank", "dtype"),
        allowed=_is_transposable,
    )
    for row, different in choices:
        rank, dtype = row["rank"], row["dtype"]
        automatic = row["auto_pad"] != "none"
        group = 2 if row["groups"] == "two" else 1
        x = values((row["batch"], 4, *(size // 2 + 1 for size in SPATIAL[rank])), dtype, 6)
        w = values((4, 6 // group, *KERNELS[rank]), dtype, 7, -0.5, 0.5)
        b = None if row["bias"] == "none" else values((6,), dtype, 8)
        strides = geometry(row["strides"], rank)
        padding = [stride - 1 for stride in strides] if row["output_padding"] and strides else None
        yield form(
            op_type,
            [x, w] if b is None else [x, w, b],
            shown(row, different, rank),
            constants=[*([1] if row["weights"] == "constant" else []), 2],
            attributes={
                "strides": strides,
                "dilations": geometry(row["dilations"], rank),
                "pads": geometry(row["pads"], rank),
                "auto_pad": row["auto_pad"] if automatic else None,
                "output_padding": padding,
                "group": None if group == 1 else group,
            },
        )


@forms_of("QLinearConv", "ConvInteger")
def whole_convolutions(op_type: str) -> Iterator[Case]:
    """Convolutions of quantized numbers, with zero points that are not zero and scales per channel."""
    choices = rows(
        x=("uint8", "int8"),
        w=("uint8", "int8"),
        strides=("none", "strides", "other strides"),
        pads=("none", "pads", "other pads"),
        dilations=("none", "dilations"),
        groups=("one", "two"),
        scales=("tensor", "channel"),
        bias=("none", "constant"),
        alone=("x", "w"),
    )
    for row, different in choices:
        group = 2 if row["groups"] == "two" else 1
        x = values((2, 4, 7, 6), row["x"], 9)
        w = values((6, 4 // group, 3, 2), row["w"], 10)
        zero = np.array(7 if row["x"] == "uint8" else -3, row["x"])
        per_channel = row["scales"] == "channel"
        weight_zero = np.array(11 if row["w"] == "uint8" else 0, row["w"])
        attributes = {
            "strides": geometry(row["strides"], 2),
            "dilations": geometry(row["dilations"], 2),
            "pads": geometry(row["pads"], 2),
            "group": None if group == 1 else group,
        }
        traits = shown(row, different, 2)
        if op_type == "ConvInteger":
            if per_channel or row["bias"] != "none":
                continue
            yield form(op_type, [x, w, zero, weight_zero], traits, constants=[1, 2, 3], attributes=attributes)
            continue
        steps = np.linspace(0.01, 0.03, 6, dtype=np.float32) if per_channel else np.array(0.02, np.float32)
        if per_channel:
            weight_zero = np.full(6, weight_zero)
        bias = [] if row["bias"] == "none" else [values((6,), "int32", 11)]
        scale, result = np.array(0.05, np.float32), np.array(1.5, np.float32)
        inputs = [x, scale, zero, w, steps, weight_zero, result, np.array(3, row["x"]), *bias]
        yield form(op_type, inputs, traits, constants=range(1, 9), attributes=attributes)

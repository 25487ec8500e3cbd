"""Normalization: over the batch's statistics, over instances, groups, layers and channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import form, forms_of, rows, values

IMAGES = ((2, 5, 4, 3), (3, 5), (1, 1, 1, 1), (2, 7, 13), (1, 4, 2, 3, 5), (1, 17, 1, 5))


@forms_of("BatchNormalization")
def batch_normalizations(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        shape=IMAGES,
        epsilon=(None, 0.25, 1e-3),
        statistics=("constant", "fed"),
        opset=(21, 9, 14),
        dtype=("float32", "float16"),
        alone=("dtype", "opset"),
    ):
        channels = row["shape"][1]
        numbers = [values((channels,), row["dtype"], 70 + place) for place in range(3)]
        variance = values((channels,), row["dtype"], 73, 0.125, 2.0)
        inputs = [values(row["shape"], row["dtype"], 74), *numbers, variance]
        traits = {name: value for name, value in different.items() if name != "opset"}
        constants = [1, 2, 3, 4] if row["statistics"] == "constant" else []
        yield form(
            op_type, inputs, traits, constants=constants, attributes={"epsilon": row["epsilon"]}, opset=row["opset"]
        )


@forms_of("InstanceNormalization", "GroupNormalization")
def instance_normalizations(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        shape=((2, 6, 4, 3), (1, 6, 13), (3, 6, 2, 3, 5), (1, 12, 1, 7)),
        epsilon=(None, 0.25),
        groups=(2, 3, 1, 6) if op_type == "GroupNormalization" else (None,),
        offset=(0.0, 50.0),
    ):
        channels = row["shape"][1]
        x = values(row["shape"], seed=75) + np.float32(row["offset"])
        inputs = [x, values((channels,), seed=76), values((channels,), seed=77)]
        attributes = {"epsilon": row["epsilon"], "num_groups": row["groups"]}
        precise = row["offset"] > 0
        yield form(op_type, inputs, different, constants=[1, 2], attributes=attributes, needs_precision=precise)


@forms_of("LayerNormalization")
def layer_normalizations(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        shape=((2, 5, 8), (3, 33), (1, 1, 7), (2, 3, 4, 5)),
        axis=(None, -1, 1, -2),
        epsilon=(None, 0.25),
        bias=(True, False),
        offset=(0.0, 200.0),
    ):
        shape, axis = row["shape"], -1 if row["axis"] is None else row["axis"]
        normal = shape[axis:]
        inputs = [values(shape, seed=78) + np.float32(row["offset"]), values(normal, seed=79)]
        if row["bias"]:
            inputs.append(values(normal, seed=80))
        attributes = {"axis": row["axis"], "epsilon": row["epsilon"]}
        precise = row["offset"] > 0
        yield form(op_type, inputs, different, constants=[1, 2], attributes=attributes, needs_precision=precise)


@forms_of("LpNormalization")
def lp_normalizations(op_type: str) -> Iterator[Case]:
    for row, different in rows(axis=(None, 0, 1, -2), p=(None, 1, 2), shape=((3, 5, 7), (2, 13, 1))):
        yield form(op_type, [values(row["shape"], seed=81)], different, attributes={"axis": row["axis"], "p": row["p"]})


@forms_of("MeanVarianceNormalization")
def mean_variance_normalizations(op_type: str) -> Iterator[Case]:
    for axes in (None, (0, 2, 3), (0, 1, 2, 3)):
        traits: dict[str, object] = {} if axes is None else {"axes": list(axes)}
        yield form(op_type, [values((2, 3, 5, 4), seed=82)], traits, attributes={"axes": axes})


@forms_of("LRN")
def local_response_normalizations(op_type: str) -> Iterator[Case]:
    for row, different in rows(size=(3, 1, 5), alpha=(None, 0.5), beta=(None, 0.5), bias=(None, 2.0), channels=(7, 1)):
        x = values((2, row["channels"], 3, 5), seed=83)
        yield form(op_type, [x], different, attributes={name: row[name] for name in ("size", "alpha", "beta", "bias")})

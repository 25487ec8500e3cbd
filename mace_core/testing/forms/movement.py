"""Operators that move elements and change shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import form, forms_of, ints, rows, values

TYPES = ("float32", "float16", "int64", "uint8", "bool")


@forms_of("Reshape")
def reshapes(op_type: str) -> Iterator[Case]:
    """0 keeps a dimension, unless allowzero says that it is one of no elements; -1 is what is left."""
    targets = ((2, 3, 20), (2, -1, 5), (0, -1), (0, 0, 20), (-1,), (6, 1, 20), (0, 3, -1, 5), (1, 2, 3, 4, 5))
    for row, different in rows(target=targets, dtype=TYPES, alone=("dtype",)):
        yield form(op_type, [values((2, 3, 4, 5), row["dtype"], 100), ints(*row["target"])], different, constants=[1])
    for target, shape in (((0, 7), (3, 0)), ((3, 0, 5), (0, 2))):
        traits = {"allowzero": 1, "target": list(target)}
        yield form(op_type, [values(shape), ints(*target)], traits, constants=[1], attributes={"allowzero": 1})


@forms_of("Flatten")
def flattenings(op_type: str) -> Iterator[Case]:
    for axis in (None, 0, 2, 4, -1, -3):
        traits: dict[str, Any] = {} if axis is None else {"axis": axis}
        yield form(op_type, [values((2, 3, 4, 5), seed=101)], traits, attributes={"axis": axis})
    for shape in ((7,), (1, 3), (0, 2, 3)):
        yield form(op_type, [values(shape, seed=101)], {"shape": list(shape)})


@forms_of("Transpose")
def transposes(op_type: str) -> Iterator[Case]:
    perms = (None, (0, 2, 3, 1), (0, 3, 1, 2), (1, 0, 2, 3), (3, 1, 0, 2), (0, 1, 3, 2), (0, 1, 2, 3))
    for row, different in rows(
        perm=perms, shape=((2, 3, 4, 5), (1, 7, 1, 13), (0, 2, 3, 1)), dtype=TYPES, alone=("dtype",)
    ):
        yield form(op_type, [values(row["shape"], row["dtype"], 102)], different, attributes={"perm": row["perm"]})
    for shape, perm in (
        ((3, 5), (1, 0)),
        ((17, 33), None),
        ((7,), None),
        ((2, 3, 4), (2, 0, 1)),
        ((2, 3, 2, 3, 2), (4, 2, 0, 1, 3)),
    ):
        traits = {"shape": list(shape), "perm": perm}
        yield form(op_type, [values(shape, seed=103)], traits, attributes={"perm": perm})


@forms_of("Concat")
def concatenations(op_type: str) -> Iterator[Case]:
    """Operands of different lengths along each axis, some constant, some empty."""
    for row, different in rows(
        axis=(1, 0, -1, -2, 2),
        lengths=((2, 3), (1, 4, 2), (3,), (1, 1, 1, 1, 1), (2, 0, 3)),
        dtype=TYPES,
        constant=(None, 0, 1),
    ):
        inputs = []
        for place, length in enumerate(row["lengths"]):
            shape = [2, 3, 4]
            shape[row["axis"]] = length
            inputs.append(values(shape, row["dtype"], 104 + place))
        if row["constant"] is not None and row["constant"] >= len(inputs):
            continue
        constants = [] if row["constant"] is None or len(inputs) == 1 else [row["constant"]]
        yield form(op_type, inputs, different, constants=constants, attributes={"axis": row["axis"]})


@forms_of("Split")
def splits(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        axis=(None, 1, -1, 2), parts=("equal", "uneven"), opset=(21, 11, 13), dtype=TYPES[:3], alone=("dtype",)
    ):
        x = values((6, 4, 8), row["dtype"], 110)
        length = x.shape[0 if row["axis"] is None else row["axis"]]
        lengths = [length // 2] * 2 if row["parts"] == "equal" else [1, length - 1]
        inputs, attributes = [x], {"axis": row["axis"]}
        if row["opset"] < 13:
            attributes["split"] = tuple(lengths)
        else:
            inputs.append(ints(*lengths))
        traits = {name: value for name, value in different.items() if name != "opset"}
        yield form(op_type, inputs, traits, constants=[1], attributes=attributes, outputs=2, opset=row["opset"])
    for count in (2, 3, 4):
        attributes = {"axis": 1, "num_outputs": count}
        yield form(op_type, [values((2, 7, 3), seed=111)], {"num_outputs": count}, attributes=attributes, outputs=count)


@forms_of("Slice")
def slices(op_type: str) -> Iterator[Case]:
    """Ends beyond the last element, counted from the end, steps of both signs, axes in any order."""
    cuts: tuple[tuple[tuple[int, ...], ...], ...] = (
        ((1,), (3,), (1,), (1,)),
        ((0, 1), (2, 4), (0, 2), (1, 1)),
        ((-3,), (-1,), (2,), (1,)),
        ((0,), (2**31 - 1,), (1,), (2,)),
        ((-1,), (-(2**31),), (2,), (-1,)),
        ((4, 0), (0, 3), (2, 1), (-2, 1)),
        ((1,), (9,), (-1,), (3,)),
        ((2,), (2,), (1,), (1,)),
    )
    for row, different in rows(cut=cuts, dtype=TYPES, opset=(21, 10, 9)):
        starts, ends, axes, steps = row["cut"]
        x = values((3, 4, 5), row["dtype"], 112)
        traits = {name: value for name, value in different.items() if name != "opset"}
        if row["opset"] < 10:
            if any(step != 1 for step in steps):
                continue
            attributes = {"starts": starts, "ends": ends, "axes": axes}
            yield form(op_type, [x], traits, attributes=attributes, opset=9)
            continue
        inputs = [x, *(ints(*part) for part in row["cut"])]
        yield form(op_type, inputs, traits, constants=range(1, 5), opset=row["opset"])
    x = values((3, 4), seed=113)
    yield form(op_type, [x, ints(1), ints(3)], {"axes": "left out"}, constants=[1, 2])
    yield form(op_type, [x, ints(0, 1), ints(3, 4), None, ints(2, 1)], {"axes": "skipped"}, constants=range(1, 5))


def _is_paddable(row: dict[str, Any]) -> bool:
    """A value belongs to one mode, and each mode and the axes came with an opset of their own."""
    if row["opset"] < {"wrap": 19}.get(row["mode"], 18 if row["axes"] != "left out" else 0):
        return False
    if row["mode"] != "constant" and (row["value"] != "left out" or min(row["pads"]) < 0):
        return False
    if row["mode"] == "reflect" and row["pads"] == (1, 0, 0, 0, 0, 2, 0, 0):
        return False  # more than there is to reflect along the first axis
    return bool(row["opset"] > 11 or row["dtype"] == "float32")


@forms_of("Pad")
def paddings(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        mode=("constant", "reflect", "edge", "wrap"),
        pads=((0, 0, 1, 2, 0, 0, 2, 1), (0, 1, 0, 2, 0, 0, 3, 0), (1, 0, 0, 0, 0, 2, 0, 0), (0, 0, -1, 2, 0, 0, 1, -1)),
        value=("left out", 1.5),
        axes=("left out", (2, 3), (3, -2)),
        opset=(21, 11, 2, 18),
        dtype=("float32", "float16", "int32"),
        alone=("dtype",),
        allowed=_is_paddable,
    ):
        x = values((3, 4, 5, 6), row["dtype"], 114)
        pads = row["pads"] if row["axes"] == "left out" else (1, 2, 2, 0)
        traits = {name: value for name, value in different.items() if name != "opset"}
        mode = None if row["mode"] == "constant" else row["mode"]
        if row["opset"] < 11:
            attributes = {"mode": mode, "pads": pads, "value": None if row["value"] == "left out" else 1.5}
            yield form(op_type, [x], traits, attributes=attributes, opset=row["opset"])
            continue
        inputs = [x, ints(*pads), None if row["value"] == "left out" else np.array(1.5).astype(x.dtype)]
        if row["axes"] != "left out":
            inputs.append(ints(*row["axes"]))
        elif inputs[-1] is None:
            inputs.pop()
        yield form(op_type, inputs, traits, constants=[1, 2, 3], attributes={"mode": mode}, opset=row["opset"])


@forms_of("Expand", "Tile")
def repetitions(op_type: str) -> Iterator[Case]:
    expands = (
        ((2, 3), (2, 3)),
        ((2, 1), (2, 5)),
        ((1, 3, 1), (2, 1, 4)),
        ((3,), (2, 3)),
        ((), (2, 2)),
        ((2, 1, 3), (1,)),
    )
    tiles = (
        ((2, 3), (1, 1)),
        ((2, 3), (2, 1)),
        ((2, 3, 1), (1, 2, 3)),
        ((5,), (3,)),
        ((1, 1, 1, 2), (2, 3, 1, 2)),
        ((2, 3), (0, 1)),
    )
    for row, different in rows(shapes=expands if op_type == "Expand" else tiles, dtype=TYPES, alone=("dtype",)):
        shape, times = row["shapes"]
        yield form(op_type, [values(shape, row["dtype"], 115), ints(*times)], different, constants=[1])


@forms_of("Squeeze", "Unsqueeze")
def ones(op_type: str) -> Iterator[Case]:
    shape = (1, 3, 1, 5, 1) if op_type == "Squeeze" else (3, 5)
    choices: tuple[Any, ...] = (
        ((0,), (2,), (-1,), (0, -1), (4, 2)) if op_type == "Squeeze" else ((0,), (1,), (-1,), (0, 2), (3, 1))
    )
    for row, different in rows(axes=choices, opset=(21, 11), dtype=TYPES[:3], alone=("dtype",)):
        x = values(shape, row["dtype"], 116)
        traits = {name: value for name, value in different.items() if name != "opset"}
        if row["opset"] < 13:
            yield form(op_type, [x], traits, attributes={"axes": row["axes"]}, opset=row["opset"])
        else:
            yield form(op_type, [x, ints(*row["axes"])], traits, constants=[1], opset=row["opset"])
    if op_type == "Squeeze":
        yield form(op_type, [values(shape, seed=117)], {"axes": "left out"})


@forms_of("DepthToSpace", "SpaceToDepth")
def blocks(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        blocksize=(2, 3), mode=(None, "CRD"), batch=(1, 2), dtype=("float32", "float16"), alone=("dtype",)
    ):
        if op_type == "SpaceToDepth" and row["mode"]:
            continue
        size = row["blocksize"]
        shape = (
            (row["batch"], 2 * size**2, 2, 5) if op_type == "DepthToSpace" else (row["batch"], 3, 2 * size, 3 * size)
        )
        attributes = {"blocksize": size, "mode": row["mode"]}
        yield form(op_type, [values(shape, row["dtype"], 118)], different, attributes=attributes)


@forms_of("Trilu")
def triangles(op_type: str) -> Iterator[Case]:
    for row, different in rows(
        upper=(None, 0), k=(None, 1, -2, 9), shape=((4, 5), (2, 5, 3)), dtype=("float32", "int64")
    ):
        inputs = [values(row["shape"], row["dtype"], 119)]
        if row["k"] is not None:
            inputs.append(np.array(row["k"], np.int64))
        yield form(op_type, inputs, different, constants=[1], attributes={"upper": row["upper"]})


@forms_of("Shape", "Size")
def sizes(op_type: str) -> Iterator[Case]:
    for shape in ((2, 3, 5), (), (0, 3)):
        yield form(op_type, [values(shape, seed=120)], {"shape": list(shape)})
    if op_type == "Shape":
        for start, end in ((1, None), (None, -1), (-2, 9), (1, 2)):
            traits = {"start": start, "end": end}
            yield form(op_type, [values((2, 3, 5), seed=121)], traits, attributes=traits)

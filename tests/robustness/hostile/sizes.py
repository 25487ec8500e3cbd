"""Small files that ask for enormous results, and parameters at the ends of the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from hostile.bases import BOOL, F32, I64, model_of, value
from hostile.case import Case, of_model

node = helper.make_node

_LARGE = (10**9, 2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**63))


def size_cases() -> Iterator[Case]:
    """All families of this module."""
    yield from _made_large()
    yield from _chains()
    yield from _loops()
    yield from _parameters()


def _one(op: str, name: str, constants: dict[str, Any], family: str, **attributes: Any) -> Iterator[Case]:
    """``y = op(x, constants…)`` with the constants in the file, and once more where they are only known at run time."""
    operands = [*([] if op in ("ConstantOfShape", "Range") else ["x"]), *constants]
    arrays: dict[str, object] = {key: np.asarray(item) for key, item in constants.items()}
    made = node(op, operands, ["y"], name="n", **attributes)
    yield of_model(family, f"{op} {name}", model_of([made], [value("x", F32, [2, 2])], [value("y")], arrays))
    hidden = [made]
    late = {}
    for key, item in arrays.items():  # behind a sum with what the run gives, so that nothing is known before it
        array = np.asarray(item)
        if array.dtype != np.int64:
            late[key] = array
            continue
        late[f"{key}_low"] = array
        hidden = [node("Add", [f"{key}_low", "zero"], [key], name=f"late_{key}"), *hidden]
    first = node("NonZero", ["x"], ["places"])
    nothing = node("ReduceMax", ["places", "axes"], ["largest"], keepdims=0)
    zero = node("Sub", ["largest", "largest"], ["zero"])
    late["axes"] = np.array([0, 1])
    model = model_of([first, nothing, zero, *hidden], [value("x", F32, [2, 2])], [value("y")], late)
    yield of_model(family, f"{op} {name}, known at run time only", model)


def _made_large() -> Iterator[Case]:
    for size in _LARGE:
        yield from _one("ConstantOfShape", f"[{size}]", {"s": [size]}, "enormous results")
        yield from _one("Expand", f"[{size}, 2, 2]", {"s": [size, 2, 2]}, "enormous results")
        yield from _one("Tile", f"[{size}, 1]", {"s": [size, 1]}, "enormous results")
        yield from _one("Pad", f"by {size}", {"s": [size, 0, 0, 0]}, "enormous results")
        yield from _one("Pad", f"by {size} at the end", {"s": [0, 0, size, size]}, "enormous results", mode="edge")
        yield from _one("Range", f"to {size}", {"a": 0, "b": size, "c": 1}, "enormous results")
        resize = node("Resize", ["x", "", "", "s"], ["y"], name="n", mode="linear")
        model = model_of([resize], [value("x", F32, [2, 2])], [value("y")], {"s": np.array([size, 1])})
        yield of_model("enormous results", f"Resize to {size}", model)
        one_hot = node("OneHot", ["i", "d", "v"], ["y"], name="n")
        constants: dict[str, object] = {"i": np.array([1, 2]), "d": np.int64(size), "v": np.array([0, 1], np.float32)}
        model = model_of([one_hot], [value("x", F32, [2])], [value("y")], constants)
        yield of_model("enormous results", f"OneHot of {size}", model)
    for scale in (1e9, 1e30, float("nan"), float("inf"), -1.0, 0.0, 1e-30):
        resize = node("Resize", ["x", "", "s"], ["y"], name="n")
        model = model_of([resize], [value("x", F32, [2, 2])], [value("y")], {"s": np.array([scale, 1], np.float32)})
        yield of_model("enormous results", f"Resize by {scale}", model)
    for step in (0, 1e-30, float("nan"), -1):
        ranged = node("Range", ["a", "b", "c"], ["y"], name="n")
        constants = {"a": np.float32(0), "b": np.float32(1e9), "c": np.float32(step)}
        yield of_model("enormous results", f"Range by {step}", model_of([ranged], [], [value("y")], constants))
    outer = [node("Unsqueeze", ["x", "a"], ["c"]), node("Sub", ["x", "c"], ["y"], name="n")]
    constants = {"a": np.array([1])}
    model = model_of(outer, [value("x", F32, [200_000])], [value("y")], constants)
    yield of_model("enormous results", "an outer difference", model)
    product = node("MatMul", ["x", "w"], ["y"], name="n")
    model = model_of([product], [value("x", F32, [100_000, 1])], [value("y")], {"w": np.ones((1, 100_000), np.float32)})
    yield of_model("enormous results", "an outer product", model)
    for op, attributes in (("HannWindow", {}), ("BlackmanWindow", {"output_datatype": 11})):
        for size in (2**40, -5, 2**31):
            made = node(op, ["s"], ["y"], name="n", **attributes)
            yield of_model(
                "enormous results", f"{op} of {size}", model_of([made], [], [value("y", 0)], {"s": np.int64(size)})
            )
    for op in ("RandomNormal", "RandomUniform"):
        for shape in ([2**40], [2**32, 2**32], [-1], [10**6, 10**6]):
            yield of_model(
                "enormous results",
                f"{op} {shape}",
                model_of([node(op, [], ["y"], name="n", shape=shape)], [], [value("y")]),
            )


def _chains() -> Iterator[Case]:
    """Each node doubles what it is given."""
    for depth in (12, 26, 31, 45, 70):
        nodes = [node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], name=f"n{i}", axis=0) for i in range(depth)]
        for known in (True, False):
            constants: dict[str, object] = {"v0": np.ones(4, np.float32)} if known else {}
            inputs = [] if known else [value("v0", F32, [4])]
            model = model_of(nodes, inputs, [value(f"v{depth}")], constants)
            yield of_model("doubling chains", f"Concat {depth} times, {'constant' if known else 'fed'}", model)
        tiles = [node("Tile", [f"v{i}", "r"], [f"v{i + 1}"], name=f"n{i}") for i in range(depth)]
        model = model_of(tiles, [], [value(f"v{depth}")], {"v0": np.ones(4, np.float32), "r": np.array([2])})
        yield of_model("doubling chains", f"Tile {depth} times", model)
        rolled = [node("Add", [f"v{i}", f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(depth * 40)]
        model = model_of(rolled, [value("v0", F32, [4])], [value(f"v{depth * 40}")])
        yield of_model("doubling chains", f"Add {depth * 40} times", model)
    text = [node("StringConcat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(40)]
    model = model_of(text, [], [value("v40", TensorProto.STRING)], {"v0": np.array(["abcd"], object)})
    yield of_model("doubling chains", "StringConcat 40 times", model)
    squares = [node("Mul", [f"v{i}", f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(50)]
    grown = [*squares, node("ConstantOfShape", ["v50"], ["y"], name="n")]
    yield of_model(
        "doubling chains", "a size squared 50 times", model_of(grown, [], [value("y")], {"v0": np.array([3])})
    )
    parts = [node("SequenceConstruct", ["x"] * 1000, ["s0"])]
    parts += [node("ConcatFromSequence", ["s0"], ["y"], name="n", axis=0)]
    yield of_model("doubling chains", "a sequence of a thousand", model_of(parts, [value("x", F32, [9])], [value("y")]))


def _loops() -> Iterator[Case]:
    def looped(trips: int, grows: bool, scans: bool) -> Case:
        step = node("Concat", ["v", "v"], ["w"], axis=0) if grows else node("Identity", ["v"], ["w"])
        outputs = [value("go_out", BOOL, []), value("w"), *([value("scanned")] if scans else [])]
        nodes = [node("Identity", ["go"], ["go_out"]), step, *([node("Identity", ["v"], ["scanned"])] if scans else [])]
        body = helper.make_graph(nodes, "body", [value("t", I64, []), value("go", BOOL, []), value("v")], outputs)
        loop = node("Loop", ["trips", "", "x"], ["y", *(["z"] if scans else [])], name="loop", body=body)
        results = [value("y"), *([value("z")] if scans else [])]
        model = model_of([loop], [value("x", F32, [2])], results, {"trips": np.int64(trips)})
        how = "doubling" if grows else "collecting" if scans else "doing nothing"
        return of_model("loops", f"{trips} turns {how}", model)

    for trips in (0, -1, 3, -(2**63)):
        yield looped(trips, grows=False, scans=False)
    for trips in (2**31, 2**62, 2**63 - 1):
        yield looped(trips, grows=False, scans=False)
        yield looped(trips, grows=False, scans=True)
    for trips in (40, 2**31, 2**63 - 1):
        yield looped(trips, grows=True, scans=False)
    yield looped(70, grows=True, scans=True)


def _parameters() -> Iterator[Case]:
    ends = (2**31, 2**62, 2**63 - 1, -(2**63), -1, 0, 3)
    for number in ends:
        yield from _one("Reshape", f"[{number}, 1]", {"s": [number, 1]}, "parameters")
        yield from _one("Gather", f"at {number}", {"i": [number]}, "parameters", axis=0)
        yield from _one("Slice", f"from {number}", {"a": [number], "b": [5], "c": [0]}, "parameters")
        yield from _one("Slice", f"to {number}", {"a": [0], "b": [number], "c": [0]}, "parameters")
        yield from _one("Slice", f"by {number}", {"a": [0], "b": [2], "c": [0], "d": [number]}, "parameters")
        yield from _one("Slice", f"on axis {number}", {"a": [0], "b": [2], "c": [number]}, "parameters")
        yield from _one("Unsqueeze", f"at {number}", {"a": [number]}, "parameters")
        yield from _one("Squeeze", f"at {number}", {"a": [number]}, "parameters")
        yield from _one("ReduceSum", f"over {number}", {"a": [number]}, "parameters")
        yield from _one("CumSum", f"along {number}", {"a": number}, "parameters")
        yield from _one("Split", f"by {number}", {"s": [number]}, "parameters")
        yield from _one("GatherND", f"at {number}", {"i": [[number]]}, "parameters")
        yield from _one("TopK", f"of {number}", {"k": [number]}, "parameters")
        yield from _one("ScatterND", f"at {number}", {"i": [[number]], "u": np.ones((1, 2), np.float32)}, "parameters")
        yield from _one(
            "ScatterElements", f"at {number}", {"i": [[number]], "u": np.ones((1, 1), np.float32)}, "parameters"
        )
        yield from _one("GatherElements", f"at {number}", {"i": [[number]]}, "parameters")
        yield from _one("Trilu", f"from {number}", {"k": number}, "parameters")
    for shape in ([2**32, 2**32], [-1, -1], [0, 0], [2**33, 2**31, -1], [], [1] * 100):
        yield from _one("Reshape", str(shape)[:40], {"s": np.array(shape, np.int64)}, "parameters")

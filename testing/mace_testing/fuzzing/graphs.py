"""Random small graphs, and every way to cut them over several devices.

Chains, diamonds, nodes of several outputs, shared weights and reused constants, views, results of unknown shape and
branches.  However the nodes are spread over devices, the results must be those of onnx.reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mace_core.errors import MaceError
from mace_core.session import Session
from mace_testing.fuzzing.case import Array
from mace_testing.fuzzing.judges import ask_reference
from mace_testing.fuzzing.source import DrawFunction, Source
from mace_testing.fuzzing.verdict import Outcome, Verdict, difference

GRAPH = "graph"
"""What a random graph is called where operators are listed."""

OPSET = 21
TOLERANCE = 1e-4
UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Erf", "Softsign", "Identity")
BINARY = ("Add", "Sub", "Max", "Min", "Mul")
INPUT_SHAPES = ((2, 8), (3, 4, 4), (1, 4, 6, 6), (2, 3, 1, 5), (7,))
ASSIGNMENTS = 3
"""How many ways to spread the nodes are tried per graph, besides one device for all."""


@dataclass(frozen=True, eq=False)
class GraphCase:
    """A model, what to feed it, and random numbers that say which node goes where."""

    proto: onnx.ModelProto
    feeds: dict[str, Array]
    dice: tuple[tuple[int, ...], ...]

    op = GRAPH

    def model(self) -> onnx.ModelProto:
        return self.proto

    @property
    def nodes(self) -> list[str]:
        return [node.name for node in self.proto.graph.node]

    def __repr__(self) -> str:
        return f"graph({', '.join(node.op_type for node in self.proto.graph.node)})"


@dataclass
class _Sketch:
    """A graph in the making; ``shapes``: of every float32 value whose shape is known."""

    source: Source
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dynamic: list[str] = field(default_factory=list)
    products: int = 0

    def value(self) -> str:
        return self.source.pick(list(self.shapes)[::-1])

    def add(self, op: str, inputs: Sequence[str], shapes: Sequence[tuple[int, ...]], **attributes: Any) -> list[str]:
        name = f"{op.lower()}_{len(self.nodes)}"
        outputs = [f"{name}_y{i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        self.shapes.update(zip(outputs, shapes, strict=True))
        return outputs

    def constant(self, shape: tuple[int, ...], low: float = -1, high: float = 1) -> str:
        """A weight; one of the same shape is shared every second time."""
        same = [name for name, array in self.constants.items() if array.shape == shape and array.dtype == np.float32]
        if same and self.source.flag():
            return self.source.pick(same)
        return self.fixed(self.source.array(shape, np.float32, low, high, 0.125))

    def fixed(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name


def _unary(sketch: _Sketch) -> None:
    value = sketch.value()
    sketch.add(sketch.source.pick(UNARY), [value], [sketch.shapes[value]])


def _binary(sketch: _Sketch) -> None:
    source = sketch.source
    op = source.pick(BINARY)
    if op == "Mul":
        # more would leave the range of float32
        sketch.products += 1
        op = "Mul" if sketch.products < 3 else "Add"
    left = sketch.value()
    shape = sketch.shapes[left]
    others = [name for name, other in sketch.shapes.items() if other == shape]
    right = source.pick(others) if source.flag() else sketch.constant(source.broadcast(shape))
    sketch.add(op, [left, right] if source.flag() else [right, left], [shape])


def _product(sketch: _Sketch) -> None:
    value = sketch.value()
    shape = sketch.shapes[value]
    if shape:
        width = shape[-1] if sketch.source.flag() else sketch.source.dim(1, 9)
        sketch.add("MatMul", [value, sketch.constant((shape[-1], width), -0.5, 0.5)], [(*shape[:-1], width)])


def _convolution(sketch: _Sketch) -> None:
    pictures = [name for name, shape in sketch.shapes.items() if len(shape) == 4 and min(shape[2:]) >= 3]
    if not pictures:
        return
    value = sketch.source.pick(pictures)
    n, c, h, w = sketch.shapes[value]
    if sketch.source.flag():
        filters = sketch.source.pick([c, 3, 16])
        weights = sketch.constant((filters, c, 3, 3), -0.25, 0.25)
        sketch.add("Conv", [value, weights], [(n, filters, h, w)], pads=[1, 1, 1, 1])
    else:
        sketch.add("MaxPool", [value], [(n, c, h - 1, w - 1)], kernel_shape=[2, 2])


def _view(sketch: _Sketch) -> None:
    """The same memory under another shape."""
    value = sketch.value()
    shape = sketch.shapes[value]
    match sketch.source.integer(0, 2):
        case 0:
            flat = sketch.fixed(np.array([-1], np.int64))
            sketch.add("Reshape", [value, flat], [(math.prod(shape),)])
        case 1:
            sketch.add("Unsqueeze", [value, sketch.fixed(np.array([0], np.int64))], [(1, *shape)])
        case _:
            if shape:
                sketch.add("Flatten", [value], [(shape[0], math.prod(shape[1:]))])


def _split(sketch: _Sketch) -> None:
    value = sketch.value()
    shape = sketch.shapes[value]
    if shape and shape[-1] >= 2:
        first = sketch.source.integer(1, shape[-1] - 1)
        sizes = sketch.fixed(np.array([first, shape[-1] - first], np.int64))
        parts = [(*shape[:-1], first), (*shape[:-1], shape[-1] - first)]
        sketch.add("Split", [value, sizes], parts, axis=-1)


def _concat(sketch: _Sketch) -> None:
    value = sketch.value()
    shape = sketch.shapes[value]
    others = [name for name, other in sketch.shapes.items() if other[:-1] == shape[:-1] and len(other) == len(shape)]
    if shape:
        other = sketch.source.pick(others)
        sketch.add("Concat", [value, other], [(*shape[:-1], shape[-1] + sketch.shapes[other][-1])], axis=-1)


def _rows(sketch: _Sketch) -> None:
    value = sketch.value()
    shape = sketch.shapes[value]
    if not shape:
        return
    match sketch.source.integer(0, 3):
        case 0:
            sketch.add("Softmax", [value], [shape], axis=-1)
        case 1:
            sketch.add("ReduceMean", [value, sketch.fixed(np.array([-1], np.int64))], [(*shape[:-1], 1)])
        case 2:
            weights = sketch.constant(shape[-1:], 0.5, 1)
            sketch.add("LayerNormalization", [value, weights], [shape], axis=-1, epsilon=0.1)
        case _:
            sketch.add("Transpose", [value], [shape[::-1]])


def _unknown(sketch: _Sketch) -> None:
    """A result whose shape depends on the data (of the input, so that rounding decides nothing), and its reader."""
    name = f"rows_{len(sketch.nodes)}"
    nodes = [
        helper.make_node(
            "Greater", ["x", sketch.fixed(np.array(0.25, np.float32))], [f"{name}_m"], name=f"{name}/mask"
        ),
        helper.make_node(
            "Compress", [sketch.fixed(np.arange(3, dtype=np.float32)), f"{name}_c"], [f"{name}_y"], name=f"{name}/take"
        ),
    ]
    flat = sketch.fixed(np.array([-1], np.int64))
    nodes.insert(1, helper.make_node("Reshape", [f"{name}_m", flat], [f"{name}_f"], name=f"{name}/flat"))
    first = sketch.fixed(np.array([0], np.int64)), sketch.fixed(np.array([3], np.int64))
    nodes.insert(2, helper.make_node("Slice", [f"{name}_f", *first], [f"{name}_c"], name=f"{name}/first"))
    nodes.append(helper.make_node("Neg", [f"{name}_y"], [f"{name}_n"], name=f"{name}/negate"))
    sketch.nodes += nodes
    sketch.dynamic.append(f"{name}_n")


def _branch(sketch: _Sketch) -> None:
    """If, whose branches read what lies outside; often one that only the run decides."""
    source = sketch.source
    value = sketch.value()
    shape = sketch.shapes[value]
    name = f"if_{len(sketch.nodes)}"

    def body(kind: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, [value], [f"{name}_{kind}"], name=f"{name}/{kind}")
        again = helper.make_node("Add", [f"{name}_{kind}", value], [f"{name}_{kind}_s"], name=f"{name}/{kind}_sum")
        info = helper.make_tensor_value_info(f"{name}_{kind}_s", TensorProto.FLOAT, shape)
        return helper.make_graph([node, again], kind, [], [info])

    bodies = {"then_branch": body("then", source.pick(UNARY)), "else_branch": body("else", source.pick(UNARY))}
    condition = "condition"
    if not source.rarely(3):
        condition = f"{name}_c"
        half = sketch.fixed(np.array(0.5, np.float32))
        sketch.nodes += [
            helper.make_node("Cast", ["condition"], [f"{name}_n"], name=f"{name}/number", to=TensorProto.FLOAT),
            helper.make_node("Greater", [f"{name}_n", half], [condition], name=f"{name}/condition"),
        ]
    sketch.add("If", [condition], [shape], **bodies)


PIECES = (_unary, _binary, _unary, _binary, _product, _view, _split, _concat, _rows, _convolution, _branch, _unknown)


@st.composite
def graph_cases(draw: DrawFunction, *, largest: int = 9) -> GraphCase:
    """Graphs of up to ``largest`` pieces."""
    source = Source(draw)
    shape = source.pick(INPUT_SHAPES)
    sketch = _Sketch(source, shapes={"x": shape})
    for _ in range(source.integer(1, largest)):
        source.pick(PIECES)(sketch)
    if not sketch.nodes:
        _unary(sketch)
    read = {name for node in sketch.nodes for name in node.input}
    made = [name for name in sketch.shapes if name != "x"]
    # results that nobody reads, and now and then one that is read inside too
    outputs = [name for name in made if name not in read or source.rarely(4)] or made[-1:]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sketch.shapes[name]) for name in outputs]
    infos += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in sketch.dynamic]
    feeds = {"x": source.floats(shape, np.float32, -2, 2), "condition": np.array(source.flag())}
    declared: Sequence[int | str] = [f"d{i}" for i in range(len(shape))] if source.rarely(6) else shape
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, declared),
        helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph(
        sketch.nodes, "random", inputs, infos, [numpy_helper.from_array(a, n) for n, a in sketch.constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    dice = tuple(tuple(source.integer(0, 11) for _ in sketch.nodes) for _ in range(ASSIGNMENTS))
    return GraphCase(model, feeds, dice)


def decide_partitions(case: GraphCase, devices: Sequence[str]) -> Verdict:
    """Run the graph under many placements and compare each with onnx.reference.

    Args:
        devices: qualified names; each node goes only to devices that take it.
    """
    expected = dict(zip([o.name for o in case.proto.graph.output], ask_reference(case.proto, case.feeds), strict=True))
    for title, options in _placements(case, devices):
        try:
            with Session(case.proto, cache=False, **options) as session:
                # twice over the same memory: what the first run left must not show
                session.run(case.feeds)
                found = session.run(case.feeds)
        except MaceError as error:
            return Verdict(Outcome.WRONG, f"{title}: {' '.join(str(error).split())[:400]}", ("onnx.reference",))
        for name, array in expected.items():
            text = difference(np.asarray(found[name]), np.asarray(array), TOLERANCE)
            if text:
                return Verdict(Outcome.WRONG, f"{title}: {name}: {text}", ("onnx.reference",))
    return Verdict(Outcome.RIGHT)


def _placements(case: GraphCase, devices: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Titles and session options: each device first, with and without optimization, and the dice's assignments."""
    placements: list[tuple[str, dict[str, Any]]] = []
    takers: dict[str, set[str]] = {}
    for device in devices:
        for optimize in (True, False):
            placements.append((f"{device} first", {"devices": [device], "optimize": optimize}))
        with Session(case.proto, devices=[device], optimize=False, cache=False) as session:
            session.run(case.feeds)
            takers[device] = {entry.node for entry in session.explain().nodes if entry.device == device}
    for dice in case.dice:
        pins = {}
        for node, number in zip(case.nodes, dice, strict=True):
            able = [device for device in devices if node in takers[device]]
            if able:
                pins[node] = able[number % len(able)]
        title = ", ".join(f"{node} on {device}" for node, device in pins.items())
        placements.append((title, {"devices": list(devices), "pins": pins, "optimize": False}))
    return placements

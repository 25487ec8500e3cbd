"""Loops whose bodies are one subgraph, put together from a few kinds of values and drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from scheduler_models import BOOL, FLOAT, INT64, constant, model, op, tensor

WIDTH = 4


@dataclass
class LoopWriter:
    """A Loop over float rows: named carried values, scan outputs, and what is captured."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    carried: list[tuple[str, str, int, Sequence[int | str | None]]] = field(default_factory=list)
    scanned: list[str] = field(default_factory=list)
    captured: list[onnx.ValueInfoProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    going: str = ""

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(op(op_type, inputs, [name], **attributes))
        return name

    def number(self, value: Any, dtype: Any = np.int64) -> str:
        self.constants.append(constant(f"k{len(self.constants)}", np.asarray(value, dtype)))
        return self.constants[-1].name

    def carry(
        self, name: str, result: str, dtype: int = FLOAT, shape: Sequence[int | str | None] = (None, WIDTH)
    ) -> None:
        """``name`` is what ``result`` was in the turn before; outside, the first one is ``name_0``."""
        self.carried.append((name, result, dtype, shape))

    def row(self, source: str, first: str, count: int = 1) -> str:
        """Rows of ``source`` from a scalar on."""
        start = self.node("Unsqueeze", first, self.number([0]))
        return self.node("Slice", source, start, self.node("Add", start, self.number([count])), self.number([0]))

    def model(self, *, opset: int = 17) -> onnx.ModelProto:
        """Inputs ``m``, ``go``, the captured ones and ``name_0``; outputs ``name_last`` and ``scan_n``."""
        nodes = list(self.nodes)
        nodes.append(op("Identity", [self.going or "c"], ["d"]))
        results = [tensor("d", [], BOOL)]
        for name, result, dtype, shape in self.carried:
            nodes.append(op("Identity", [result], [f"{name}_next"]))
            results.append(tensor(f"{name}_next", shape, dtype))
        for index, name in enumerate(self.scanned):
            nodes.append(op("Identity", [name], [f"item_{index}"]))
            results.append(tensor(f"item_{index}", None, INT64 if name == "i" else FLOAT))
        inputs = [tensor("i", [], INT64), tensor("c", [], BOOL)]
        inputs += [tensor(name, shape, dtype) for name, _, dtype, shape in self.carried]
        body = helper.make_graph(nodes, "body", inputs, results)
        outs = [tensor(f"{name}_last", shape, dtype) for name, _, dtype, shape in self.carried]
        outs += [tensor(f"scan_{k}", None, INT64 if name == "i" else FLOAT) for k, name in enumerate(self.scanned)]
        firsts = [f"{name}_0" for name, *_ in self.carried]
        loop = helper.make_node("Loop", ["m", "go", *firsts], [o.name for o in outs], name="loop", body=body)
        given = [tensor("m", [], INT64), tensor("go", [], BOOL), *self.captured]
        given += [tensor(f"{name}_0", shape, dtype) for name, _, dtype, shape in self.carried]
        return model([loop], given, outs, self.constants, opset)


def slicing() -> onnx.ModelProto:
    """A recurrence over the rows of ``x``: each turn reads the row that the counter says."""
    w = LoopWriter(captured=[tensor("x", ["n", WIDTH])])
    mixed = w.node("Tanh", w.node("Add", w.node("Mul", "s", w.number(0.5, np.float32)), w.row("x", "i")))
    w.carry("s", mixed, shape=[1, WIDTH])
    w.scanned = [mixed, "i"]
    return w.model()


def windows() -> onnx.ModelProto:
    """Three rows from the counter on, which at the end of ``x`` are fewer and then none."""
    w = LoopWriter(captured=[tensor("x", ["n", WIDTH])])
    total = w.node("ReduceSum", w.row("x", "i", 3), w.number([0]), keepdims=1)
    w.carry("s", w.node("Add", "s", total), shape=[1, WIDTH])
    return w.model()


def growing() -> onnx.ModelProto:
    """A value that grows by a row each turn, and the mean of all rows so far."""
    w = LoopWriter()
    mean = w.node("ReduceMean", "s", axes=[0], keepdims=1)
    w.carry("s", w.node("Concat", "s", w.node("Add", mean, w.number(1, np.float32)), axis=0))
    w.scanned = [mean]
    return w.model()


def positions() -> onnx.ModelProto:
    """A position that is carried, moves by two rows in each turn and ends the loop."""
    w = LoopWriter(captured=[tensor("x", ["n", WIDTH])])
    moved = w.node("Add", "p", w.number(2))
    w.carry("p", moved, INT64, [])
    w.carry("s", w.node("Add", "s", w.row("x", "p")), shape=[1, WIDTH])
    w.going = w.node("Less", moved, w.number(9))
    return w.model()


def exchanging() -> onnx.ModelProto:
    """Two carried values that change places, one of them scanned before and after, one that stays as it is."""
    w = LoopWriter()
    total = w.node("Add", "a", "b")
    w.carry("a", "b", shape=[1, WIDTH])
    w.carry("b", total, shape=[1, WIDTH])
    w.carry("kept", "kept", shape=[1, WIDTH])
    w.scanned = [total, total, "a"]
    return w.model()


def drawn(rng: np.random.Generator) -> tuple[onnx.ModelProto, list[str]]:
    """A random body, and the names of the values that are carried."""
    w = LoopWriter(captured=[tensor("x", ["n", WIDTH])])
    names = ["a", "b", "g"][: rng.integers(1, 4)]
    pool = [*names, w.row("x", "i", int(rng.integers(1, 3)))]
    rows = [name for name in pool if name != "g"]
    for _ in range(rng.integers(1, 5)):
        first, second = (rows[k] for k in rng.integers(0, len(rows), 2))
        kind = rng.integers(0, 4)
        if kind == 0:
            one = w.node("ReduceMean", first, axes=[0], keepdims=1)
            rows.append(w.node("Mul", one, w.number(0.5, np.float32)))
        elif kind == 1:
            mean = w.node("ReduceMax", first, axes=[0], keepdims=1)
            rows.append(w.node("Add", mean, w.node("ReduceMean", second, axes=[0], keepdims=1)))
        elif kind == 2:
            rows.append(w.node("Tanh", second))
        else:
            rows.append(w.node("Sigmoid", w.node("ReduceSum", first, w.number([0]), keepdims=1)))
    for name in names:
        if name == "g":
            w.carry(name, w.node("Concat", name, rows[-1], axis=0))
        else:
            w.carry(name, rows[int(rng.integers(0, len(rows)))])
    w.scanned = [w.node("ReduceSum", rows[-1], keepdims=0), "i"]
    return w.model(), names


def feeds_of(built: onnx.ModelProto, turns: int, rows: int, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Values for the inputs of a model of `LoopWriter`."""
    found: dict[str, npt.NDArray[Any]] = {}
    for value in built.graph.input:
        if value.name == "m":
            found["m"] = np.array(turns)
        elif value.name == "go":
            found["go"] = np.array(True)
        elif value.type.tensor_type.elem_type == INT64:
            found[value.name] = np.array(0)
        else:
            found[value.name] = rng.standard_normal((rows if value.name == "x" else 1, WIDTH)).astype(np.float32)
    return found

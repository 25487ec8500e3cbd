"""Graphs of several nodes that provoke partitions: chains, diamonds, shared inputs, taken and declined operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import OPSET

UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Erf", "Softsign")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")
RANDOM_GRAPHS = 12
SHAPE = (3, 8)


@dataclass(frozen=True)
class MixedGraph:
    """A graph with the arrays to feed it."""

    graph: Graph
    feeds: dict[str, npt.NDArray[Any]]


@cache
def mixed_graphs() -> dict[str, MixedGraph]:
    """All graphs by name: some hand-made, some random with fixed seeds."""
    made = [
        _build("chain", [("Relu", 0), ("Erf", 1), ("Add", 2, 0), ("Softsign", 3), ("Mul", 4, 1)]),
        _build("diamond", [("Relu", 0), ("Erf", 1), ("Sigmoid", 1), ("Add", 2, 3)]),
        _build("diamond through a declined side", [("Mul", 0, 0), ("Softsign", 1), ("Add", 1, 2), ("Relu", 3)]),
        _build("matmul between", [("MatMul", 0), ("Erf", 1), ("MatMul", 2), ("Add", 3, 0)]),
    ]
    made += [_random(seed) for seed in range(RANDOM_GRAPHS)]
    return {item.graph.name: item for item in made}


def _random(seed: int) -> MixedGraph:
    rng = np.random.default_rng(seed)
    steps: list[tuple[Any, ...]] = []
    for index in range(1, int(rng.integers(4, 16))):
        left, right = (int(i) for i in rng.integers(0, index, 2))
        kind = rng.integers(0, 10)
        if kind < 4:
            steps.append((str(rng.choice(UNARY)), left))
        elif kind < 9:
            steps.append((str(rng.choice(BINARY)), left, right))
        else:
            steps.append(("MatMul", left))
    return _build(f"random {seed}", steps)


def _build(name: str, steps: Sequence[tuple[Any, ...]]) -> MixedGraph:
    """``steps`` are (operator, operand numbers): 0 is the input, i the result of step i.

    MatMul multiplies by constant square weights.  Every result nobody reads is an output.
    """
    graph = Graph(name)
    graph.opset_imports = {"": OPSET}
    source = Value("x", TensorType(DType.FLOAT32, SHAPE))
    graph.inputs = [source]
    values = [source]
    read: set[int] = set()
    for number, (op_type, *operands) in enumerate(steps, 1):
        inputs = [values[i] for i in operands]
        read.update(operands)
        if op_type == "MatMul":
            weights = np.random.default_rng(number).uniform(-0.4, 0.4, (SHAPE[1], SHAPE[1])).astype(np.float32)
            constant = Value(f"w{number}", None, Tensor.from_numpy(weights))
            graph.initializers[constant.name] = constant
            inputs.append(constant)
        result = Value(f"v{number}")
        graph.nodes.append(Node(op_type, inputs, [result], name=f"{op_type.lower()} {number}"))
        values.append(result)
    graph.outputs = [value for i, value in enumerate(values) if i and i not in read]
    feeds = {"x": np.random.default_rng(7).uniform(-2, 2, SHAPE).astype(np.float32)}
    return MixedGraph(graph, feeds)


def feeds_for(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    """Seeded inputs of a kit graph."""
    return mixed_graphs()[graph.name].feeds

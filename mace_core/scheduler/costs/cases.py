"""Small graphs whose times tell the rates of a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.scheduler.costs.rates import Work, WorkKind
from mace_core.tensor import DType, Tensor, TensorType

_OPSET = 17


@dataclass(frozen=True, slots=True)
class Case:
    """A graph of ``repeats`` equal nodes in a chain.

    Attributes:
        name: for people.
        work: of one node.
        repeats: how many there are.
    """

    name: str
    work: Work
    repeats: int
    graph: Graph
    feeds: Mapping[str, npt.NDArray[Any]]


def _chain(name: str, shape: tuple[int, ...], work: Work, repeats: int, make: Any) -> Case:
    graph = Graph(f"calibration of {name}")
    graph.opset_imports[""] = _OPSET
    rng = np.random.default_rng(0)
    value = Value("x", TensorType(DType.FLOAT32, shape))
    graph.inputs = [value]
    for number in range(repeats):
        value = make(graph, value, number, rng)
    graph.outputs = [value]
    return Case(name, work, repeats, graph, {"x": rng.standard_normal(shape, np.float32)})


def _weight(graph: Graph, name: str, array: npt.NDArray[np.float32]) -> Value:
    value = Value(name, constant=Tensor.from_numpy(array))
    graph.initializers[name] = value
    return value


def _scaled(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> npt.NDArray[np.float32]:
    """Weights under which the numbers neither grow nor vanish along a chain."""
    return rng.standard_normal(shape, np.float32) * np.float32(fan_in**-0.5)


def convolution(channels: int, size: int, kernel: int, group: int, repeats: int) -> Case:
    """A chain of square convolutions of stride 1."""
    shape = (1, channels, size, size)
    taps = kernel * kernel * channels // group
    macs = channels * size * size * taps
    nbytes = 4 * (2 * channels * size * size + channels * taps)

    def make(graph: Graph, value: Value, number: int, rng: np.random.Generator) -> Value:
        weight = _weight(graph, f"w{number}", _scaled(rng, (channels, channels // group, kernel, kernel), taps))
        result = Value(f"y{number}", TensorType(DType.FLOAT32, shape))
        attributes = {
            "group": Attribute(AttributeKind.INT, group),
            "kernel_shape": Attribute(AttributeKind.INTS, (kernel, kernel)),
            "pads": Attribute(AttributeKind.INTS, (kernel // 2,) * 4),
        }
        graph.nodes.append(Node("Conv", [value, weight], [result], name=f"conv{number}", attributes=attributes))
        return result

    kind = WorkKind.DEPTHWISE if group == channels else WorkKind.CONVOLUTION
    name = f"{kind.value} {kernel}x{kernel}, {channels} channels of {size}x{size}"
    return _chain(name, shape, Work(kind, macs, nbytes), repeats, make)


def product(rows: int, width: int, repeats: int) -> Case:
    """A chain of products with square weights."""

    def make(graph: Graph, value: Value, number: int, rng: np.random.Generator) -> Value:
        weight = _weight(graph, f"w{number}", _scaled(rng, (width, width), width))
        result = Value(f"y{number}", TensorType(DType.FLOAT32, (rows, width)))
        graph.nodes.append(Node("MatMul", [value, weight], [result], name=f"product{number}"))
        return result

    work = Work(WorkKind.MATMUL, rows * width * width, 4 * (2 * rows * width + width * width))
    return _chain(f"product of {rows}x{width} and {width}x{width}", (rows, width), work, repeats, make)


def movement(channels: int, size: int, repeats: int) -> Case:
    """A chain of poolings of three neighbors, which nothing fuses or cancels: hardly more than reading and writing."""
    shape = (1, channels, size, size)

    def make(graph: Graph, value: Value, number: int, rng: np.random.Generator) -> Value:
        result = Value(f"y{number}", TensorType(DType.FLOAT32, shape))
        attributes = {
            "kernel_shape": Attribute(AttributeKind.INTS, (1, 3)),
            "pads": Attribute(AttributeKind.INTS, (0, 1, 0, 1)),
        }
        graph.nodes.append(Node("MaxPool", [value], [result], name=f"pool{number}", attributes=attributes))
        return result

    work = Work(WorkKind.OTHER, 0, 8 * channels * size * size)
    return _chain(f"pooling, {channels} channels of {size}x{size}", shape, work, repeats, make)

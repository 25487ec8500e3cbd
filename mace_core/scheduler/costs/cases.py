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

    kind = WorkKind.POINTWISE if kernel == 1 else WorkKind.CONVOLUTION
    kind = WorkKind.DEPTHWISE if group == channels else kind
    name = f"{kind.value} {kernel}x{kernel}, {channels} channels of {size}x{size}"
    return _chain(name, shape, Work(kind, macs, nbytes), repeats, make)


def activated(channels: int, size: int, repeats: int) -> Case:
    """A chain of convolutions of 1x1, each with an activation behind it, which most devices compute on the way."""
    plain = convolution(channels, size, 1, 1, repeats)
    graph, shape = plain.graph, plain.feeds["x"].shape
    nodes: list[Node] = []
    for node in graph.nodes:
        made = node.outputs[0]
        assert made is not None
        before = Value(f"{made.name}_linear", TensorType(DType.FLOAT32, shape))
        node.outputs[0] = before
        nodes += [node, Node("Relu", [before], [made], name=f"relu_{node.name}")]
    graph.nodes = nodes
    return Case(f"{plain.name}, each with an activation", plain.work, repeats, graph, plain.feeds)


def quantized(channels: int, size: int, kernel: int, repeats: int) -> Case:
    """A chain of convolutions of 8-bit integers: dequantization, convolution, quantization."""
    taps = kernel * kernel * channels
    shape = (1, channels, size, size)
    graph = Graph("calibration of integers")
    graph.opset_imports[""] = _OPSET
    rng = np.random.default_rng(0)
    scale, zero = _constant(graph, "scale", np.float32(0.05)), _constant(graph, "zero", np.uint8(128))
    weight_scale = _constant(graph, "weight_scale", np.full(channels, taps**-0.5 / 64, np.float32))
    weight_zero = _constant(graph, "weight_zero", np.zeros(channels, np.int8))
    value = Value("x", TensorType(DType.UINT8, shape))
    graph.inputs = [value]
    axis = {"axis": Attribute(AttributeKind.INT, 0)}
    for number in range(repeats):
        weight = _constant(
            graph, f"w{number}", rng.integers(-127, 128, (channels, channels, kernel, kernel)).astype(np.int8)
        )
        real, taken, made = (Value(f"{name}{number}", TensorType(DType.FLOAT32, shape)) for name in ("r", "t", "m"))
        taken.type = TensorType(DType.FLOAT32, (channels, channels, kernel, kernel))
        result = Value(f"y{number}", TensorType(DType.UINT8, shape))
        attributes = {
            "kernel_shape": Attribute(AttributeKind.INTS, (kernel, kernel)),
            "pads": Attribute(AttributeKind.INTS, (kernel // 2,) * 4),
        }
        graph.nodes += [
            Node("DequantizeLinear", [value, scale, zero], [real], name=f"read{number}"),
            Node(
                "DequantizeLinear", [weight, weight_scale, weight_zero], [taken], name=f"taken{number}", attributes=axis
            ),
            Node("Conv", [real, taken], [made], name=f"conv{number}", attributes=attributes),
            Node("QuantizeLinear", [made, scale, zero], [result], name=f"write{number}"),
        ]
        value = result
    graph.outputs = [value]
    work = Work(WorkKind.INTEGER, channels * size * size * taps, 2 * channels * size * size + channels * taps)
    name = f"integer convolution {kernel}x{kernel}, {channels} channels of {size}x{size}"
    return Case(name, work, repeats, graph, {"x": rng.integers(0, 256, shape).astype(np.uint8)})


def _constant(graph: Graph, name: str, array: Any) -> Value:
    value = Value(name, constant=Tensor.from_numpy(np.asarray(array)))
    graph.initializers[name] = value
    return value


def results(channels: int, size: int, count: int, *, all_of_them: bool) -> Case:
    """A chain of poolings of which the last result, or each, goes back to the host."""
    case = movement(channels, size, count)
    if all_of_them:
        case.graph.outputs = [value for node in case.graph.nodes for value in node.outputs if value is not None]
    return case


def operands(channels: int, size: int, count: int, *, fed: bool) -> Case:
    """A chain of additions whose second operands are constants, or are fed."""
    shape = (1, channels, size, size)
    feeds: dict[str, npt.NDArray[Any]] = {}

    def make(graph: Graph, value: Value, number: int, rng: np.random.Generator) -> Value:
        array = rng.standard_normal(shape, np.float32)
        if fed:
            other = Value(f"e{number}", TensorType(DType.FLOAT32, shape))
            graph.inputs.append(other)
            feeds[other.name] = array
        else:
            other = _weight(graph, f"e{number}", array)
        result = Value(f"y{number}", TensorType(DType.FLOAT32, shape))
        graph.nodes.append(Node("Add", [value, other], [result], name=f"add{number}"))
        return result

    where = "fed" if fed else "constant"
    work = Work(WorkKind.OTHER, 0, 12 * channels * size * size)
    case = _chain(f"additions, {count} operands {where}", shape, work, count, make)
    return Case(case.name, work, count, case.graph, {**case.feeds, **feeds})


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

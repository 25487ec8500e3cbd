"""Graphs of operators that move with the axes of their inputs, with Transposes strewn in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.serialize import dump_graph, load_graph
from mace_core.operators import resolve
from mace_core.optimizer import optimize
from mace_core.optimizer.layout import FoldTransposes
from mace_core.session import Session
from mace_core.tensor import DType, Tensor, TensorType

Array = npt.NDArray[Any]

MOST_ELEMENTS = 600

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def attribute(value: Any) -> Attribute:
    if isinstance(value, str):
        return Attribute(AttributeKind.STRING, value)
    if isinstance(value, int):
        return Attribute(AttributeKind.INT, value)
    return Attribute(AttributeKind.INTS, tuple(value))


@dataclass
class Drawing:
    """A graph that is being drawn; every value holds small whole numbers, so that sums of them are exact."""

    draw: Callable[..., Any]
    graph: Graph = field(default_factory=lambda: Graph("drawn"))
    values: list[Value] = field(default_factory=list)
    shapes: dict[Value, tuple[int, ...]] = field(default_factory=dict)
    feeds: dict[str, Array] = field(default_factory=dict)

    def input(self, shape: tuple[int, ...], open_axes: Sequence[int]) -> None:
        name = f"x{len(self.graph.inputs)}"
        declared = tuple(f"{name}_{axis}" if axis in open_axes else size for axis, size in enumerate(shape))
        value = Value(name, TensorType(DType.FLOAT32, declared))
        self.graph.inputs.append(value)
        rng = np.random.default_rng(len(name) + math.prod(shape))
        self.feeds[name] = rng.integers(-3, 4, shape).astype(np.float32)
        self._know(value, shape)

    def constant(self, content: Any, dtype: Any = np.int64) -> Value:
        value = Value(f"c{len(self.graph.initializers)}", None, Tensor.from_numpy(np.asarray(content, dtype)))
        self.graph.initializers[value.name] = value
        return value

    def numbers(self, shape: Sequence[int]) -> Value:
        rng = np.random.default_rng(len(self.graph.initializers))
        return self.constant(rng.integers(-2, 3, tuple(shape)), np.float32)

    def op(self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> list[Value]:
        name = f"{op}_{len(self.graph.nodes)}"
        results = [Value(f"{name}:{index}") for index in range(outputs)]
        given = {key: attribute(value) for key, value in attributes.items()}
        self.graph.nodes.append(Node(op, inputs, results, name=name, attributes=given))
        return results

    def add(self, op: str, *inputs: Value | None, shape: Sequence[int], **attributes: Any) -> None:
        self._know(self.op(op, *inputs, **attributes)[0], tuple(shape))

    def _know(self, value: Value, shape: tuple[int, ...]) -> None:
        self.shapes[value] = shape
        if math.prod(shape) <= MOST_ELEMENTS:
            self.values.append(value)

    def any(self, least: int = 0, rank: int | None = None) -> tuple[Value, tuple[int, ...]] | None:
        """A value drawn among the last ones."""
        found = [
            value
            for value in self.values[-6:]
            if len(self.shapes[value]) >= least and (rank is None or len(self.shapes[value]) == rank)
        ]
        if not found:
            return None
        value = self.draw(st.sampled_from(found))
        return value, self.shapes[value]


class Network(Drawing):
    """A network with channels last, as exporters from TensorFlow write it."""

    def __init__(self, *shape: int | str) -> None:
        super().__init__(lambda strategy: None)
        self.graph.opset_imports = {"": 18}
        self.graph.inputs = [Value("x", TensorType(DType.FLOAT32, shape))]

    @property
    def x(self) -> Value:
        return self.graph.inputs[0]

    def turned(self, value: Value, perm: tuple[int, ...]) -> Value:
        return self.op("Transpose", value, perm=perm)[0]

    def conv(self, value: Value, filters: int, channels: int, kernel: int = 1, **attributes: Any) -> Value:
        weights = self.numbers((filters, channels // attributes.get("group", 1), kernel, kernel))
        return self.turned(self.op("Conv", self.turned(value, TO_FIRST), weights, **attributes)[0], TO_LAST)

    def bias(self, value: Value, channels: int) -> Value:
        return self.op("Add", value, self.numbers((channels,)))[0]

    def done(self, *values: Value) -> Graph:
        self.graph.outputs = list(values)
        return self.graph


# --- operators --------------------------------------------------------------------------------------------------------


def transpose(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    rank = len(shape)
    usual = [p for p in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1)) if len(p) == rank]
    perm = d.draw(st.one_of(st.permutations(range(rank)), st.sampled_from(usual or [tuple(range(rank))])))
    d.add("Transpose", x, shape=[shape[axis] for axis in perm], perm=perm)


def unary(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    d.add(d.draw(st.sampled_from(["Relu", "Neg", "Abs", "Identity"])), x, shape=shape)


def binary(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    op = d.draw(st.sampled_from(["Add", "Sub", "Max", "PRelu"]))
    same = [value for value in d.values[-6:] if d.shapes[value] == shape]
    if d.draw(st.booleans()):
        keep = d.draw(st.integers(0, len(shape)))
        part = [size if d.draw(st.booleans()) else 1 for size in shape[len(shape) - keep :]]
        other = d.numbers(part)
    else:
        other = d.draw(st.sampled_from(same))
    operands = [x, other] if op == "PRelu" or d.draw(st.booleans()) else [other, x]
    d.add(op, *operands, shape=shape)


def broadcast(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    """With a value that has fewer axes."""
    fitting = [v for v in d.values if len(d.shapes[v]) < len(shape) and _fits(d.shapes[v], shape)]
    if fitting:
        d.add("Add", x, d.draw(st.sampled_from(fitting[-4:])), shape=shape)


def _fits(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return not small or all(a in (1, b) for a, b in zip(small, shape[-len(small) :], strict=True))


def where(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    (condition,) = d.op("Less", x, d.numbers(shape))
    d.add("Where", condition, x, d.numbers(shape[-1:]), shape=shape)


def reduce(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axes = d.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    keepdims = d.draw(st.integers(0, 1))
    result = [1 if axis in axes else size for axis, size in enumerate(shape) if keepdims or axis not in axes]
    listed = d.constant([axis - len(shape) if d.draw(st.booleans()) else axis for axis in sorted(axes)])
    op = d.draw(st.sampled_from(["ReduceMax", "ReduceSum"]))
    (reduced,) = d.op(op, x, listed, keepdims=keepdims)
    if op == "ReduceSum":
        (reduced,) = d.op("Clip", reduced, d.constant(-50, np.float32), d.constant(50, np.float32))
    d._know(reduced, tuple(result))


def along(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axis = d.draw(st.integers(-len(shape), len(shape) - 1))
    match d.draw(st.sampled_from(["Hardmax", "ArgMax", "CumSum"])):
        case "Hardmax":
            d.add("Hardmax", x, shape=shape, axis=axis)
        case "ArgMax":
            (chosen,) = d.op("ArgMax", x, axis=axis, keepdims=1)
            result = list(shape)
            result[axis] = 1
            d.add("Cast", chosen, shape=result, to=1)
        case _:
            (total,) = d.op("CumSum", x, d.constant(axis))
            d.add("Clip", total, d.constant(-50, np.float32), d.constant(50, np.float32), shape=shape)


def concat(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axis = d.draw(st.integers(0, len(shape) - 1))
    fitting = [
        v
        for v in d.values[-8:]
        if len(d.shapes[v]) == len(shape) and all(i == axis or d.shapes[v][i] == n for i, n in enumerate(shape))
    ]
    other = d.draw(st.sampled_from(fitting))
    result = list(shape)
    result[axis] += d.shapes[other][axis]
    d.add("Concat", x, other, shape=result, axis=axis)


def split(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axis = d.draw(st.integers(0, len(shape) - 1))
    if shape[axis] < 2:
        return
    at = d.draw(st.integers(1, shape[axis] - 1))
    parts = d.op("Split", x, d.constant([at, shape[axis] - at]), outputs=2, axis=axis)
    for part, size in zip(parts, (at, shape[axis] - at), strict=True):
        d._know(part, (*shape[:axis], size, *shape[axis + 1 :]))


def slice_(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axes = [axis for axis in range(len(shape)) if shape[axis] > 1 and d.draw(st.booleans())]
    if not axes:
        return
    starts = [d.draw(st.integers(0, shape[axis] - 1)) for axis in axes]
    ends = [d.draw(st.integers(start + 1, shape[axis])) for start, axis in zip(starts, axes, strict=True)]
    result = list(shape)
    for axis, start, end in zip(axes, starts, ends, strict=True):
        result[axis] = end - start
    listed = None if axes == list(range(len(axes))) and d.draw(st.booleans()) else d.constant(axes)
    d.add("Slice", x, d.constant(starts), d.constant(ends), *([listed] if listed is not None else []), shape=result)


def pad(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    pads = [d.draw(st.integers(0, 2)) for _ in range(2 * len(shape))]
    sizes = zip(shape, pads[: len(shape)], pads[len(shape) :], strict=True)
    d.add("Pad", x, d.constant(pads), shape=[size + before + after for size, before, after in sizes])


def tile(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    repeats = [d.draw(st.integers(1, 2)) for _ in shape]
    d.add("Tile", x, d.constant(repeats), shape=[size * n for size, n in zip(shape, repeats, strict=True)])


def expand(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    result = [2, *(3 if size == 1 and d.draw(st.booleans()) else size for size in shape)]
    result = result[d.draw(st.integers(0, 1)) :]
    d.add("Expand", x, d.constant([1 if size in shape and d.draw(st.booleans()) and size != 3 and size != 2 else size
                                   for size in result]), shape=result)  # fmt: skip


def gather(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axis = d.draw(st.integers(0, len(shape) - 1))
    taken = d.draw(st.sampled_from([(), (1,), (2,), (2, 1)]))
    indices = np.arange(math.prod(taken)).reshape(taken) % shape[axis]
    d.add("Gather", x, d.constant(indices), shape=(*shape[:axis], *taken, *shape[axis + 1 :]), axis=axis)


def squeeze(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axes = [axis for axis in range(len(shape)) if shape[axis] == 1 and d.draw(st.booleans())]
    if axes:
        d.add("Squeeze", x, d.constant(axes), shape=[n for axis, n in enumerate(shape) if axis not in axes])


def unsqueeze(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axis = d.draw(st.integers(0, len(shape)))
    d.add("Unsqueeze", x, d.constant([axis]), shape=(*shape[:axis], 1, *shape[axis:]))


def reshape(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    """Axes joined, or one split in two, or those of size 1 elsewhere."""
    result = list(shape)
    match d.draw(st.sampled_from(["join", "split", "ones"])):
        case "join" if len(result) > 1:
            axis = d.draw(st.integers(0, len(result) - 2))
            result[axis : axis + 2] = [result[axis] * result[axis + 1]]
        case "split":
            axis = d.draw(st.integers(0, len(result) - 1))
            factor = d.draw(st.sampled_from([n for n in (1, 2, 3) if result[axis] % n == 0]))
            result[axis : axis + 1] = [factor, result[axis] // factor]
        case _:
            result = [size for size in result if size != 1]
            result.insert(d.draw(st.integers(0, len(result))), 1)
    stated = list(result)
    if d.draw(st.booleans()):
        stated[d.draw(st.integers(0, len(stated) - 1))] = -1
    d.add("Reshape", x, d.constant(stated), shape=result)


def quantize(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    axis = d.draw(st.integers(0, len(shape) - 1))
    scale, zero = d.constant(np.full(shape[axis], 0.5), np.float32), d.constant(np.arange(shape[axis]) % 3, np.uint8)
    (bounded,) = d.op("Clip", x, d.constant(-20, np.float32), d.constant(20, np.float32))
    (numbers,) = d.op("QuantizeLinear", bounded, scale, zero, axis=axis)
    d.add("DequantizeLinear", numbers, scale, zero, shape=shape, axis=axis)


def resize(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        return
    scales = [d.draw(st.sampled_from([1.0, 2.0])) for _ in shape]
    result = [int(size * scale) for size, scale in zip(shape, scales, strict=True)]
    by_size = d.draw(st.booleans())
    given = [None, None, d.constant(result)] if by_size else [None, d.constant(scales, np.float32)]
    d.add("Resize", x, *given, shape=result, mode="nearest", coordinate_transformation_mode="asymmetric",
          nearest_mode="floor")  # fmt: skip


def product(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        return
    (made,) = d.op("MatMul", x, d.numbers((shape[-1], 3)))
    d.add("Clip", made, d.constant(-9, np.float32), d.constant(9, np.float32), shape=(*shape[:-1], 3))


def rows(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    """A dense layer over the last axis, by way of a matrix."""
    if len(shape) != 4:
        return
    (matrix,) = d.op("Reshape", x, d.constant([-1, shape[-1]]))
    (made,) = d.op("Gemm", matrix, d.numbers((3, shape[-1])), d.numbers((3,)), transB=1)
    result = (*shape[:-1], 3)
    if d.draw(st.booleans()):
        (made,) = d.op("Relu", made)
    stated = [-1 if axis == 0 else size for axis, size in enumerate(result)]
    (made,) = d.op("Reshape", made, d.constant(stated))
    d.add("Clip", made, d.constant(-9, np.float32), d.constant(9, np.float32), shape=result)


def table(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    """A function as a table."""
    (bounded,) = d.op("Clip", x, d.constant(-8, np.float32), d.constant(7, np.float32))
    (index,) = d.op("Cast", bounded, to=7)
    d.add("Gather", d.numbers((16,)), index, shape=shape, axis=0)


def fixed(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    """What wants its channels second."""
    if len(shape) != 4:
        return
    if d.draw(st.booleans()):
        d.add("GlobalMaxPool", x, shape=(*shape[:2], 1, 1))
    else:
        (made,) = d.op("Conv", x, d.numbers((2, shape[1], 1, 1)))
        low, high = d.constant(-9, np.float32), d.constant(9, np.float32)
        d.add("Clip", made, low, high, shape=(shape[0], 2, *shape[2:]))


def sizes(d: Drawing, x: Value, shape: tuple[int, ...]) -> None:
    """Numbers of the shape, as values."""
    begin = d.draw(st.integers(0, len(shape) - 1))
    (listed,) = d.op("Shape", x, start=begin)
    d.add("Cast", listed, shape=(len(shape) - begin,), to=1)


OPERATORS: tuple[Callable[[Drawing, Value, tuple[int, ...]], None], ...] = (
    *(transpose, transpose, transpose, transpose, transpose, unary, unary, binary, binary, broadcast, where, reduce),
    *(along, concat, split, slice_, pad, tile, expand, gather, squeeze, unsqueeze, reshape, reshape, quantize, resize),
    *(product, rows, table, fixed, fixed, sizes),
)


@st.composite
def drawn_graphs(draw: Callable[..., Any]) -> tuple[Graph, dict[str, Array]]:
    """A graph of some fifteen nodes, and what to feed it."""
    d = Drawing(draw)
    d.graph.opset_imports = {"": 18}
    for _ in range(draw(st.integers(1, 2))):
        shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=3, max_size=4)))
        axes = [axis for axis, size in enumerate(shape) if size > 1 and draw(st.integers(0, 3)) == 0]
        d.input(shape, axes)
    for _ in range(draw(st.integers(4, 14))):
        found = d.any(least=1)
        if found is not None:
            draw(st.sampled_from(OPERATORS))(d, *found)
    outputs = dict.fromkeys(value for value in d.values[-3:] if value.producer is not None)
    more = draw(st.sampled_from([None, *d.values]))
    if more is not None and more.producer is not None:
        outputs[more] = None
    d.graph.outputs = list(outputs) or d.values[-1:]
    return d.graph, d.feeds


# --- looking at graphs ------------------------------------------------------------------------------------------------


def copied(graph: Graph) -> Graph:
    """The same graph again."""
    return load_graph(dump_graph(graph))


def folded(graph: Graph) -> Graph:
    """A copy of ``graph`` without needless Transposes."""
    result = copied(graph)
    optimize(result, [FoldTransposes()])
    return result


def transposes(graph: Graph) -> list[Node]:
    """Those of computed values."""
    return [node for node in graph.nodes if node.op_type == "Transpose" and not _is_constant(node.inputs[0])]


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.constant is not None


def moved(graph: Graph, feeds: dict[str, Array]) -> int:
    """Elements that Transposes move in a run: of computed values, unless only axes of size 1 change places."""
    types = {value: TensorType(DType.FLOAT32, feeds[value.name].shape) for value in graph.inputs}
    found = resolve(graph, types).types
    total = 0
    for node in transposes(graph):
        value = node.inputs[0]
        assert value is not None
        type_ = found[value]
        assert isinstance(type_, TensorType)
        shape = type_.concrete_shape
        order = [axis for axis in node.attr("perm") or range(len(shape))[::-1] if shape[axis] != 1]
        total += math.prod(shape) if order != sorted(order) else 0
    return total


def run(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """What a graph gives as it is."""
    with Session(graph, devices=["cpu"], optimize=False, cache=False) as session:
        return dict(session.run(feeds))

"""Weights that lie in a package in fewer bytes than they are computed with, and are put together once in a session.

Each becomes a constant that the session computes (see `mace_core.graph.ComputedTensor`): a Cast of narrower floats, or
a DequantizeLinear of 8-bit integers.  Devices get the rounded numbers in float32, so every one of them can compute.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, ComputedTensor, Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType

FORMS = ("float16", "bfloat16", "int8")

LEAST_ELEMENTS = 256
"""Fewer are left as they are: biases, scales, tables of an activation."""

LEAST_INTEGERS = 4096
"""Of weights stored in 8 bits."""

_FLOATS = {"float16": DType.FLOAT16, "bfloat16": DType.BFLOAT16}
_DEQUANTIZE_OPSET = 13

_CHANNELS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": 1, "Gather": 0}
"""The axis of the weights along which each has a scale of its own."""


def store_weights_as(graph: Graph, form: str) -> dict[str, str]:
    """Store the float32 weights of an outermost graph in another form, in place.

    Args:
        form: one of `FORMS`; "int8": symmetric, with a scale for each channel, of large weights of products alone.

    Returns:
        By name, why a weight of that size keeps its form.
    """
    kept: dict[str, str] = {}
    _store(graph, graph, form, set(), kept)
    return kept


def _store(graph: Graph, outermost: Graph, form: str, seen: set[Value], kept: dict[str, str]) -> None:
    """Of one graph and those nested in it; ``seen`` are values that a graph around has, too."""
    users = graph.users()
    for name, value in graph.initializers.items():
        if value in seen:
            continue
        seen.add(value)
        tensor = value.constant
        if tensor is None or isinstance(tensor, ComputedTensor) or tensor.dtype is not DType.FLOAT32:
            continue
        if name in graph.defaults or value in graph.outputs or math.prod(tensor.shape) < LEAST_ELEMENTS:
            continue
        array = tensor.numpy()
        if form == "int8":
            recipe = _integers(outermost, name, array, users.get(value, []))
        else:
            recipe = _floats(outermost, name, array, _FLOATS[form])
        if isinstance(recipe, str):
            if recipe:
                kept[name] = recipe
            continue
        computed = ComputedTensor(DType.FLOAT32, tensor.shape, recipe)
        value.constant = computed
        outermost.computed.append(computed)
    for node in graph.nodes:
        for body in node.subgraphs():
            _store(body, outermost, form, seen, kept)


def _floats(graph: Graph, name: str, array: npt.NDArray[np.float32], dtype: DType) -> Graph | str:
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype.numpy)
    if not np.isfinite(narrow.astype(np.float32)).all():
        return f"it has numbers beyond those of {dtype.label}"
    attributes = {"to": Attribute(AttributeKind.INT, DType.FLOAT32.value)}
    return _recipe(
        graph, name, "Cast", [("narrow", Tensor.from_numpy(np.ascontiguousarray(narrow)))], attributes, array
    )


def _integers(graph: Graph, name: str, array: npt.NDArray[np.float32], users: list[Node]) -> Graph | str:
    if array.size < LEAST_INTEGERS or array.ndim < 2 or not users:
        return ""
    axes = {_axis(node, name) for node in users}
    axis = axes.pop() if len(axes) == 1 else None
    if axis is None:
        return ""
    if not np.isfinite(array).all():
        return "it has numbers that are not finite"
    axis %= array.ndim
    others = tuple(number for number in range(array.ndim) if number != axis)
    scale = (np.abs(array).max(axis=others) / 127).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1.0
    wide = scale.reshape([-1 if number == axis else 1 for number in range(array.ndim)])
    integers = np.clip(np.rint(array / wide), -127, 127).astype(np.int8)
    constants = [("integers", Tensor.from_numpy(integers)), ("scale", Tensor.from_numpy(scale))]
    attributes = {"axis": Attribute(AttributeKind.INT, axis)}
    return _recipe(graph, name, "DequantizeLinear", constants, attributes, array)


def _axis(node: Node, name: str) -> int | None:
    """The axis of channels where the node multiplies with the weight ``name``, or looks rows up in it."""
    if node.domain or node.op_type not in _CHANNELS:
        return None
    place = 0 if node.op_type == "Gather" else 1
    weight = node.input(place)
    if weight is None or weight.name != name or any(v is weight for i, v in enumerate(node.inputs) if i != place):
        return None
    if node.op_type == "Gather":
        return 0 if node.attr("axis", 0) == 0 else None
    return 0 if node.op_type == "Gemm" and node.attr("transB", 0) else _CHANNELS[node.op_type]


def _recipe(
    graph: Graph,
    name: str,
    op_type: str,
    constants: list[tuple[str, Tensor]],
    attributes: dict[str, Attribute],
    array: npt.NDArray[np.float32],
) -> Graph:
    recipe = Graph(f"{name}/stored")
    version = max(graph.opset_imports.get("", 1), _DEQUANTIZE_OPSET)
    recipe.opset_imports = {"": version}
    inputs = []
    for role, tensor in constants:
        value = Value(f"{name}/{role}", None, tensor)
        recipe.initializers[value.name] = value
        inputs.append(value)
    result = Value(name, TensorType(DType.FLOAT32, array.shape))
    recipe.nodes = [Node(op_type, inputs, [result], name=f"{name}/{op_type}", attributes=attributes)]
    recipe.outputs = [result]
    return recipe

"""From a model file to the float graph that is quantized: simplified, in an opset that can say what is needed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from mace_core.errors import ModelError, UsageError, describe_error
from mace_core.frontend.load import Model, load_model
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.quantized import is_quantized
from mace_core.optimizer import optimize
from mace_core.quantization.folding import fold_scales
from mace_core.quantization.sharing import share_constants
from mace_core.quantization.unpacking import WEIGHTS, unpack_weights
from mace_core.tensor import DType, Tensor, TensorType, ValueType

if TYPE_CHECKING:
    import onnx

_SOFTMAXES, _SOFTMAX_CHANGED = ("Softmax", "LogSoftmax", "Hardmax"), 13
_SET_ASIDE = "mace.set_aside"
"""Domain of nodes that the converter shall pass over."""

_STAYS_INSIDE_BYTES = 65536
"""Larger constants are set aside while the opset is raised: only their types matter to it."""


def float_graph(model: Model, opset: int, unpacked: Collection[str] = tuple(WEIGHTS)) -> Graph:
    """The model, simplified and in opset ``opset`` or a later one.

    Constant arithmetic is folded, and scales and offsets behind convolutions are made part of them.

    Args:
        unpacked: operators whose weights become floats where the model stores them otherwise.

    Raises:
        ModelError: if it cannot be read, or not be written in that opset.
        UsageError: if it is quantized already.
    """
    graph = load_model(model)
    check_is_float(graph)
    optimize(graph)
    if graph.opset_imports.get("", opset) < opset:
        graph = raise_opset(graph, opset)
        optimize(graph)
    unpack_weights(graph, unpacked)
    fold_scales(graph)
    share_constants(graph)
    return graph


def check_is_float(graph: Graph) -> None:
    """
    Raises:
        UsageError: if a node of the graph, or of one nested in it, is a quantized one.
    """
    for node in all_nodes(graph):
        if is_quantized(node):
            raise UsageError(
                f"{label_of(graph)} is quantized already: node '{node.name}' is {node.qualified_op}; "
                "give the model in floating point"
            )


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of those nested in it."""
    for node in graph.nodes:
        yield node
        for body in node.subgraphs():
            yield from all_nodes(body)


def label_of(graph: Graph) -> str:
    """The model, for messages."""
    return f"'{graph.source_path}'" if graph.source_path else f"the model '{graph.name}'"


def raise_opset(graph: Graph, opset: int) -> Graph:
    """The same graph written in a later opset of the standard domain.

    Raises:
        ModelError: if onnx's converter cannot.
    """
    import onnx.version_converter

    before = graph.opset_imports[""]
    along_last = _along_last_axis(graph) if before < _SOFTMAX_CHANGED <= opset else set()
    for node in graph.nodes:
        if node.name in along_last:
            node.domain = _SET_ASIDE
    with light_proto(graph) as (proto, contents):
        try:
            converted = load_model(onnx.version_converter.convert_version(proto, opset))
        except Exception as error:  # the converter raises RuntimeError and others
            raise ModelError(
                f"{label_of(graph)} is written in opset {before}, quantizing it needs opset {opset}, and onnx cannot "
                f"convert it ({describe_error(error)}): export it again in opset {opset} or later"
            ) from error
    for node in converted.nodes:
        if node.domain == _SET_ASIDE:
            node.domain, node.attributes["axis"] = "", Attribute(AttributeKind.INT, -1)
    converted.opset_imports.pop(_SET_ASIDE, None)
    for value in converted.inputs:
        if value.name in contents:
            value.constant = contents[value.name]
            converted.initializers[value.name] = value
    converted.inputs = [value for value in converted.inputs if value.constant is None]
    defaults = {name: type for name, type in graph.defaults.items() if name in contents}
    converted.defaults |= defaults
    converted.name, converted.doc_string = graph.name, graph.doc_string
    converted.metadata, converted.source_path = dict(graph.metadata), graph.source_path
    converted.origins = dict(graph.origins)
    return converted


def _along_last_axis(graph: Graph) -> set[str]:
    """Names of Softmax and like nodes along the last axis, which mean the same in every opset.

    The converter would put a Flatten and a Reshape around each, as along other axes they changed.
    """
    types = inferred_types(graph)
    found = set()
    for node in graph.nodes:
        x = node.input(0)
        type = None if x is None else types.get(x, x.type)
        if node.op_type in _SOFTMAXES and not node.domain and isinstance(type, TensorType) and type.shape is not None:
            axis = int(node.attr("axis", 1))
            if axis in (-1, len(type.shape) - 1):
                found.add(node.name)
    return found


@contextlib.contextmanager
def light_proto(graph: Graph) -> Iterator[tuple[onnx.ModelProto, dict[str, Tensor]]]:
    """The graph as a model in which large constants are inputs, so that their content is never copied; and these."""
    from mace_core.frontend.onnx.export import to_onnx

    inputs = list(graph.inputs)
    contents = {
        name: value.constant
        for name, value in graph.initializers.items()
        if value.constant is not None and value.constant.nbytes >= _STAYS_INSIDE_BYTES
    }
    large = [graph.initializers[name] for name in contents]
    order = list(graph.initializers)
    kept = dict(graph.defaults)
    try:
        for value in large:
            del graph.initializers[value.name]
            graph.defaults.pop(value.name, None)
            value.constant = None
            graph.inputs.append(value)
        yield to_onnx(graph), contents
    finally:
        graph.inputs, graph.defaults = inputs, kept
        for value in large:
            value.constant = contents[value.name]
        by_name = graph.initializers | {value.name: value for value in large}
        graph.initializers = {name: by_name[name] for name in order}


def inferred_types(graph: Graph) -> dict[Value, ValueType]:
    """What onnx infers of the types of computed values; shapes may hold free dimensions or be missing."""
    import onnx.shape_inference

    from mace_core.frontend.onnx.types import import_type

    with light_proto(graph) as (proto, _):
        found = onnx.shape_inference.infer_shapes(proto)
    listed = (*found.graph.value_info, *found.graph.input, *found.graph.output)
    types = {info.name: import_type(info.type, f"the type of '{info.name}'") for info in listed}
    values = [value for node in graph.nodes for value in node.outputs if value is not None]
    return {value: type for value in (*graph.inputs, *values) if (type := types.get(value.name)) is not None}


def is_float_constant(value: Value | None) -> bool:
    """Whether a value is a constant of float32 that has numbers."""
    constant = None if value is None else value.constant
    return constant is not None and constant.dtype is DType.FLOAT32 and math.prod(constant.shape) > 0

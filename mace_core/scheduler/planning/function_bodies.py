"""What the ONNX standard says an operator is made of: the function body of its schema, as nodes of ours.

Imports onnx; imported only when some node is claimed by nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import onnx

from mace_core.errors import MaceError
from mace_core.frontend.onnx.frontend import OnnxFrontend
from mace_core.frontend.onnx.types import export_type
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.optimizer import optimize
from mace_core.scheduler.host.reference_proto import node_model
from mace_core.tensor import ValueType

_log = logging.getLogger("mace")

BODY_DOMAIN = "mace.body"

WIDENED_ONLY = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant",
        "ConstantOfShape", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
        "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Min",
        "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "Relu", "Reshape",
        "Round", "ScatterElements", "Shape", "Sigmoid", "Size", "Slice", "Sqrt", "Sub", "Sum", "Tanh", "Tile",
        "Transpose", "Where", "Xor",
    }
)  # fmt: skip
"""Operators that newer opsets gave more element types or optional inputs, but no other meaning, since opset 11."""

WIDENED_SINCE = 11
WIDENED_SINCE_THEIR_CHANGE = {
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceSum"), 13),  # axes became an input
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), 13),  # one axis instead of all from there on
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "OneHot", "TopK", "ScatterND"), 11),
    **dict.fromkeys(("Einsum", "ReverseSequence"), 12),
}
"""Operators that changed once, in that opset, and got more element types or optional attributes since."""

REDUCE_AXES_ARE_INPUTS_SINCE = 18
"""Of all other reductions."""


def function_body(view: GraphView, node: Node) -> Graph | None:
    """The nodes that compute what ``node`` computes, or None where the standard gives no body.

    The graph's inputs and outputs are the node's own values; everything else in it is new, named after the node.
    """
    if any(True for _ in node.subgraphs()):
        return None
    try:
        model = node_model(view, node)
        function = _function(view, node, model.graph.node[0])
        if function is None:
            return None
        graph = OnnxFrontend().load(_calling(model, function).SerializeToString(), path=None)
        optimize(graph)
    except MaceError as error:
        _log.info("the body of node '%s' (%s) is not used: %s", node.name, node.qualified_op, error)
        return None
    return _spliced(graph, node)


def _function(view: GraphView, node: Node, proto: onnx.NodeProto) -> onnx.FunctionProto | None:
    """The body under the view's opset and types."""
    version = view.opset(node.domain)
    if not onnx.defs.has(node.op_type, node.domain):
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        found = onnx.FunctionProto()
        found.CopyFrom(_newest(schema, version) or schema.function_body)
    elif schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        if not versions:
            return None
        types = [_type_bytes(None if v is None else view.type(v)) for v in node.inputs]
        blob = schema.get_context_dependent_function_with_opset_version(max(versions), proto.SerializeToString(), types)
        found = onnx.FunctionProto.FromString(blob)
    else:
        return None
    _lift_opset(found, version)
    known = {*found.attribute, *(attribute.name for attribute in found.attribute_proto)}
    kept = [attribute for attribute in proto.attribute if attribute.name in known]
    given = {attribute.name for attribute in kept}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if name in known and name not in given and default.type != onnx.AttributeProto.UNDEFINED:
            kept.append(default)
    del proto.attribute[:]
    proto.attribute.extend(kept)
    return found if found.node else None


def _type_bytes(type: ValueType | None) -> bytes:
    """A type as ONNX writes it; empty where nothing is known."""
    proto = onnx.TypeProto()
    if type is not None:
        export_type(type, proto)
    return bytes(proto.SerializeToString())


def _lift_opset(function: onnx.FunctionProto, version: int) -> None:
    """Let a body written for an older opset pass for ``version`` where its operators still mean the same.

    What is left as it is, the importer refuses where an operator has changed.
    """
    for entry in function.opset_import:
        is_older = entry.domain in ("", "ai.onnx") and WIDENED_SINCE <= entry.version < version
        if is_older and all(_means_the_same(node, entry.version, version) for node in function.node):
            entry.version = version


def _means_the_same(node: onnx.NodeProto, old: int, new: int) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return True
    if node.op_type in WIDENED_ONLY:
        return True
    if old >= WIDENED_SINCE_THEIR_CHANGE.get(node.op_type, new):
        return True
    if node.op_type.startswith("Reduce"):
        if old >= REDUCE_AXES_ARE_INPUTS_SINCE:
            return True  # element types only
        return len(node.input) == 1 and all(attribute.name != "axes" for attribute in node.attribute)
    try:
        versions = {onnx.defs.get_schema(node.op_type, version).since_version for version in (old, new)}
    except onnx.defs.SchemaError:
        return False
    return len(versions) == 1


def _newest(schema: onnx.defs.OpSchema, version: int) -> onnx.FunctionProto | None:
    versions = [v for v in schema.function_opset_versions if v <= version]
    if not versions:
        return None
    blob = schema.get_function_with_opset_version(max(versions))
    return onnx.FunctionProto.FromString(blob) if blob else None


def _calling(model: onnx.ModelProto, function: onnx.FunctionProto) -> onnx.ModelProto:
    """The one-node model with the node turned into a call of ``function``."""
    function.domain, function.name = BODY_DOMAIN, "Body"
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for entry in function.opset_import:
        versions.setdefault(entry.domain, entry.version)
    call = model.graph.node[0]
    call.domain, call.op_type = BODY_DOMAIN, "Body"
    versions[BODY_DOMAIN] = 1
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    model.functions.append(function)
    return model


def _spliced(graph: Graph, node: Node) -> Graph:
    """``graph`` with the node's values at its ends and names that are unique around the node."""
    ends: dict[Value, Value] = {}
    for own in graph.inputs:
        actual = node.inputs[int(own.name[1:])]
        assert actual is not None
        ends[own] = actual
    wanted = [value for value in node.outputs if value is not None]
    made = {value for inner in graph.nodes for value in inner.outputs}
    copies: list[tuple[Value, Value]] = []
    for own, actual in zip(graph.outputs, wanted, strict=True):
        if own in made and own not in ends:
            ends[own] = actual
        else:
            copies.append((own, actual))
    _rename(graph, f"{node.name}/", node.source)
    _replace(graph, ends)
    for index, (own, actual) in enumerate(copies):
        copy = Node("Identity", [ends.get(own, own)], [None], name=f"{node.name}/Identity_{index}", source=node.source)
        copy.outputs[0] = actual  # without becoming its producer: the original node stays that
        graph.nodes.append(copy)
    graph.inputs = list(dict.fromkeys(value for value in node.inputs if value is not None))
    graph.outputs = wanted
    return graph


def _rename(graph: Graph, prefix: str, source: tuple[str, ...]) -> None:
    values = {*graph.inputs, *graph.outputs, *graph.initializers.values()}
    for node in graph.nodes:
        if not node.name.startswith(prefix):
            node.name = prefix + node.name
        node.source = source
        values.update(value for value in (*node.inputs, *node.outputs) if value is not None)
        for nested in node.subgraphs():
            _rename(nested, prefix, source)
    for value in values:
        if not value.name.startswith(prefix):
            value.name = prefix + value.name


def _replace(graph: Graph, ends: Mapping[Value, Value]) -> None:
    for node in graph.nodes:
        node.inputs = [None if value is None else ends.get(value, value) for value in node.inputs]
        node.outputs = [None if value is None else ends.get(value, value) for value in node.outputs]
        for nested in node.subgraphs():
            _replace(nested, ends)
    graph.outputs = [ends.get(value, value) for value in graph.outputs]

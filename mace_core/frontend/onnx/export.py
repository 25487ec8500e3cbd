"""Writing a Graph as an ONNX model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx

from mace_core.errors import ModelError, UsageError
from mace_core.frontend.onnx.origins import write_origin
from mace_core.frontend.onnx.payloads import ExternalPayloads, PayloadWriter, StreamedPayloads
from mace_core.frontend.onnx.protos import constants_of, write_attribute, write_payload
from mace_core.frontend.onnx.types import export_type
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.host.files import replacing, replacing_together
from mace_core.tensor import DType, Tensor, ValueType
from mace_core.version import VERSION

MAX_INLINE_BYTES = 1_500_000_000
"""Weights beyond this go to a file of their own unless told otherwise: a protobuf message holds 2 GB at most."""

# Values need not be graph inputs to be initializers since IR version 4; narrow kinds came with later ones.
_LOWEST_IR_VERSION = 4
_IR_VERSION_OF_DTYPE = {
    DType.FLOAT8E4M3FN: 9,
    DType.FLOAT8E4M3FNUZ: 9,
    DType.FLOAT8E5M2: 9,
    DType.FLOAT8E5M2FNUZ: 9,
    DType.UINT4: 10,
    DType.INT4: 10,
    DType.FLOAT4E2M1: 11,
    DType.FLOAT8E8M0: 12,
    DType.UINT2: 13,
    DType.INT2: 13,
    DType.FLOAT6E2M3: 14,
    DType.FLOAT6E3M2: 14,
}


def to_onnx(graph: Graph, types: Mapping[Value, ValueType] | None = None) -> onnx.ModelProto:
    """The graph as a model with all weights in it.

    Imported again it gives an equal graph, but for what ONNX cannot say: a graph without a name is called ``graph``,
    an output that is repeated, or taken from an outer graph by a nested one, gets an Identity node.

    Args:
        graph: an outermost graph.
        types: types to write instead of the values' own, for example those of one input signature.

    Raises:
        UsageError: if the graph imports no opset.
        ModelError: if a node reads a value that nothing defines.
    """
    return _Exporter(types or {}, write_payload).model(graph)


def save_onnx(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    types: Mapping[Value, ValueType] | None = None,
    external_data: bool | None = None,
) -> None:
    """Write the graph to ``path``; the file appears whole or not at all.

    Args:
        graph: an outermost graph.
        path: the model file; an existing one is replaced.
        types: as for :func:`to_onnx`.
        external_data: put weights of 1 KiB and more into ``<path>.data`` beside it.  None: if they exceed 1.5 GB.

    Raises:
        UsageError, ModelError: as :func:`to_onnx`; ModelError too if the files cannot be written.
    """
    target = Path(path)
    if external_data is None:
        total = sum(
            v.constant.nbytes for g in _graphs(graph) for v in g.initializers.values() if v.constant is not None
        )
        external_data = total > MAX_INLINE_BYTES
    try:
        if not external_data:
            streamed = StreamedPayloads()
            model = _Exporter(types or {}, streamed, nested=write_payload).model(graph)
            with replacing(target) as file:
                streamed.write(model, file)
            return
        data_path = data_path_of(target)
        with replacing_together(data_path, target) as (data, file):
            model = _Exporter(types or {}, ExternalPayloads(data, data_path.name)).model(graph)
            file.write(_serialized(model, target))
    except OSError as error:
        raise ModelError(f"the model cannot be written to '{target}': {error.strerror or error}") from error


def file_size(graph: Graph) -> int:
    """At most so many bytes does `save_onnx` write for a graph, weights beside the model included."""
    streamed = StreamedPayloads()
    return streamed.size(_Exporter({}, streamed, nested=write_payload).model(graph))


def data_path_of(path: Path) -> Path:
    """Where `save_onnx` puts the weights of the model at ``path`` that do not fit into it."""
    return path.with_name(path.name + ".data")


class _Exporter:
    def __init__(
        self, types: Mapping[Value, ValueType], payloads: PayloadWriter, *, nested: PayloadWriter | None = None
    ) -> None:
        """``nested`` writes what the initializers of nested graphs hold; ``payloads`` too unless it is given."""
        self._types = types
        self._write_payload = payloads
        self._write_nested = nested or payloads
        self._names: dict[Value, str] = {}
        self._used: set[str] = set()
        self._node_names: set[str] = set()
        self._dtypes: set[DType] = set()
        self._next: dict[str, int] = {}
        self._outermost = Graph()

    def model(self, graph: Graph) -> onnx.ModelProto:
        self._outermost = graph
        imports = dict(graph.opset_imports)
        domains = {node.domain for g in _graphs(graph) for node in g.nodes}
        if not imports or ("" in domains and "" not in imports):
            raise UsageError(f"graph '{graph.name}' does not say which opset it is written for (opset_imports)")
        for domain in sorted(domains):
            imports.setdefault(domain, 1)
        self._node_names = {node.name for g in _graphs(graph) for node in g.nodes}
        model = onnx.ModelProto(producer_name="mace", producer_version=VERSION, doc_string=graph.doc_string)
        self._graph(graph, model.graph, ())
        for domain, version in imports.items():
            model.opset_import.add(domain=domain, version=version)
        for key, value in graph.metadata.items():
            model.metadata_props.add(key=key, value=value)
        needed = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
        model.ir_version = max(_LOWEST_IR_VERSION, needed, *(_IR_VERSION_OF_DTYPE.get(d, 0) for d in self._dtypes), 0)
        return model

    def _graph(self, graph: Graph, proto: onnx.GraphProto, outer: tuple[set[str], ...]) -> None:
        taken: set[str] = set()
        scopes = (*outer, taken)
        proto.name = graph.name or "graph"
        if outer:
            proto.doc_string = graph.doc_string
        own: set[Value] = set()
        for value in (*graph.initializers.values(), *graph.inputs):
            own.add(value)
            self._name(value, scopes)
        for node in graph.nodes:
            for output in node.outputs:
                if output is not None:
                    own.add(output)
                    self._name(output, scopes)
        for value in graph.initializers.values():
            if value.constant is None:
                raise ModelError(f"initializer '{value.name}' of graph '{graph.name}' has no content")
            write = self._write_nested if outer else self._write_payload
            self._tensor(value.constant, proto.initializer.add(name=self._names[value]), write)
        for value in graph.inputs:
            self._value_info(value, self._names[value], proto.input.add())
        for name, type in graph.defaults.items():
            default = graph.initializers.get(name)
            if default is not None:  # where it is gone, nobody reads it any more
                info = proto.input.add(name=self._names[default])
                export_type(type, info.type)
        for node in graph.nodes:
            self._node(node, proto.node.add(), scopes)
        self._outputs(graph, proto, own, scopes)
        listed = {*graph.inputs, *graph.outputs}
        for node in graph.nodes:
            for output in node.outputs:
                if output is not None and output not in listed and self._type(output) is not None:
                    self._value_info(output, self._names[output], proto.value_info.add())

    def _outputs(self, graph: Graph, proto: onnx.GraphProto, own: set[Value], scopes: tuple[set[str], ...]) -> None:
        seen: set[Value] = set()
        for value in graph.outputs:
            name = self._read(value, f"graph '{graph.name}' returns", scopes)
            if value in seen or value not in own:
                copy = self._free(f"{name}_output", scopes)
                node_name = self._free_node(f"{name}_output")
                proto.node.add(op_type="Identity", name=node_name, input=[name], output=[copy])
                name = copy
            seen.add(value)
            self._value_info(value, name, proto.output.add())

    def _node(self, node: Node, proto: onnx.NodeProto, scopes: tuple[set[str], ...]) -> None:
        proto.op_type, proto.domain, proto.name = node.op_type, node.domain, node.name
        reader = f"node '{node.name}' ({node.qualified_op}) reads"
        proto.input.extend("" if v is None else self._read(v, reader, scopes) for v in node.inputs)
        proto.output.extend("" if v is None else self._names[v] for v in node.outputs)
        for name, attribute in node.attributes.items():
            self._attribute(name, attribute, proto.attribute.add(), scopes)
        if (origin := self._outermost.origin_of(node)) is not None:
            write_origin(origin, proto)

    def _attribute(
        self, name: str, attribute: Attribute, proto: onnx.AttributeProto, scopes: tuple[set[str], ...]
    ) -> None:
        proto.name, proto.type = name, attribute.kind.value
        match attribute.kind:
            case AttributeKind.GRAPH:
                self._graph(attribute.value, proto.g, scopes)
            case AttributeKind.GRAPHS:
                for graph in attribute.value:
                    self._graph(graph, proto.graphs.add(), scopes)
            case _:
                self._dtypes.update(tensor.dtype for tensor in constants_of(attribute))
                write_attribute(name, attribute, proto)

    def _tensor(self, tensor: Tensor, proto: onnx.TensorProto, write: PayloadWriter) -> None:
        self._dtypes.add(tensor.dtype)
        proto.data_type = tensor.dtype.value
        proto.dims.extend(tensor.shape)
        write(tensor, proto)

    def _value_info(self, value: Value, name: str, proto: onnx.ValueInfoProto) -> None:
        proto.name = name
        type = self._type(value)
        if type is not None:
            export_type(type, proto.type)

    def _type(self, value: Value) -> ValueType | None:
        return self._types.get(value, value.type)

    # --- names -------------------------------------------------------------------------------------------------------

    def _name(self, value: Value, scopes: tuple[set[str], ...]) -> None:
        """Give ``value`` its name, or one like it where that is taken already."""
        if value in self._names:
            raise ModelError(f"'{value.name}' is defined twice")
        self._names[value] = self._free(value.name or "value", scopes)

    def _free(self, wanted: str, scopes: tuple[set[str], ...]) -> str:
        name = wanted
        while any(name in scope for scope in scopes) or (name != wanted and name in self._used):
            name = self._numbered(wanted)
        scopes[-1].add(name)
        self._used.add(name)
        return name

    def _free_node(self, wanted: str) -> str:
        name = wanted
        while name in self._node_names:
            name = self._numbered(wanted)
        self._node_names.add(name)
        return name

    def _numbered(self, wanted: str) -> str:
        number = self._next.get(wanted, 0) + 1
        self._next[wanted] = number
        return f"{wanted}_{number}"

    def _read(self, value: Value, reader: str, scopes: tuple[set[str], ...]) -> str:
        name = self._names.get(value)
        if name is None or not any(name in scope for scope in scopes):
            raise ModelError(f"{reader} '{value.name}', which nothing defines there")
        return name


def _serialized(model: onnx.ModelProto, target: Path) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except Exception as error:  # protobuf's implementations raise kinds of their own
        raise ModelError(
            f"the model for '{target}' does not fit into one file ({error}): save it with external_data=True"
        ) from error


def _graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for nested in node.subgraphs():
            yield from _graphs(nested)

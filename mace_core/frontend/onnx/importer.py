"""Building a Graph from a parsed ONNX model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.onnx.attributes import Bindings, Bound, attribute_kind, plain_value
from mace_core.frontend.onnx.functions import MAX_INLINED_NODES, FunctionKey, FunctionLibrary
from mace_core.frontend.onnx.origins import OriginReader
from mace_core.frontend.onnx.schemas import STANDARD_DOMAINS, SchemaChecker, newest_opset, standard_domain
from mace_core.frontend.onnx.tensors import TensorReader
from mace_core.frontend.onnx.text import text
from mace_core.frontend.onnx.types import import_type
from mace_core.frontend.scope import Frame, Names, Scope
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.tensor import TensorType, ValueType

if TYPE_CHECKING:
    import onnx

NEWEST_IR_VERSION_WITHOUT_OPSETS = 2

FIRST_IR_VERSION_WITH_DEFAULTS = 4


@dataclass(frozen=True, slots=True)
class _Place:
    """Where nodes are read from and put: names, the graph being filled, what attribute references mean, the calls."""

    scope: Scope
    frame: Frame
    bindings: Bindings | None  # None outside functions
    prefix: str  # of names made from names inside functions
    source: tuple[str, ...] | None  # the node of the file that all nodes here stand for, inside functions
    calls: tuple[FunctionKey, ...]


class Importer:
    """Builds the Graph of one model.

    Constants are what the file calls initializers.  Those that are listed as graph inputs too are the defaults of
    optional inputs since IR version 4; before, every initializer had to be listed, and onnxruntime takes them for
    constants.
    """

    def __init__(self, model: onnx.ModelProto, reader: TensorReader, label: str) -> None:
        """``model`` may be stripped of payloads that ``reader`` finds; ``label`` names the model in messages."""
        self._model = model
        self._reader = reader
        self._label = label
        self._schemas = SchemaChecker(label)
        self._names = Names()
        self._functions = FunctionLibrary(model, label)
        self._opsets: dict[str, int] = {}
        self._inlined = 0
        self._origins = OriginReader(model)
        self._outermost = Graph(text(model.graph.name))

    def build(self) -> Graph:
        """The graph.

        Raises:
            ModelError: if the model is not valid.
            UnsupportedModelError: if it needs something this version does not know.
        """
        model = self._model
        if not model.HasField("graph"):
            raise ModelError(f"{self._label} contains no graph: it is not an ONNX model, or only part of one")
        self._read_versions()
        for name in _node_names(model.graph):
            self._names.reserve_node(name)
        place = _Place(Scope(), Frame(self._outermost, None), None, "", None, ())
        graph = self._fill(model.graph, place)
        used = {node.domain for node in _all_nodes(graph)}
        graph.opset_imports = {
            domain: version
            for domain, version in self._opsets.items()
            if domain in used or domain not in self._functions.domains
        }
        graph.metadata = {text(entry.key): text(entry.value) for entry in model.metadata_props}
        graph.doc_string = text(model.doc_string) or graph.doc_string
        return graph

    # --- versions ----------------------------------------------------------------------------------------------------

    def _read_versions(self) -> None:
        import onnx

        model = self._model
        if model.ir_version > onnx.IR_VERSION:
            raise UnsupportedModelError(
                f"{self._label} has ONNX IR version {model.ir_version}; the newest that the installed onnx package "
                f"{onnx.__version__} knows is {onnx.IR_VERSION}; upgrade it with: pip install -U onnx"
            )
        for entry in model.opset_import:
            domain = standard_domain(text(entry.domain))
            newest = newest_opset(domain)
            if newest is not None and entry.version > newest:
                raise UnsupportedModelError(
                    f"{self._label} needs opset {entry.version} of domain '{domain or 'ai.onnx'}'; the newest that the "
                    f"installed onnx package {onnx.__version__} knows is {newest}; "
                    "upgrade it with: pip install -U onnx"
                )
            if entry.version < 1:
                raise ModelError(f"{self._label} imports opset {entry.version} of domain '{domain or 'ai.onnx'}'")
            if self._opsets.setdefault(domain, entry.version) != entry.version:
                raise ModelError(f"{self._label} imports two opset versions of domain '{domain or 'ai.onnx'}'")
        if not self._opsets:
            if model.ir_version > NEWEST_IR_VERSION_WITHOUT_OPSETS:
                raise ModelError(f"{self._label} does not say which opset it is written for: it may be truncated")
            self._opsets[""] = 1

    def _opset(self, domain: str, where: str) -> int:
        version = self._opsets.get(domain)
        if version is not None:
            return version
        if domain in STANDARD_DOMAINS:
            raise ModelError(
                f"{self._label}: {where} is of domain '{domain or 'ai.onnx'}', of which the model imports no opset"
            )
        self._opsets[domain] = 1  # many exporters forget custom domains; they have one version
        return 1

    # --- graphs ------------------------------------------------------------------------------------------------------

    def _fill(self, proto: onnx.GraphProto, place: _Place) -> Graph:
        graph = place.frame.graph
        graph.doc_string = text(proto.doc_string)
        self._add_initializers(proto, place)
        types = {info.name: info.type for info in proto.value_info}
        for info in proto.input:
            self._add_input(info, graph, place)
        for info in proto.output:
            if info.HasField("type"):
                types[info.name] = info.type
        results = [[self._define(name, types, place) for name in node.output] for node in proto.node]
        for node, outputs in zip(proto.node, results, strict=True):
            self._add_node(node, outputs, place)
        for info in proto.output:
            found, value = place.scope.find(info.name)
            if not found or value is None:
                raise ModelError(f"{self._label}: nothing computes the output '{info.name}' of graph '{proto.name}'")
            graph.outputs.append(value)
        self._order(graph)
        return graph

    def _add_initializers(self, proto: onnx.GraphProto, place: _Place) -> None:
        for tensor in proto.initializer:
            constant = self._reader.read(tensor, f"initializer '{tensor.name}'")
            self._add_constant(tensor.name, constant, place)
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            self._add_constant(name, self._reader.read_dense(sparse, f"sparse initializer '{name}'"), place)

    def _add_constant(self, name: str, constant: Any, place: _Place) -> None:
        if not name:
            raise ModelError(f"{self._label}: an initializer of graph '{place.frame.graph.name}' has no name")
        value = self._new_value(name, None, place)
        value.constant, value.type = constant, Value(name, constant=constant).type
        place.frame.graph.initializers[value.name] = value

    def _add_input(self, info: onnx.ValueInfoProto, graph: Graph, place: _Place) -> None:
        known = place.scope.values.get(info.name)
        if known is not None and known.constant is not None:
            if self._model.ir_version >= FIRST_IR_VERSION_WITH_DEFAULTS and graph is self._outermost:
                declared = import_type(info.type, f"{self._label}: '{info.name}'")
                graph.defaults[known.name] = self._default_type(known, declared)
            return
        if not info.name:
            raise ModelError(f"{self._label}: an input of graph '{graph.name}' has no name")
        graph.inputs.append(self._new_value(info.name, info.type, place))

    def _default_type(self, value: Value, declared: ValueType | None) -> ValueType:
        """The type of an optional input: as declared, which its default has to fit."""
        own = value.type
        assert isinstance(own, TensorType)  # every constant has one
        if declared is None:
            return own
        if not isinstance(declared, TensorType) or declared.dtype is not own.dtype or not _fits(own, declared):
            raise ModelError(f"{self._label}: the input '{value.name}' is {declared}, and its default is {own}")
        return declared

    def _define(self, name: str, types: dict[str, onnx.TypeProto], place: _Place) -> Value | None:
        return self._new_value(name, types.get(name), place) if name else None

    def _new_value(self, name: str, type: onnx.TypeProto | None, place: _Place) -> Value:
        name = text(name)
        if name in place.scope.values:
            raise ModelError(f"{self._label}: '{name}' is defined twice; every name may be defined only once")
        inside_function = place.source is not None
        unique = self._names.value(place.prefix + name, place.frame, of_file=not inside_function)
        value = Value(unique, None if type is None else import_type(type, f"{self._label}: '{name}'"))
        place.scope.values[name] = value
        return value

    def _order(self, graph: Graph) -> None:
        """Sort the nodes unless they are in order, as they should be."""
        done: set[Node] = set()
        own = set(graph.nodes)
        for node in graph.nodes:
            read = [*node.inputs, *(captured_values(node) if node.attributes else ())]
            if any(v is not None and v.producer in own and v.producer not in done for v in read):
                break
            done.add(node)
        else:
            return
        try:
            graph.sort()
        except ValueError as error:
            raise ModelError(f"{self._label}: {error}") from error

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _add_node(self, proto: onnx.NodeProto, outputs: list[Value | None], place: _Place) -> None:
        if place.source is not None:
            self._inlined += 1
            if self._inlined > MAX_INLINED_NODES:
                raise self._functions.too_many("functions are")
        domain, op_type = standard_domain(text(proto.domain)), text(proto.op_type)
        graph = place.frame.graph
        wanted = text(proto.name) or f"{op_type or 'node'}_{len(graph.nodes)}"
        of_file = bool(proto.name) and place.source is None
        name = self._names.node(place.prefix + wanted, of_file=of_file)
        where = f"node '{name}' ({f'{domain}.{op_type}' if domain else op_type})"
        if not op_type:
            raise ModelError(f"{self._label}: node '{name}' does not say which operator it is")
        inputs = [self._read_input(i, where, place) if i else None for i in proto.input]
        if place.source is None and (origin := self._origins.read(proto)) is not None:
            self._outermost.origins[text(proto.name) or name] = origin
        function = self._functions.find(domain, op_type, text(proto.overload))
        if function is not None:
            self._inline(function, proto, name, where, inputs, outputs, place)
            return
        attributes = self._attributes(proto, where, place)
        version = self._opset(domain, where)
        if place.calls:
            self._check_function_opset(domain, op_type, version, where, place.calls[-1])
        if domain in STANDARD_DOMAINS:
            self._schemas.check(where, domain, op_type, version, len(inputs), len(outputs), attributes)
        for index in self._schemas.left_out(domain, op_type, version, outputs):
            outputs[index] = Value(self._names.value(f"{name}/output_{index}", place.frame, of_file=False))
        if not domain and op_type == "Constant" and "sparse_value" in attributes:
            values, indices, dims = attributes.pop("sparse_value").value
            dense = self._reader.written_out(values, indices, dims, f"attribute 'sparse_value' of {where}")
            attributes["value"] = Attribute(AttributeKind.TENSOR, dense)
        source = place.source or (proto.name or name,)
        graph.nodes.append(
            Node(op_type, inputs, outputs, name=name, domain=domain, attributes=attributes, source=source)
        )

    def _read_input(self, name: str, where: str, place: _Place) -> Value | None:
        found, value = place.scope.find(name)
        if not found:
            raise ModelError(f"{self._label}: {where} reads '{name}', which nothing in the model defines")
        return value

    def _attributes(self, proto: onnx.NodeProto, where: str, place: _Place) -> dict[str, Attribute]:
        attributes: dict[str, Attribute] = {}
        for attribute in proto.attribute:
            name = text(attribute.name)
            if name in attributes:
                raise ModelError(f"{self._label}: {where} has the attribute '{name}' twice")
            bound = self._follow(attribute, where, place)
            if bound is not None:
                attributes[name] = self._attribute(bound, name, where, place)
        return attributes

    def _follow(self, attribute: onnx.AttributeProto, where: str, place: _Place) -> Bound | None:
        """The attribute itself or, for a reference, what the call gives; None if the call does not give it."""
        if not attribute.ref_attr_name:
            return Bound(attribute, place.scope, place.bindings)
        if place.bindings is None:
            raise ModelError(
                f"{self._label}: {where} refers to attribute '{attribute.ref_attr_name}' of a function, outside one"
            )
        return place.bindings.get(text(attribute.ref_attr_name))

    def _attribute(self, bound: Bound, name: str, where: str, place: _Place) -> Attribute:
        where = f"attribute '{name}' of {where}"
        proto = bound.proto
        kind = attribute_kind(proto)
        if kind is None:
            raise ModelError(f"{self._label}: {where} has no value of a known kind")
        value: Any
        if kind is AttributeKind.GRAPH:
            value = self._nested(proto.g, bound, place)
        elif kind is AttributeKind.GRAPHS:
            value = tuple(self._nested(graph, bound, place) for graph in proto.graphs)
        else:
            value = plain_value(proto, kind, self._reader, self._label, where)
        return Attribute(kind, value)

    def _nested(self, proto: onnx.GraphProto, bound: Bound, place: _Place) -> Graph:
        """A nested graph, reading names where it was written and filled in where it is used."""
        frame = Frame(Graph(text(proto.name)), place.frame)
        return self._fill(
            proto, _Place(Scope(bound.scope), frame, bound.bindings, place.prefix, place.source, place.calls)
        )

    # --- functions ---------------------------------------------------------------------------------------------------

    def _inline(
        self,
        function: onnx.FunctionProto,
        call: onnx.NodeProto,
        name: str,
        where: str,
        inputs: list[Value | None],
        outputs: list[Value | None],
        place: _Place,
    ) -> None:
        """Put the body of ``function`` in the place of ``call``."""
        self._functions.check_call(function, call, where, place.calls)
        self._functions.check_size(function)
        key = self._functions.key(function)
        bindings: Bindings = {default.name: Bound(default, Scope(), {}) for default in function.attribute_proto}
        for attribute in call.attribute:
            bound = self._follow(attribute, where, place)
            if bound is not None:
                bindings[attribute.name] = bound
        scope = Scope()
        for index, formal in enumerate(function.input):
            scope.values[formal] = inputs[index] if index < len(inputs) else None
        source = place.source or (call.name or name,)
        body = _Place(scope, place.frame, bindings, f"{name}/", source, (*place.calls, key))
        copies: list[tuple[str, Value]] = []  # outputs that are inputs, or the same as another output
        pending: dict[str, Value] = {}  # outputs the body has yet to define
        for formal, actual in zip(function.output, outputs, strict=False):
            if actual is None:
                continue
            if formal in scope.values or formal in pending:
                copies.append((formal, actual))
            else:
                pending[formal] = actual
        results = [[self._define_in_body(o, pending, body) for o in node.output] for node in function.node]
        for formal in pending:
            raise ModelError(f"{self._label}: the function of {where} does not compute its output '{formal}'")
        for node, values in zip(function.node, results, strict=True):
            self._add_node(node, values, body)
        for formal, actual in copies:
            original = scope.values[formal]
            if original is None:
                raise ModelError(f"{self._label}: {where} returns its input '{formal}', which the node omits")
            copy = self._names.node(f"{name}/Identity", of_file=False)
            place.frame.graph.nodes.append(Node("Identity", [original], [actual], name=copy, source=source))

    def _define_in_body(self, name: str, pending: dict[str, Value], body: _Place) -> Value | None:
        """What a node in a function's body computes: the call's own output where ``name`` is the function's."""
        if name not in pending:
            return self._define(name, {}, body)
        value = body.scope.values[name] = pending.pop(name)
        return value

    def _check_function_opset(self, domain: str, op_type: str, version: int, where: str, key: FunctionKey) -> None:
        wanted = self._functions.opset(key, domain)
        if wanted is None or wanted == version:
            return
        if domain in STANDARD_DOMAINS and self._schemas.same_operator(domain, op_type, wanted, version):
            return
        raise UnsupportedModelError(
            f"{self._label}: {where} is in function '{key[1]}', which is written for opset {wanted} of domain "
            f"'{domain or 'ai.onnx'}', but the model for opset {version}, where '{op_type}' may mean something else; "
            "convert the model to one opset"
        )


def _fits(own: TensorType, declared: TensorType) -> bool:
    """Whether a tensor of the type ``own`` is one of the type ``declared``."""
    if declared.shape is None or own.shape is None:
        return True
    return len(own.shape) == len(declared.shape) and all(
        not isinstance(wanted, int) or wanted == size for wanted, size in zip(declared.shape, own.shape, strict=True)
    )


def _node_names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.name:
            yield node.name
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _node_names(attribute.g)
            for nested in attribute.graphs:
                yield from _node_names(nested)


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for nested in node.subgraphs():
            yield from _all_nodes(nested)

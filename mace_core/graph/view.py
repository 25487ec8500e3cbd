"""What a provider sees of a graph: some nodes, with the concrete types of one input signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mace_core.graph.encodings import derive_encoding
from mace_core.graph.graph import Graph, Node, Value, captured_values
from mace_core.tensor import QuantEncoding, Tensor, TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.symbolic import Trace


class InPlace(NamedTuple):
    """An output that may be the input it comes from, longer: written into the same memory, where there is room.

    The input lies in memory for ``capacity`` entries along ``axis``: what comes before that axis is as far apart as in
    a dense tensor with that many.  The output, if it is computed in place, lies the same way and begins at the same
    address; its first entries are those of the input and stay as they are: a run that fails has destroyed nothing.

    Without an axis, both have one shape and are dense, and the output is written over the input; ``Execution.undo``
    then puts back what a run that is given up has written.

    Attributes:
        source: an input of the view.
        target: an output of the view.
        axis: along which ``target`` is longer than ``source``; all other sizes are equal.  None: all are.
        capacity: entries that there is room for, at least as many as ``target`` has; may be symbolic.
    """

    source: Value
    target: Value
    axis: int | None
    capacity: int


class GraphView:
    """A read-only window on nodes of a graph under one input signature.

    The whole graph is one view (``capability``), each partition another (``compile``).  Nodes and values reached
    through it must not be changed, and nothing of it may be kept past the call it was given to.

    Attributes:
        name: the subgraph's name, for messages and caches.
        nodes: in topological order.
        inputs: values computed outside that the nodes read, in a fixed order; constants are not among them.
        outputs: values the nodes compute that are needed outside, in a fixed order.
        trace: of the symbolic sizes in it; None where all sizes are numbers (since api 1.2).
        in_place: outputs that may be computed in the memory of an input; see ``CompiledSubgraph.in_place`` (since api
            1.2).
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        types: Mapping[Value, ValueType],
        known: Mapping[Value, Tensor],
        *,
        name: str = "",
        opset_imports: Mapping[str, int] | None = None,
        trace: Trace | None = None,
        in_place: Sequence[InPlace] = (),
    ) -> None:
        """``types`` are concrete where they can be; ``known`` are values fixed by the signature (shape arithmetic)."""
        self._graph = graph
        self.nodes = tuple(nodes)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._types = types
        self._known = known
        self.name = name
        self.trace = trace
        self.in_place = tuple(in_place)
        self.opset_imports = dict(opset_imports if opset_imports is not None else graph.opset_imports)
        self._users: dict[Value, list[Node]] | None = None
        self._output_index = {value: index for index, value in enumerate(self.outputs)}

    def retyped(self, types: Mapping[Value, ValueType], known: Mapping[Value, Tensor]) -> GraphView:
        """The same nodes under another signature; for the core."""
        return GraphView(
            self._graph,
            self.nodes,
            self.inputs,
            self.outputs,
            types,
            known,
            name=self.name,
            opset_imports=self.opset_imports,
        )

    def nested(self, body: Graph, outputs: Sequence[Value]) -> GraphView:
        """A view of the nodes in a nested graph of one of this view's nodes that ``outputs`` need (since api 1.2).

        Its inputs are what these nodes read, and what of ``outputs`` is computed, outside of the nested graph.  Where
        shapes inside could not be followed before the run, they are not known, whatever the model declares.
        """
        wanted = {value for value in outputs if self.constant(value) is None}
        nodes: list[Node] = []
        for node in reversed(body.nodes):
            if any(value in wanted for value in node.outputs):
                nodes.append(node)
                read = (*node.inputs, *captured_values(node))
                wanted.update(value for value in read if value is not None and self.constant(value) is None)
        nodes.reverse()
        made = {value for node in nodes for value in node.outputs}
        reads = (value for node in nodes for value in (*node.inputs, *captured_values(node)))
        inputs = dict.fromkeys(value for value in (*reads, *outputs) if value in wanted and value not in made)
        open_ = {
            value: TensorType(value.type.dtype)
            for value in made
            if value is not None and value not in self._types and isinstance(value.type, TensorType)
        }
        return GraphView(
            body,
            nodes,
            [value for value in inputs if value is not None],
            outputs,
            {**self._types, **open_} if open_ else self._types,
            self._known,
            name=f"{self.name}/{body.name}",
            opset_imports=self.opset_imports,
            trace=self.trace,
        )

    def type(self, value: Value) -> ValueType | None:
        """The value's type under this signature; None where it is unknown until run."""
        return self._types.get(value, value.type)

    def tensor_type(self, value: Value) -> TensorType | None:
        """The type where it is a tensor's, else None."""
        found = self.type(value)
        return found if isinstance(found, TensorType) else None

    def shape(self, value: Value) -> tuple[int, ...]:
        """The concrete shape.

        Raises:
            ValueError: where it is not known before the run.
        """
        found = self.tensor_type(value)
        if found is None:
            raise ValueError(f"the shape of '{value.name}' is not known before the run")
        return found.concrete_shape

    def constant(self, value: Value | None) -> Tensor | None:
        """The value's content if it is fixed: an initializer, or shape arithmetic this signature decides."""
        if value is None:
            return None
        return value.constant if value.constant is not None else self._known.get(value)

    def users(self, value: Value) -> Sequence[Node]:
        """Nodes of this view that read ``value``, those whose nested graphs capture it included."""
        if self._users is None:
            self._users = {}
            for node in self.nodes:
                for used in (*node.inputs, *captured_values(node)):
                    if used is not None:
                        self._users.setdefault(used, []).append(node)
        return self._users.get(value, ())

    def is_output(self, value: Value) -> bool:
        """Whether ``value`` is needed outside this view."""
        return value in self._output_index

    def output_index(self, value: Value) -> int:
        """The position of ``value`` among the outputs.

        Raises:
            KeyError: if it is none of them.
        """
        return self._output_index[value]

    def opset(self, domain: str = "") -> int:
        """The opset version of ``domain`` this graph is written for; 0 where it does not import it."""
        return self.opset_imports.get(domain, 0)

    def encoding(self, value: Value) -> QuantEncoding | None:
        """The quantization encoding of ``value``: it leaves a QuantizeLinear or enters a DequantizeLinear.

        Only encodings whose scale (and zero point) are constants are reported.
        """
        return derive_encoding(self, value)

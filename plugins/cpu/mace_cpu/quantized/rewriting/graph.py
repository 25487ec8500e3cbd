"""The graph while it is rewritten: nodes so far, floats that are known in steps, and why something stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, GraphView, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.tensor import DType, Tensor, TensorType
from mace_cpu.quantized.integer_form import INTEGERS, Encoding, Quantized
from mace_cpu.shared.registry import LOWERINGS


class Rewritten(GraphView):
    """A view with other nodes between the same inputs and outputs."""

    def __init__(self, view: GraphView, nodes: Sequence[Node]) -> None:
        vars(self).update(vars(view))
        self._users = None
        self.nodes = tuple(nodes)


class Rewriting:
    """What a pass over the nodes of a view has found and made so far.

    Attributes:
        view: what is rewritten; its nodes and values are never changed.
        nodes: what stands in the place of its nodes; those that nothing needs are dropped at the end.
        quantized: floats that quantized numbers stand for, as they are known.
        kept: values that others need by name: outputs, and what nested graphs read.
        refused: why a node is left as it is, by node.
    """

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self.nodes: list[Node] = []
        self.quantized: dict[Value, Quantized] = {}
        self.kept = {value for node in view.nodes for value in captured_values(node)} | set(view.outputs)
        self.refused: dict[Node, str] = {}
        self.producers = {value: node for node in view.nodes for value in node.outputs if value is not None}
        self._same: dict[Value, Value] = {}
        self._names: dict[str, int] = {}
        self._zeros: dict[Encoding, Value] = {}

    # --- values ---------------------------------------------------------------------------------------------------

    def current(self, value: Value | None) -> Value | None:
        """The value that stands in the place of ``value``."""
        while value is not None and value in self._same:
            value = self._same[value]
        return value

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.view.shape(value)

    def dtype(self, value: Value | None) -> DType | None:
        found = None if value is None else self.view.tensor_type(value)
        return None if found is None else found.dtype

    def is_concrete(self, value: Value | None) -> bool:
        found = None if value is None else self.view.tensor_type(value)
        return found is not None and found.is_concrete

    def number(self, value: Value | None) -> float | None:
        """A constant of one element, as it is or dequantized; None for anything else."""
        found = self.real(value)
        return float(found.reshape(())) if found is not None and found.size == 1 else None

    def real(self, value: Value | None) -> npt.NDArray[np.float32] | None:
        """The content of a float32 constant, as it is or dequantized with one scale; None for anything else."""
        if value is None:
            return None
        known = self.quantized.get(value)
        if known is not None and known.encoding.axis is None:
            content = self.view.constant(known.value)
            if content is None:
                return None
            steps = content.numpy().astype(np.int64) - known.encoding.zeros[0]
            return np.asarray(steps.astype(np.float32) * np.float32(known.encoding.scales[0]), np.float32)
        content = self.view.constant(value)
        return content.numpy() if content is not None and content.dtype is DType.FLOAT32 else None

    def is_only_read_by(self, value: Value, node: Node) -> bool:
        """Whether ``node`` alone, once, reads ``value``."""
        return value not in self.kept and list(self.view.users(value)) == [node]

    def constant(self, array: npt.NDArray[np.generic], name: str) -> Value:
        """A new constant."""
        return Value(self._name(name), constant=Tensor.from_numpy(np.ascontiguousarray(array).reshape(array.shape)))

    def zero_of(self, node: Node, encoding: Encoding) -> Value:
        """The zero point of a QuantizeLinear or DequantizeLinear as a value, which the node may leave out."""
        given = node.input(2)
        if given is not None:
            return given
        if encoding not in self._zeros:
            self._zeros[encoding] = self.constant(np.array(encoding.zeros, encoding.dtype.numpy), "zero point")
        return self._zeros[encoding]

    # --- nodes ----------------------------------------------------------------------------------------------------

    def keep(self, node: Node) -> None:
        """``node`` stays, reading what stands in the place of its inputs."""
        inputs = [self.current(value) for value in node.inputs]
        changed = any(new is not old for new, old in zip(inputs, node.inputs, strict=True))
        self.nodes.append(self.replaced(node, inputs=inputs) if changed else node)

    def share(self, value: Value, source: Value, node: Node) -> None:
        """``value``, the result of ``node``, is the same as ``source``."""
        if value in self.kept or value is source:
            self._append(_made("Identity", [source], [value], node.name, source=node.source))
        else:
            self._same[value] = source

    def add(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[Value | None],
        origin: Sequence[Node],
        *,
        domain: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> str | None:
        """Append a node if it can be lowered; else the reason why not.

        ``origin``: the nodes it stands for, the first of which names it.
        """
        source = tuple(dict.fromkeys(name for node in origin for name in node.source))
        node = _made(op_type, inputs, outputs, origin[0].name, domain=domain, attributes=attributes, source=source)
        lowering = LOWERINGS.find(domain, op_type)
        if lowering is None:
            return f"there is no kernel for {op_type.removeprefix('QLinear')} of quantized numbers"
        reason = lowering.check(self.view, node)
        if reason is None:
            self._append(node)
        return reason

    def add_table(self, source: Value, content: Value, result: Value, origin: Sequence[Node]) -> str | None:
        """Append the node that looks ``source`` up in a table, whose content is filled in later."""
        return self.add("Table", [source, content], [result], origin, domain=INTEGERS)

    def add_border(self, node: Node, numbers: Quantized, real: Value, attributes: Mapping[str, Attribute]) -> None:
        """Append the DequantizeLinear of ``numbers`` to ``real``, a result of ``node``."""
        name = self._name(f"{node.name}.reals")
        self._append(_made("DequantizeLinear", numbers.inputs, [real], name, attributes=attributes, source=node.source))

    def like(self, value: Value, dtype: DType, what: str = "steps") -> Value:
        """A new value of the shape of ``value`` and another type."""
        found = self.view.tensor_type(value)
        assert found is not None
        return Value(self._name(f"{value.name}.{what}"), TensorType(dtype, found.shape))

    @staticmethod
    def replaced(node: Node, inputs: Sequence[Value | None]) -> Node:
        """The same node with other inputs."""
        return _made(
            node.op_type,
            inputs,
            node.outputs,
            node.name,
            domain=node.domain,
            attributes=node.attributes,
            source=node.source,
        )

    def _append(self, node: Node) -> None:
        self.nodes.append(node)

    def _name(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return f"{name} ({count})"

    # --- the end --------------------------------------------------------------------------------------------------

    def needed(self) -> list[Node]:
        """The nodes that something outside needs, in order."""
        wanted: set[Value | None] = set(self.view.outputs)
        found: list[Node] = []
        for node in reversed(self.nodes):
            if any(value in wanted for value in node.outputs if value is not None):
                found.append(node)
                wanted.update(node.inputs)
                wanted.update(captured_values(node))
        found.reverse()
        return found


def integer(value: int) -> Attribute:
    return Attribute(AttributeKind.INT, value)


def integers(values: Iterable[int]) -> Attribute:
    return Attribute(AttributeKind.INTS, tuple(values))


def _made(
    op_type: str,
    inputs: Sequence[Value | None],
    outputs: Sequence[Value | None],
    name: str,
    *,
    domain: str = "",
    attributes: Mapping[str, Attribute] | None = None,
    source: tuple[str, ...] | None = None,
) -> Node:
    """A node that leaves the producers of its outputs alone, which belong to the model."""
    node = Node(op_type, inputs, (), name=name, domain=domain, attributes=dict(attributes or {}), source=source)
    node.outputs = list(outputs)
    return node

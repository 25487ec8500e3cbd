"""With precision float16, what a model computes in float16 is computed as if it were float32.

The kernels of that precision round factors to float16 and store between layers in float16 by themselves, and lie and
fuse as those of float32.  A model whose tensors are float16 has a rounding behind each operator, most of them as a Cast
in each direction, which would be steps of their own and keep layers apart.  Without them results are closer to what
exact arithmetic gives.  Inputs and outputs keep their type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Attribute, AttributeKind, GraphView, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.tensor.symbolic import SymbolicTensor
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.registry import LOWERINGS, Notes, before_lowering

NAMES_ITS_TYPE = frozenset({"to", "dtype", "output_dtype"})
"""Attributes that fix an element type: such nodes are left alone."""

QUANTIZED = ("Quantize", "Dequantize", "QLinear", "DynamicQuantize", "MatMulNBits", "GatherBlockQuantized")
"""How operators begin whose float16 is the type of a scale."""


@before_lowering(turn=0)
def compute_wide(view: GraphView, settings: Settings, _notes: Notes) -> GraphView:
    """``view`` without float16 but at its ends and where an operator needs it."""
    unit = settings.pair_unit
    if unit is None or unit.precision != "float16":
        return view
    if not any(_dtype(view, value) is DType.FLOAT16 for node in view.nodes for value in (*node.inputs, *node.outputs)):
        return view
    return _Widening(view).result()


def _dtype(view: GraphView, value: Value | None) -> DType | None:
    found = None if value is None else view.tensor_type(value)
    return None if found is None else found.dtype


class _Widened(GraphView):
    """A view with other nodes between the same inputs and outputs."""

    def __init__(self, view: GraphView, nodes: Sequence[Node]) -> None:
        vars(self).update(vars(view))
        self._users = None
        self.nodes = tuple(nodes)


class _Widening:
    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._nodes: list[Node] = []
        self._wide: dict[Value, Value] = {}  # what stands for a value as float32; also of those that are float32
        self._left: dict[Value, Node] = {}  # float16 that nothing holds yet, and whose result it is
        for node in view.nodes:
            self._visit(node)
        for value in view.outputs:
            self._hold(value)

    def result(self) -> GraphView:
        return _Widened(self._view, self._nodes)

    def _visit(self, node: Node) -> None:
        if node.op_type == "Cast" and not node.domain and self._cast(node):
            return
        wide = self._widened(node)
        if wide is None:
            for value in (*filter(self._is_half, node.inputs), *captured_values(node)):
                if value is not None:
                    self._hold(value)
            inputs = [
                value if value is None or self._is_half(value) else self._wide.get(value, value)
                for value in node.inputs
            ]
            changed = any(new is not old for new, old in zip(inputs, node.inputs, strict=True))
            self._nodes.append(_with(node, inputs, node.outputs) if changed else node)
            return
        self._nodes.append(wide)
        for value, result in zip(node.outputs, wide.outputs, strict=True):
            if value is not None and result is not None and value is not result:
                self._wide[value] = result
                self._left[value] = node

    def _cast(self, node: Node) -> bool:
        """Take a Cast between float16 and float32 for nothing; False where it is another one."""
        source, result = node.inputs[0], node.outputs[0]
        kinds = {_dtype(self._view, source), _dtype(self._view, result)}
        if source is None or result is None or not kinds <= {DType.FLOAT16, DType.FLOAT32}:
            return False
        known = self._view.constant(source) is not None
        if known and not self._is_half(source):
            return False
        wide = self._wide_of(source, node) if self._is_half(source) else self._wide.get(source, source)
        self._wide[result] = wide
        self._left[result] = node
        return True

    def _widened(self, node: Node) -> Node | None:
        """The node on float32, if it reads or makes float16 and can be computed so."""
        halves = [value for value in (*node.inputs, *node.outputs) if self._is_half(value)]
        if not halves or captured_values(node) or NAMES_ITS_TYPE & set(node.attributes):
            return None
        lowering = LOWERINGS.find(node.domain, node.op_type)
        if lowering is None or node.op_type.startswith(QUANTIZED) or not any(map(self._is_half, node.inputs)):
            return None
        before = len(self._nodes)
        known = set(self._wide)
        inputs = [
            value
            if value is None
            else self._wide_of(value, node)
            if self._is_half(value)
            else self._wide.get(value, value)
            for value in node.inputs
        ]
        outputs = [self._like(value) if self._is_half(value) else value for value in node.outputs]
        wide = _with(node, inputs, outputs)
        if lowering.check(self._view, wide) is None:
            return wide
        del self._nodes[before:]
        for value in set(self._wide) - known:
            del self._wide[value]
        return None

    def _is_half(self, value: Value | None) -> bool:
        return _dtype(self._view, value) is DType.FLOAT16

    def _wide_of(self, value: Value, reader: Node) -> Value:
        """What stands for a float16 value as float32."""
        if value not in self._wide:
            constant = self._view.constant(value)
            if constant is not None and not isinstance(constant, SymbolicTensor):
                array = constant.numpy().astype(np.float32)
                self._wide[value] = Value(f"{value.name}.float32", constant=Tensor.from_numpy(array))
            else:
                self._wide[value] = wide = self._like(value)
                self._nodes.append(_cast_node(reader, value, wide, DType.FLOAT32))
        return self._wide[value]

    def _like(self, value: Value | None) -> Value:
        assert value is not None
        found = self._view.tensor_type(value)
        assert found is not None
        return Value(f"{value.name}.float32", TensorType(DType.FLOAT32, found.shape))

    def _hold(self, value: Value) -> None:
        """See that ``value`` itself is there for who reads it."""
        node = self._left.pop(value, None)
        if node is not None:
            dtype = DType.FLOAT16 if self._is_half(value) else DType.FLOAT32
            self._nodes.append(_cast_node(node, self._wide[value], value, dtype))


def _cast_node(node: Node, source: Value, target: Value, dtype: DType) -> Node:
    attributes = {"to": Attribute(AttributeKind.INT, dtype.value)}
    made = Node("Cast", [source], (), name=f"{node.name}.{target.name}", attributes=attributes, source=node.source)
    made.outputs = [target]  # whose producer belongs to the model
    return made


def _with(node: Node, inputs: Sequence[Value | None], outputs: Sequence[Value | None]) -> Node:
    """The same node on other values."""
    made = Node(
        node.op_type, inputs, (), name=node.name, domain=node.domain, attributes=node.attributes, source=node.source
    )
    made.outputs = list(outputs)
    return made

"""Converting a float32 graph to a narrower float type.

Every operator whose schema takes the type computes in it; others keep float32, between Casts. Inputs and outputs of the
model keep their types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.quantization.editing import Editor
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, Tensor, TensorType, ValueType

_SCHEMA_NAMES = {DType.FLOAT16: "tensor(float16)", DType.BFLOAT16: "tensor(bfloat16)"}

_SAFE_IN_FLOAT = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Range", "Multinomial"}
)
"""Their results would be others in a narrower type, not just less exact."""


@dataclass(slots=True)
class Converted:
    """What was converted.

    Attributes:
        nodes: those that compute in the narrow type.
        floats: why each other node that computes floats stays in float32.
        clamped: constants with numbers beyond the range of the type, which were brought to its ends.
    """

    nodes: list[Node] = field(default_factory=list)
    floats: dict[Node, str] = field(default_factory=dict)
    clamped: list[str] = field(default_factory=list)


def convert_floats(
    graph: Graph, dtype: DType, types: Mapping[Value, ValueType], excluded: Mapping[Node, str]
) -> Converted:
    """Convert a graph in place.

    Args:
        dtype: FLOAT16 or BFLOAT16.
        types: of computed values, as far as they are known.
        excluded: nodes that stay in float32, each with the reason.
    """
    return _Conversion(graph, dtype, types, excluded).run()


class _Conversion:
    def __init__(
        self, graph: Graph, dtype: DType, types: Mapping[Value, ValueType], excluded: Mapping[Node, str]
    ) -> None:
        self.graph = graph
        self.dtype = dtype
        self.types = types
        self.excluded = excluded
        self.editor = Editor(graph)
        self.found = Converted()
        self.narrow: dict[Value, Value] = {}  # float32 -> the same in the narrow type
        self.wide: dict[Value, Value] = {}  # narrow -> the same in float32
        self.constants: dict[Value, Value] = {}
        self.nodes: list[Node] = []
        self.shapes: set[Node] = set()

    def run(self) -> Converted:
        outputs, self.shapes = set(self.graph.outputs), shape_arithmetic(self.graph)
        converted: set[Value] = set()  # values whose producers write the narrow type
        for node in list(self.graph.nodes):
            slots = self._slots(node)
            if slots is None:
                self._keep(node, converted)
                continue
            reads, writes = slots
            for index in reads:
                node.inputs[index] = self._narrowed(node.inputs[index], converted)
            for index in range(len(node.inputs)):
                value = node.inputs[index]
                if index not in reads and value is not None and value in converted:
                    node.inputs[index] = self._widened(value)
            self._retarget(node)
            self.nodes.append(node)
            for index in writes:
                value = node.outputs[index]
                if value is None:
                    continue
                if value in outputs:  # it keeps its name and type
                    inner = self.editor.value(f"{value.name}_{self.dtype.label}", self._typed(value))
                    node.outputs[index] = inner
                    inner.producer = node
                    converted.add(inner)
                    self.narrow[value] = inner
                    self._cast(inner, value, DType.FLOAT32)
                else:
                    value.type = self._typed(value)
                    converted.add(value)
            self.found.nodes.append(node)
        self.graph.nodes = self.nodes
        self.editor.sweep()
        return self.found

    def _slots(self, node: Node) -> tuple[list[int], list[int]] | None:
        """Which inputs and outputs are of the narrow type if the node computes in it; None if it does not."""
        is_float = any(self._is_float(value) for value in (*node.inputs, *node.outputs))
        reason = self._reason(node) if is_float else ""
        if not is_float or reason:
            if reason:
                self.found.floats[node] = reason
            return None
        schema = _schema(node, self.graph.opset_imports)
        if schema is None:
            self.found.floats[node] = f"what types {node.qualified_op} takes is not known"
            return None
        name = _SCHEMA_NAMES[self.dtype]
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        reads = [
            i for i, v in enumerate(node.inputs) if self._is_float(v) and name in _types_of(schema.inputs, i, allowed)
        ]
        writes = [
            i for i, v in enumerate(node.outputs) if self._is_float(v) and name in _types_of(schema.outputs, i, allowed)
        ]
        if not writes and not reads:
            self.found.floats[node] = f"{node.qualified_op} is not defined for {self.dtype.label} in this opset"
            return None
        mixed = {_parameter(schema.inputs, i) for i in reads} & {
            _parameter(schema.outputs, i) for i, v in enumerate(node.outputs) if self._is_float(v) and i not in writes
        }
        if mixed:
            self.found.floats[node] = f"{node.qualified_op} gives float32 for {self.dtype.label}"
            return None
        return reads, writes

    def _reason(self, node: Node) -> str:
        if node in self.excluded:
            return self.excluded[node]
        if node in self.shapes:
            return "it belongs to the arithmetic of shapes, which has to be exact"
        if any(True for _ in node.subgraphs()):
            return "control flow: its graphs stay in float32"
        if node.op_type in _SAFE_IN_FLOAT:
            return f"{node.op_type} makes other numbers in another type"
        unknown = [v for v in node.outputs if v is not None and self.types.get(v, v.type) is None]
        return f"the type of '{unknown[0].name}' is not known" if unknown else ""

    def _is_float(self, value: Value | None) -> bool:
        if value is None:
            return False
        type = self.types.get(value, value.type)
        return isinstance(type, TensorType) and type.dtype is DType.FLOAT32

    def _typed(self, value: Value) -> TensorType:
        type = self.types.get(value, value.type)
        return TensorType(self.dtype, type.shape if isinstance(type, TensorType) else None)

    def _keep(self, node: Node, converted: set[Value]) -> None:
        node.inputs = [self._widened(v) if v is not None and v in converted else v for v in node.inputs]
        replaced: dict[Value, Value] = {}
        for body in node.subgraphs():
            for value in body.captures():
                if value in converted:
                    replaced[value] = self._widened(value)
            _replace_captured(body, replaced)
        self.nodes.append(node)

    def _narrowed(self, value: Value | None, converted: set[Value]) -> Value | None:
        if value is None or value in converted:
            return value
        if value.constant is not None:
            return self._narrow_constant(value)
        if value not in self.narrow:
            self.narrow[value] = self.editor.value(f"{value.name}_{self.dtype.label}", self._typed(value))
            self._cast(value, self.narrow[value], self.dtype)
        return self.narrow[value]

    def _narrow_constant(self, value: Value) -> Value:
        if value not in self.constants:
            assert value.constant is not None
            array = value.constant.numpy()
            target = self.dtype.numpy
            if self.dtype is DType.FLOAT16:
                most = np.float32(np.finfo(np.float16).max)
                if array.size and (np.abs(np.where(np.isfinite(array), array, 0)) > most).any():
                    self.found.clamped.append(value.name)
                    array = np.where(np.isfinite(array), np.clip(array, -most, most), array)
            self.constants[value] = self.editor.constant(
                f"{value.name}_{self.dtype.label}", Tensor.from_numpy(np.asarray(array.astype(target), order="C"))
            )
        return self.constants[value]

    def _widened(self, value: Value) -> Value:
        if value not in self.wide:
            type = self.types.get(value, value.type)
            shape = type.shape if isinstance(type, TensorType) else None
            self.wide[value] = self.editor.value(f"{value.name}_float32", TensorType(DType.FLOAT32, shape))
            self._cast(value, self.wide[value], DType.FLOAT32)
        return self.wide[value]

    def _cast(self, source: Value, result: Value, dtype: DType) -> None:
        attributes = {"to": Attribute(AttributeKind.INT, dtype.value)}
        self.nodes.append(
            self.editor.node("Cast", [source], [result], name=f"{result.name}_Cast", attributes=attributes)
        )

    def _retarget(self, node: Node) -> None:
        """Casts and constants that say float32 say the narrow type."""
        key = {"Cast": "to", "EyeLike": "dtype", "Bernoulli": "dtype"}.get(node.op_type)
        if key is not None and node.attr(key) == DType.FLOAT32.value:
            node.attributes[key] = Attribute(AttributeKind.INT, self.dtype.value)
        if node.op_type == "ConstantOfShape":
            given = node.attr("value")
            numbers = np.zeros(1, np.float32) if given is None else given.numpy()
            tensor = Tensor.from_numpy(np.asarray(numbers.astype(self.dtype.numpy), order="C"))
            node.attributes["value"] = Attribute(AttributeKind.TENSOR, tensor)


def shape_arithmetic(graph: Graph) -> set[Node]:
    """Nodes that compute from the shapes of values, and not from their numbers."""
    made: set[Value] = set()
    found: set[Node] = set()
    for node in graph.nodes:
        computed = [value for value in node_reads(node) if value.constant is None]
        if node.op_type in ("Shape", "Size") or (computed and all(value in made for value in computed)):
            found.add(node)
            made.update(value for value in node.outputs if value is not None)
    return found


def _replace_captured(graph: Graph, replaced: Mapping[Value, Value]) -> None:
    for node in graph.nodes:
        node.inputs = [replaced.get(v, v) if v is not None else None for v in node.inputs]
        for body in node.subgraphs():
            _replace_captured(body, replaced)
    graph.outputs = [replaced.get(value, value) for value in graph.outputs]


def _schema(node: Node, opsets: Mapping[str, int]) -> Any:
    import onnx

    try:
        return onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return None


def _parameter(formals: Any, index: int) -> str:
    formal = formals[min(index, len(formals) - 1)]
    return str(formal.type_str)


def _types_of(formals: Any, index: int, allowed: Mapping[str, set[str]]) -> set[str]:
    """The types that an input or output may have by its schema."""
    name = _parameter(formals, index)
    return allowed.get(name, {name})

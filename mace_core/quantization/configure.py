"""Which nodes of a graph are quantized, which values get an encoding, and which of them share one."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mace_core.errors import UsageError
from mace_core.graph import Graph, Node, Value
from mace_core.quantization.operators import ACTIVATIONS, RULES, Form, OperatorRule
from mace_core.quantization.prepare import is_float_constant, label_of
from mace_core.tensor import DType, TensorType, ValueType


@dataclass(slots=True)
class Configuration:
    """What of a graph is quantized.

    Attributes:
        graph: the float graph.
        nodes: those that are quantized, in the order of the graph.
        floats: why each other node stays in float.
        values: computed values (and inputs of the graph) that are quantized; each with the one that stands for all
            that share its encoding.
        activations: by the product or sum before it, the Relu or Clip that is computed in the same step.
        biases: by the MatMul before it, the Add of a bias that is computed in the same step, in float.
        fixed: ranges that hold whatever is observed.
    """

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    floats: dict[Node, str] = field(default_factory=dict)
    values: dict[Value, Value] = field(default_factory=dict)
    activations: dict[Node, Node] = field(default_factory=dict)
    biases: dict[Node, Node] = field(default_factory=dict)
    fixed: dict[Value, tuple[float, float]] = field(default_factory=dict)

    def rule(self, node: Node) -> OperatorRule:
        """Of a node that is quantized."""
        return RULES[node.op_type]

    def groups(self) -> dict[Value, list[Value]]:
        """The values that share an encoding, by the one that stands for them."""
        found: dict[Value, list[Value]] = {}
        for value, leader in self.values.items():
            found.setdefault(leader, []).append(value)
        return found


def data_inputs(node: Node) -> list[Value]:
    """Those inputs of a node with a rule that are quantized: computed ones and constants."""
    rule = RULES[node.op_type]
    indices = range(len(node.inputs)) if rule.data is None else rule.data
    found = (node.input(index) for index in indices)
    return [value for value in found if value is not None]


def excluded_nodes(graph: Graph, patterns: Sequence[str]) -> dict[Node, str]:
    """The nodes that a pattern names, by name or operator type (``*`` and ``?`` allowed), each with that as the reason.

    Raises:
        UsageError: for a pattern that names none.
    """
    found: dict[Node, str] = {}
    for pattern in patterns:
        named = [
            node
            for node in graph.nodes
            if any(fnmatch.fnmatchcase(name, pattern) for name in (node.name, node.op_type, *node.source))
        ]
        if not named:
            raise UsageError(
                f"--exclude {pattern}: {label_of(graph)} has no node of that name or operator type; "
                "`mace inspect` lists them"
            )
        found |= dict.fromkeys(named, f"excluded by '{pattern}'")
    return found


def configure(
    graph: Graph,
    types: Mapping[Value, ValueType],
    *,
    excluded: Mapping[Node, str],
    shape_values: Collection[Value] = (),
) -> Configuration:
    """Decide what to quantize.

    Products (Conv, Gemm, MatMul …) are, where their operands are float32. Elementwise operators and pools are, where
    every value they read is quantized for another reason: an integer step between two in float would gain nothing.
    Operators that move numbers follow their input.

    Args:
        types: of values, as far as they are known.
        excluded: nodes that stay in float, each with the reason.
        shape_values: those that shape arithmetic decides.
    """
    return _Choice(graph, types, excluded, shape_values).run()


class _Choice:
    def __init__(
        self,
        graph: Graph,
        types: Mapping[Value, ValueType],
        excluded: Mapping[Node, str],
        shape_values: Collection[Value],
    ) -> None:
        self.graph = graph
        self.types = types
        self.excluded = excluded
        self.shape_values = shape_values
        self.users = graph.users()
        self.outputs = set(graph.outputs)
        self.found = Configuration(graph)
        self.quantized: set[Node] = set()
        self.values: dict[Value, None] = {}
        self.leaders: dict[Value, Value] = {}

    def run(self) -> Configuration:
        for node in self.graph.nodes:
            reason = self._reason_against(node)
            if reason:
                self.found.floats[node] = reason
            elif RULES[node.op_type].form is Form.PRODUCT:
                self._choose(node)
        changed = True
        while changed:  # what one node makes quantized may let another follow, before it and after it
            before = len(self.quantized)
            for node in self.graph.nodes:
                if node not in self.quantized and node not in self.found.floats and self._follows(node):
                    self._choose(node)
            changed = len(self.quantized) > before
        self._leave_loose_ends()
        for node in self.graph.nodes:
            if node not in self.quantized and node not in self.found.floats:
                self.found.floats[node] = self._reason_left(node)
        self._join_steps()
        self._share()
        self.found.nodes = [node for node in self.graph.nodes if node in self.quantized]
        self.found.values = {value: self._leader(value) for value in self.values}
        return self.found

    def _reason_left(self, node: Node) -> str:
        """Why a node that could be quantized is not."""
        computed = [value for value in data_inputs(node) if value.constant is None]
        if self._only_ends(node) and all(value in self.values for value in computed):
            return "it computes an output of the model, which is exact so"
        return "what it reads is in float, so a step in integers would gain nothing"

    def _leave_loose_ends(self) -> None:
        """Put back to float what only nodes in float read: rounding its result would cost accuracy and gain nothing."""
        for node in reversed(self.graph.nodes):
            if node not in self.quantized or RULES[node.op_type].form is Form.PRODUCT:
                continue
            if self._is_same_step(node):
                continue
            outputs = [value for value in node.outputs if value is not None]
            readers = [reader for value in outputs for reader in self.users.get(value, ())]
            if readers and not any(value in self.outputs for value in outputs) and not self.quantized & set(readers):
                self.quantized.discard(node)
                self.found.floats[node] = "what reads its result is in float, so a step in integers would gain nothing"
        chosen = [node for node in self.graph.nodes if node in self.quantized]
        self.quantized, self.values = set(), {}
        for node in chosen:
            self._choose(node)

    def _choose(self, node: Node) -> None:
        self.quantized.add(node)
        for value in data_inputs(node):
            if value.constant is None:
                self.values.setdefault(value)
        for output in node.outputs:
            if output is not None:
                self.values.setdefault(output)

    def _reason_against(self, node: Node) -> str:
        """Why a node cannot be quantized; empty if it can."""
        if node in self.excluded:
            return self.excluded[node]
        if any(True for _ in node.subgraphs()):
            return "control flow: its graphs stay in float"
        rule = RULES.get(node.op_type) if not node.domain else None
        if rule is None:
            return f"{node.qualified_op} has no quantized form"
        for value in (*data_inputs(node), *(output for output in node.outputs if output is not None)):
            type = self.types.get(value, value.type)
            if isinstance(type, TensorType) and type.dtype is not DType.FLOAT32:
                return f"it computes in {type.dtype.label}"
            if not isinstance(type, TensorType):
                return f"the type of '{value.name}' is not known before a run"
            if value in self.shape_values:
                return "it belongs to the arithmetic of shapes, which no run computes"
        return self._special_reason(node)

    def _special_reason(self, node: Node) -> str:
        if node.op_type in ("Conv", "ConvTranspose") and not is_float_constant(node.inputs[1]):
            return "its weights are computed in the run"
        bias = node.input(2)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and bias is not None and not is_float_constant(bias):
            return "its bias is computed in the run"
        if node.op_type == "Gemm":
            if node.attr("alpha", 1.0) != 1.0 or (bias is not None and node.attr("beta", 1.0) != 1.0):
                return "its alpha or beta is not 1"
            if node.attr("transA", 0):
                return "its first operand is transposed"
            if bias is not None and bias.constant is not None and len(bias.constant.shape) > 1:
                return "its bias is a matrix"
        if node.op_type == "Resize" and node.attr("mode", b"nearest") in (b"cubic", "cubic"):
            return "cubic interpolation leaves the range of its input"
        if node.op_type == "Pad" and node.attr("mode", "constant") in (b"wrap", "wrap"):
            return "padding by wrapping has no quantized form"
        if node.op_type == "Pad" and not _is_finite(node.input(2)):
            return "it pads with what is not finite, which no integer stands for"
        if all(value.constant is not None for value in data_inputs(node)):
            return "it reads constants alone"
        return ""

    def _follows(self, node: Node) -> bool:
        """Whether all that an elementwise operator, a pool or a movement reads is quantized anyway."""
        rule = RULES[node.op_type]
        computed = [value for value in data_inputs(node) if value.constant is None]
        if not all(value in self.values for value in computed):
            return False
        made = [value for value in computed if value.producer in self.quantized]
        if rule.form in (Form.MOVE, Form.JOIN) and not made:
            return False
        if rule.form is Form.JOIN and len(computed) < len(data_inputs(node)):
            return False
        return not (rule.form is Form.ELEMENTWISE and self._only_ends(node) and len(computed) == 1)

    def _only_ends(self, node: Node) -> bool:
        """Whether a node computes an output of the model that nothing else reads, and is no sum of branches."""
        result = node.outputs[0]
        return result in self.outputs and not self.users.get(result, ()) and node.op_type not in ACTIVATIONS

    def _join_steps(self) -> None:
        """Find what is computed in one step with the node before it, so that nothing is rounded between the two."""
        for node in self.graph.nodes:
            if node not in self.quantized:
                continue
            last = node
            if (
                node.op_type == "MatMul"
                and (bias := self._only_reader(node)) is not None
                and self._adds_bias(bias, node)
            ):
                self.found.biases[node] = last = bias
                self.values.pop(node.outputs[0], None)  # type: ignore[arg-type]
            if RULES[node.op_type].form is not Form.PRODUCT and node.op_type not in ("Add", "Sub", "Mul"):
                continue
            if node in self.found.biases.values():
                continue  # its product has looked already
            after = self._only_reader(last)
            if after is None or after.op_type not in ACTIVATIONS or after.inputs[0] is not last.outputs[0]:
                continue
            if all(value is None or value.constant is not None for value in after.inputs[1:]):
                self.found.activations[last] = after
                self.values.pop(last.outputs[0], None)  # type: ignore[arg-type]

    def _is_same_step(self, node: Node) -> bool:
        """Whether a node is an activation or a bias that is computed in one step with a product before it."""
        before = next(
            (value.producer for value in node.inputs if value is not None and value.producer is not None), None
        )
        if before is None or before not in self.quantized or self._only_reader(before) is not node:
            return False
        if node.op_type in ACTIVATIONS:
            return RULES[before.op_type].form is Form.PRODUCT or self._is_same_step(before)
        return before.op_type == "MatMul" and self._adds_bias(node, before)

    def _only_reader(self, node: Node) -> Node | None:
        """The quantized node that alone reads the result of another."""
        result = node.outputs[0]
        readers = self.users.get(result, []) if result is not None and result not in self.outputs else []
        return readers[0] if len(readers) == 1 and readers[0] in self.quantized else None

    def _adds_bias(self, node: Node, product: Node) -> bool:
        """Whether a node adds a constant to each result along the last axis of a product."""
        weights = product.inputs[1]
        if node.op_type != "Add" or weights is None or weights.constant is None or len(weights.constant.shape) != 2:
            return False
        others = [value for value in node.inputs if value is not product.outputs[0]]
        if len(others) != 1 or others[0] is None or others[0].constant is None:
            return False
        shape = others[0].constant.shape
        return shape[-1:] == weights.constant.shape[-1:] and all(size == 1 for size in shape[:-1])

    def _share(self) -> None:
        for node in self.graph.nodes:
            if node not in self.quantized:
                continue
            rule = RULES[node.op_type]
            outputs = [output for output in node.outputs if output is not None and output in self.values]
            if rule.form in (Form.MOVE, Form.JOIN):
                sources = [value for value in data_inputs(node) if value in self.values]
                for value in (*sources[1:], *outputs):
                    self._unite(sources[0], value)
            if rule.fixed is not None:
                self.found.fixed |= dict.fromkeys(outputs, rule.fixed)

    def _leader(self, value: Value) -> Value:
        while (above := self.leaders.get(value)) is not None:
            value = above
        return value

    def _unite(self, one: Value, other: Value) -> None:
        first, second = self._leader(one), self._leader(other)
        if first is not second:
            self.leaders[second] = first


def _is_finite(value: Value | None) -> bool:
    """Whether a value holds finite numbers, or is left out; what is computed in the run is taken to."""
    return value is None or value.constant is None or bool(np.isfinite(value.constant.numpy()).all())

"""Writing a graph whose nodes have the orders that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.operators.axis_maps import AsConvolution, AxisMap, AxisNames, Edit, NewShape, PerAxis, SizesRead
from mace_core.optimizer.infra import replace_values
from mace_core.optimizer.layout.orders import Order, between, compose, identity, inverse, of_port
from mace_core.optimizer.layout.problem import Problem, Use
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType, Tensor, TensorType

_AXES_ARE_AN_INPUT_SINCE = 13
"""Of Unsqueeze."""


@dataclass
class Rewriting:
    """Puts a graph together again: its nodes without Transposes, and those Transposes that are still needed.

    Attributes:
        made: by a value that no Transpose computes and an order of it, what holds it.
    """

    problem: Problem
    made: dict[tuple[Value, Order], Value] = field(init=False, default_factory=dict)
    _nodes: list[Node] = field(init=False, default_factory=list)
    _aliases: dict[tuple[Value, Order], Value] = field(init=False, default_factory=dict)
    _names: set[str] = field(init=False, default_factory=set)

    def apply(self) -> None:
        """Change the graph in place."""
        graph, problem = self.problem.graph, self.problem
        self._names = _names(graph)
        for value, found in problem.sources.items():
            if found not in self._aliases or value in graph.outputs:
                self._aliases[found] = value
        captured: dict[Value, Value] = {}
        for node in graph.nodes:
            if node.output(0) in problem.sources:
                continue
            for value in captured_values(node):
                captured[value] = self._as_read(value)
            self._write(node)
        for value in dict.fromkeys(graph.outputs):
            held = self._as_read(value)
            if held is not value:  # another output is the same
                self._add(Node("Identity", [held], [value], name=self._name(f"{value.name}/same")))
        graph.nodes = self._nodes
        changed = {value: held for value, held in captured.items() if value is not held}
        for node in graph.nodes if changed else ():
            for body in node.subgraphs():
                body.outputs = [changed.get(value, value) for value in body.outputs]
                replace_values(body, changed)

    def _as_read(self, value: Value) -> Value:
        """What holds a value as it was in the model."""
        if value not in self.problem.sources and self.problem.facts.shape(value) is None:
            return value
        return self._held(*self.problem.source(value))

    def _held(self, source: Value, wanted: Order) -> Value:
        """What holds a value in an order; a Transpose is added where nothing does."""
        held = self.made.get((source, wanted))
        if held is not None:
            return held
        problem = self.problem
        given = problem.given(source)
        start, base = given, self.made.get((source, given), source)
        if source.constant is None and wanted != given:
            for (other, order), value in self.made.items():
                if other is source and problem.telling(source, order) == problem.telling(source, wanted):
                    start, base = order, value
        result = base if wanted == given else self._turned(source, base, start, wanted)
        self.made[source, wanted] = result
        return result

    def _turned(self, source: Value, base: Value, start: Order, wanted: Order) -> Value:
        problem = self.problem
        shape = problem.facts.shape(source)
        assert shape is not None
        result = source if wanted == identity(len(wanted)) else self._aliases.get((source, wanted))
        if result is None:
            result = self._permuted_value(source, wanted)
        is_view = problem.telling(source, start) == problem.telling(source, wanted) and source.constant is None
        sizes = [-1 if is_symbolic(shape[axis]) else shape[axis] for axis in wanted]
        name = self._name(f"{result.name}/transposed")
        if is_view and problem.may_be_viewed(source):
            self._add(Node("Reshape", [base, self._ints(f"{result.name}/shape", sizes)], [result], name=name))
        else:
            perm = Attribute(AttributeKind.INTS, between(start, wanted))
            self._add(Node("Transpose", [base], [result], name=name, attributes={"perm": perm}))
        return result

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _write(self, node: Node) -> None:
        problem = self.problem
        found = problem.maps.get(node)
        order = problem.order_of(node) if found is not None else ()
        is_same = found is None or order == identity(found.count)
        inputs: list[Value | None] = []
        for index, value in enumerate(node.inputs):
            if value is None:
                inputs.append(None)
            elif found is not None and index == 1 and _as_convolution(found, order) is not None:
                inputs.append(self._filters(value, found.count))
            elif found is None or index not in found.inputs:
                inputs.append(self._as_read(value))
            else:
                source, own = problem.source(value)
                held = self._held(source, problem.wanted(Use(node, index, own)))
                inputs.append(held if is_same else self._with_ones(node, index, held, order))
        node.inputs = inputs
        self._nodes.append(node)
        if found is None:
            return
        if not is_same:
            for edit in found.edits:
                self._edit(node, edit, order)
        for index in found.outputs:
            value = node.outputs[index]
            if value is not None:
                given = problem.given(value)
                if given != identity(len(given)):
                    result = self._aliases.get((value, given)) or self._permuted_value(value, given)
                    node.outputs[index] = result
                    result.producer = node
                    self.made[value, given] = result

    def _filters(self, matrix: Value, rank: int) -> Value:
        """A matrix (elements, units) as filters (units, elements, 1, ...) with windows of one element."""
        source, own = self.problem.source(matrix)
        turned = self._held(source, compose(own, (1, 0)))
        shape = self.problem.facts.shape(matrix)
        assert shape is not None
        result = self._new_value(f"{matrix.name}/filters", None)
        sizes = self._ints(f"{result.name}/shape", [shape[1], shape[0], *(1,) * (rank - 2)])
        self._add(Node("Reshape", [turned, sizes], [result], name=self._name(f"{result.name}/reshaped")))
        return result

    def _with_ones(self, node: Node, index: int, held: Value, order: Order) -> Value:
        """What a reader that broadcasts is given: the axes of size 1 that were implied in front may now be inside."""
        found = self.problem.maps[node]
        lead = found.broadcast.get(index, 0)
        if not lead:
            return held
        port = of_port(found.inputs[index], order)
        port = self._with_new_axes(port, order, found.inputs[index], lead)
        new = [place for place, axis in enumerate(port) if axis < 0]
        first = next((place for place, axis in enumerate(port) if axis >= 0), len(port))
        axes = [place - first for place in new if place > first]
        if not axes:
            return held
        result = self._new_value(f"{held.name}/aligned", None)
        name = self._name(f"{node.name}/aligned_{index}")
        if self.problem.opset_imports.get("", 1) >= _AXES_ARE_AN_INPUT_SINCE:
            self._add(Node("Unsqueeze", [held, self._ints(f"{name}/axes", axes)], [result], name=name))
        else:
            given = Attribute(AttributeKind.INTS, tuple(axes))
            self._add(Node("Unsqueeze", [held], [result], name=name, attributes={"axes": given}))
        return result

    @staticmethod
    def _with_new_axes(port: Order, order: Order, groups: Sequence[tuple[int, ...]], lead: int) -> Order:
        """The axes of a broadcast input, -1 for those that are new."""
        return tuple(groups[place][0] if groups[place] else -1 for place in order)

    def _edit(self, node: Node, edit: Edit, order: Order) -> None:
        """Change what names axes."""
        match edit:
            case AxisNames(where, axes, of, plural):
                place = inverse(self._port(node, of, order))
                named = [place[axis] for axis in axes]
                if isinstance(where, str):
                    kind = AttributeKind.INTS if plural else AttributeKind.INT
                    node.attributes[where] = Attribute(kind, tuple(named) if plural else named[0])
                else:
                    self._set_input(node, where, named if plural else named[0])
            case PerAxis(where, parts, of):
                port = self._port(node, of, order)
                picked = [part * len(port) + axis for part in range(parts) for axis in port]
                if isinstance(where, str):
                    attribute = node.attributes[where]
                    node.attributes[where] = Attribute(attribute.kind, compose(attribute.value, picked))
                else:
                    node.inputs[where] = self._picked(node, node.inputs[where], picked)
            case NewShape(sizes):
                port = self._port(node, "output", order)
                node.op_type = "Reshape"
                node.attributes = {}
                node.inputs[1:] = [self._ints(f"{node.name}/shape", [sizes[axis] for axis in port])]
            case SizesRead(axes):
                self._read_sizes(node, axes, order)
            case AsConvolution(operator):
                if _as_convolution(self.problem.maps[node], order) is not None:
                    node.op_type = operator
                    node.attributes = {}

    def _port(self, node: Node, of: str, order: Order) -> Order:
        found = self.problem.maps[node]
        if of == "output":
            return of_port(found.outputs[0], order)
        return of_port(found.inputs[0], order)

    def _read_sizes(self, node: Node, axes: Sequence[int], order: Order) -> None:
        place = inverse(order)
        for name in ("start", "end"):
            node.attributes.pop(name, None)
        result = node.outputs[0]
        assert result is not None
        all_sizes = self._new_value(f"{result.name}/permuted", TensorType(DType.INT64, (len(order),)))
        node.outputs[0], all_sizes.producer = all_sizes, node
        indices = self._ints(f"{result.name}/places", [place[axis] for axis in axes])
        self._add(Node("Gather", [all_sizes, indices], [result], name=self._name(f"{node.name}/places")))

    def _picked(self, node: Node, value: Value | None, places: Sequence[int]) -> Value:
        """The elements of a list in another order."""
        assert value is not None
        if value.constant is not None:
            content = value.constant.numpy().reshape(-1)
            return self._constant(f"{value.name}/permuted", content[list(places)])
        result = self._new_value(f"{value.name}/permuted", value.type)
        indices = self._ints(f"{result.name}/places", places)
        gather = Node("Gather", [value, indices], [result], name=self._name(f"{node.name}/places"))
        self._nodes.insert(len(self._nodes) - 1, gather)
        return result

    def _set_input(self, node: Node, index: int, content: list[int] | int) -> None:
        known = node.input(index)
        like = known if known is not None else node.input(1)
        found = None if like is None else self.problem.facts.resolver.type_of(like)
        dtype = found.dtype.numpy if isinstance(found, TensorType) else np.dtype(np.int64)
        shape = known.constant.shape if known is not None and known.constant is not None else np.shape(content)
        node.inputs += [None] * (index + 1 - len(node.inputs))
        node.inputs[index] = self._constant(f"{node.name}/axes", np.array(content, dtype).reshape(shape))

    # --- values ---------------------------------------------------------------------------------------------------

    def _add(self, node: Node) -> None:
        self._nodes.append(node)

    def _permuted_value(self, value: Value, order: Order) -> Value:
        declared = value.type
        if isinstance(declared, TensorType) and declared.shape is not None:
            declared = TensorType(declared.dtype, tuple(declared.shape[axis] for axis in order))
        return self._new_value(f"{value.name}/{'_'.join(map(str, order))}", declared)

    def _new_value(self, name: str, type: object) -> Value:
        return Value(self._name(name), type if isinstance(type, TensorType) else None)

    def _ints(self, name: str, content: Sequence[int]) -> Value:
        return self._constant(name, np.array(content, np.int64))

    def _constant(self, name: str, content: object) -> Value:
        value = Value(self._name(name), None, Tensor.from_numpy(np.ascontiguousarray(content)))
        self.problem.graph.initializers[value.name] = value
        return value

    def _name(self, name: str) -> str:
        found, number = name, 0
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found


def _as_convolution(found: AxisMap, order: Order) -> str | None:
    """The operator that a product is written as in an order: none where what is multiplied stays last."""
    for edit in found.edits:
        if isinstance(edit, AsConvolution) and order[-1] != found.count - 1:
            return edit.operator
    return None


def _names(graph: Graph) -> set[str]:
    """Names of nodes and values, those of nested graphs included, which must not hide them."""
    found = {value.name for value in graph.inputs} | set(graph.initializers)
    for node in graph.nodes:
        found.add(node.name)
        found.update(value.name for value in node.outputs if value is not None)
        for body in node.subgraphs():
            found |= _names(body)
    return found

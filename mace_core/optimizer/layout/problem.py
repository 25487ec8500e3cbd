"""The choice that there is: an order of axes for every node, so that little has to be moved between them.

Transposes are not nodes of it: what one computes is its input under another order.  A node has an order of its
iteration space, which gives every input and output an order.  Where who makes a value and who reads it do not have the
same order, elements must be moved; an order that differs in the places of axes of size 1 alone is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mace_core.graph import Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.operators.axis_maps import AxisMap, AxisNames, PerAxis
from mace_core.operators.context import ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.independence import AxesContext
from mace_core.operators.registry import find_axis_map
from mace_core.optimizer.layout.facts import Facts
from mace_core.optimizer.layout.orders import Order, compose, identity, inverse, of_port, of_space
from mace_core.symbolic import hint, is_symbolic
from mace_core.tensor import TensorType


@dataclass(frozen=True, slots=True)
class Use:
    """A value that is read by a node whose order may change.

    Attributes:
        node, index: who reads it, and as which input.
        order: what is read, as an order of the value that it is a Transpose of.
    """

    node: Node
    index: int
    order: Order


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to bring values from the orders they are computed in to those they are wanted in.

    Attributes:
        nbytes: bytes that are moved, perhaps symbolic.
        transposes: nodes that move them, or that only a Transpose can express.
        nodes: these, and Reshapes where nothing is moved.
    """

    nbytes: int = 0
    transposes: int = 0
    nodes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nbytes + other.nbytes, self.transposes + other.transposes, self.nodes + other.nodes)


@dataclass
class Problem:
    """The nodes and values of a graph, with the orders that nodes have now.

    Attributes:
        maps: of the nodes whose order may change.
        sources: by result of a Transpose, the value that no Transpose computes and that it is an order of.
        uses: by such a value, who reads it (or an order of it) and may change.
        fixed: by such a value, the orders in which it is wanted by what cannot change.
        makers: by such a value, the node that computes it and may change, and as which output.
        orders: of nodes, where they are not as in the model.
    """

    graph: Graph
    facts: Facts
    opset_imports: Mapping[str, int]
    maps: dict[Node, AxisMap] = field(init=False, default_factory=dict)
    sources: dict[Value, tuple[Value, Order]] = field(init=False, default_factory=dict)
    uses: dict[Value, list[Use]] = field(init=False, default_factory=dict)
    fixed: dict[Value, set[Order]] = field(init=False, default_factory=dict)
    makers: dict[Value, tuple[Node, int]] = field(init=False, default_factory=dict)
    orders: dict[Node, Order] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            if not self._passes_on(node):
                self._add(node)
        for value in self.graph.outputs:
            self._fix(value)

    # --- questions ------------------------------------------------------------------------------------------------

    def source(self, value: Value) -> tuple[Value, Order]:
        """The value that ``value`` is an order of, and this order; values of known rank alone."""
        found = self.sources.get(value)
        if found is not None:
            return found
        shape = self.facts.shape(value)
        assert shape is not None
        return value, identity(len(shape))

    def order_of(self, node: Node) -> Order:
        """The order that a node has now."""
        return self.orders.get(node) or identity(self.maps[node].count)

    def given(self, value: Value, orders: Mapping[Node, Order] | None = None) -> Order:
        """In which order a value is computed."""
        maker = self.makers.get(value)
        if maker is None:
            shape = self.facts.shape(value)
            assert shape is not None
            return identity(len(shape))
        node, index = maker
        order = orders.get(node) if orders else None
        return of_port(self.maps[node].outputs[index], order or self.order_of(node))

    def wanted(self, use: Use, order: Order | None = None) -> Order:
        """In which order a reader, itself of an ``order`` (that of now unless given), wants a value."""
        found = self.maps[use.node]
        lead = found.broadcast.get(use.index, 0)
        port = of_port(found.inputs[use.index], order or self.order_of(use.node))
        return compose(use.order, (axis - lead for axis in port if axis >= lead))

    def order_for(self, use: Use, wanted: Order) -> Order | None:
        """An order of a reader that wants a value in the order ``wanted``; None where it has none."""
        found = self.maps[use.node]
        lead = found.broadcast.get(use.index, 0)
        groups = tuple(tuple(axis - lead for axis in group if axis >= lead) for group in found.inputs[use.index])
        return _admitted(found, of_space(groups, compose(inverse(use.order), wanted)))

    def order_giving(self, value: Value, wanted: Order) -> tuple[Node, Order] | None:
        """The node that computes a value, with an order in which it gives ``wanted``; None where it has none."""
        maker = self.makers.get(value)
        if maker is None:
            return None
        node, index = maker
        found = self.maps[node]
        order = _admitted(found, of_space(found.outputs[index], wanted))
        return None if order is None else (node, order)

    def telling(self, value: Value, order: Order) -> Order:
        """What of an order matters: without axes of size 1."""
        if not self.facts.is_certain(value):
            return order
        shape = self.facts.shape(value)
        assert shape is not None
        return tuple(axis for axis in order if is_symbolic(shape[axis]) or shape[axis] != 1)

    def may_be_viewed(self, value: Value) -> bool:
        """Whether a Reshape can say what a Transpose of axes of size 1 says."""
        shape = self.facts.shape(value)
        assert shape is not None
        return sum(is_symbolic(size) for size in shape) < 2 and not any(not is_symbolic(n) and n == 0 for n in shape)

    def nbytes(self, value: Value) -> int:
        """How large a value is; may be symbolic, and 0 for constants, which are moved before the run."""
        found, shape = self.facts.resolver.type_of(value), self.facts.shape(value)
        assert isinstance(found, TensorType) and shape is not None
        return 0 if value.constant is not None else int(found.dtype.numpy.itemsize) * math.prod(shape)

    def cost(self, value: Value, orders: Mapping[Node, Order] | None = None) -> Cost:
        """What has to be moved of a value, where some nodes have ``orders``."""
        if value.constant is not None:
            return Cost()
        given = self.given(value, orders)
        wanted = set(self.fixed.get(value, ()))
        for use in self.uses.get(value, ()):
            wanted.add(self.wanted(use, orders.get(use.node) if orders else None))
        moved = {self.telling(value, order) for order in wanted} - {self.telling(value, given)}
        nodes = len(wanted - {given})
        return Cost(len(moved) * self.nbytes(value), len(moved) if self.may_be_viewed(value) else nodes, nodes)

    def parts(self, node: Node, order: Order | None = None) -> int:
        """Bytes of the parts that a node joins or takes where they are not in one piece; may be symbolic."""
        found, value = self.maps[node], node.inputs[0]
        if found.along is None or value is None:
            return 0
        order = order or self.order_of(node)
        before = of_port(found.inputs[0], order[: order.index(found.along)])
        if not self.telling(value, before):
            return 0
        return sum(self.nbytes(result) for result in node.outputs if result is not None)

    def values(self) -> Iterator[Value]:
        """The values that are no results of Transposes and that may have to be moved."""
        yield from dict.fromkeys((*self.uses, *self.fixed))

    def around(self, node: Node) -> Iterator[Value]:
        """The values that a node reads or computes, as far as its order matters to them."""
        found = self.maps[node]
        for index in found.inputs:
            value = node.inputs[index]
            if value is not None:
                yield self.source(value)[0]
        for index in found.outputs:
            made = node.outputs[index]
            if made is not None:
                yield made

    def present_cost(self) -> Cost:
        """What the Transposes of the graph move now."""
        total = Cost()
        for value, (source, order) in self.sources.items():
            assert value.producer is not None
            read = value.producer.inputs[0]
            before = identity(len(order)) if read is source or read is None else self.sources[read][1]
            if source.constant is None:
                is_free = self.telling(source, before) == self.telling(source, order)
                total += Cost(0 if is_free else self.nbytes(source), 1, 1)
        return total

    # --- reading the graph ----------------------------------------------------------------------------------------

    def _passes_on(self, node: Node) -> bool:
        """Note a Transpose whose input has a known rank, which its order fits, as does what is known of its result."""
        value, result = node.input(0), node.output(0)
        if node.op_type != "Transpose" or node.domain or value is None or result is None:
            return False
        shape = self.facts.shape(value)
        if shape is None:
            return False
        turned, after = list(node.attr("perm") or reversed(range(len(shape)))), self.facts.shape(result)
        if sorted(turned) != list(range(len(shape))) or (after is not None and len(after) != len(shape)):
            return False  # of a model that is wrong: who infers its shapes says so
        source, order = self.source(value)
        self.sources[result] = source, compose(order, turned)
        return True

    def _add(self, node: Node) -> None:
        found = self._map(node)
        if found is not None:
            self.maps[node] = found
            for index in found.outputs:
                value = node.outputs[index]
                if value is not None:
                    self.makers[value] = node, index
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if found is not None and index in found.inputs:
                source, order = self.source(value)
                self.uses.setdefault(source, []).append(Use(node, index, order))
            else:
                self._fix(value)
        for value in captured_values(node):
            self._fix(value)

    def _fix(self, value: Value) -> None:
        """Let a value be wanted as it is."""
        if value in self.sources or self.facts.shape(value) is not None:
            source, order = self.source(value)
            self.fixed.setdefault(source, set()).add(order)

    def _map(self, node: Node) -> AxisMap | None:
        rule = find_axis_map(node.domain, node.op_type)
        if rule is None or any(True for _ in node.subgraphs()):
            return None
        if any(value is not None and self.facts.shape(value) is None for value in (*node.inputs, *node.outputs)):
            return None
        resolver = self.facts.resolver
        context = AxesContext(node, self.opset_imports.get(node.domain, 1), resolver.types, resolver.contents)
        try:
            found = rule(context)
        except (ShapeMismatchError, UnresolvedShapeError):
            return None
        return found if found is not None and _is_editable(node, found) and self._fits(node, found) else None

    def _fits(self, node: Node, found: AxisMap) -> bool:
        """Whether inputs and outputs have the axes that the map names; those of a model that is wrong need not."""
        for values, ports in ((node.inputs, found.inputs), (node.outputs, found.outputs)):
            for index, groups in ports.items():
                value = values[index]
                shape = None if value is None else self.facts.shape(value)
                lead = found.broadcast.get(index, 0) if ports is found.inputs else 0
                named = sorted(axis - lead for group in groups for axis in group if axis >= lead)
                if shape is not None and named != list(range(len(shape))):
                    return False
        return True


def _is_editable(node: Node, found: AxisMap) -> bool:
    """Whether what names axes can be changed."""
    for edit in found.edits:
        if isinstance(edit, AxisNames) and isinstance(edit.where, int):
            value = node.input(edit.where)
            if value is not None and value.constant is None:
                return False
        if isinstance(edit, PerAxis):
            listed = node.input(edit.where) if isinstance(edit.where, int) else node.attributes.get(edit.where)
            if listed is None:
                return False
    return True


def _admitted(found: AxisMap, order: Order | None) -> Order | None:
    """The order, unless it moves an axis that keeps its place."""
    return order if order is not None and found.admits(order) else None


def weight(nbytes: int) -> int:
    """A number of bytes for the sizes that open ones are taken to be."""
    return int(hint(nbytes))

"""What depends on constants alone, and is too large to be folded into the model: computed once in a session.

Wherever it stands: around the bodies of control flow, in them, or outside and read inside.  Nodes that make such values
leave the graph, and who reads the values sees constants, which providers pack and choose their kernels by.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mace_core.errors import ModelError
from mace_core.graph import ComputedTensor, Graph, Node, Value
from mace_core.operators.context import Array, NodeContext
from mace_core.operators.resolver import Resolver
from mace_core.optimizer.common_subexpressions import hashable
from mace_core.optimizer.constants import KEPT, can_fold, only_moves
from mace_core.optimizer.dead_code import RemoveDeadCode
from mace_core.optimizer.evaluate import MAX_UNPACKED, ConstantFacts
from mace_core.optimizer.infra import PassContext, remove_nodes, replace_values
from mace_core.tensor import DType, Tensor, TensorType

logger = logging.getLogger("mace.optimizer")

MOST_BYTES = 1 << 30
"""Of all such constants of a model; what is beyond is computed by each run."""

MAX_GROWTH_ELEMENTS = 1 << 18
"""A result may have so many elements more than what it is made from: a Range or an Expand can blow up."""


def defer_constants(graph: Graph) -> int:
    """Let the session compute what depends on constants alone.  To be called when all passes have run.

    A node stays where it is cheap and yet was not folded (it could not be computed; Transposes of large constants were
    left to the session on purpose), where providers recognize weights by it, or where what it makes is large beside
    what it is made from.  Bodies that capture what such weights give read a constant all the same.

    Args:
        graph: an outermost graph; ``Graph.computed`` has the constants afterwards.

    Returns:
        How many there are.
    """
    found = _Search(graph)
    while True:
        needed = found.needed()
        excess = _beyond(needed, found)
        if not excess:
            break
        found = _Search(graph, found.stays | excess)
    if not needed:
        return 0
    _Rewriting(graph, found, needed).apply()
    for part in _graphs(graph):
        RemoveDeadCode().run(part, PassContext(graph.opset_imports, nested=part is not graph))
    logger.info("%d constants of '%s' are computed once in a session", len(graph.computed), graph.name)
    return len(graph.computed)


@dataclass(frozen=True, slots=True)
class _Made:
    """A value that depends on constants alone: the node that makes it, the graph where, and whether that node stays
    there for those of its own graph."""

    node: Node
    graph: Graph
    stays: bool


@dataclass(slots=True)
class _Search:
    """The values that depend on constants alone, in an order in which they can be computed.

    Attributes:
        stays: nodes to be passed over.
    """

    root: Graph
    stays: frozenset[Node] = frozenset()
    made: dict[Value, _Made] = field(init=False, default_factory=dict)
    _types: _Types = field(init=False)

    def __post_init__(self) -> None:
        self._types = _Types(self.root, self.root.opset_imports)
        self._visit(self.root)

    def type_of(self, value: Value) -> TensorType:
        found = self._types.type_of(value)
        assert isinstance(found, TensorType), "only values of known types are taken"
        return found

    def _visit(self, graph: Graph) -> None:
        nodes = [node for node in graph.nodes if self._reads_constants(node, cheap=True)]
        cheap: set[Node] = set()
        if nodes:
            facts = ConstantFacts(graph, nodes, self.root.opset_imports)
            cheap = {node for node in nodes if can_fold(node) and not only_moves(node) and facts.is_cheap(node)}
        for node in graph.nodes:
            if node not in cheap and node not in self.stays and self._reads_constants(node):
                self._take(graph, node)
            for body in node.subgraphs():
                self._visit(body)

    def _reads_constants(self, node: Node, *, cheap: bool = False) -> bool:
        """Whether it depends on constants alone; ``cheap``: reads nothing else, and may be folded."""
        if not (can_fold(node) or (node.op_type in KEPT and not node.domain and not cheap)):
            return False
        read = [value for value in node.inputs if value is not None]
        if not read:
            return False
        return all(value.constant is not None or (not cheap and value in self.made) for value in read)

    def _take(self, graph: Graph, node: Node) -> None:
        try:
            self._types.visit(node)
        except ModelError as error:
            logger.info("node '%s' (%s) stays for the run: %s", node.name, node.op_type, error)
            return
        results = [value for value in node.outputs if value is not None]
        types = [self._types.type_of(value) for value in results]
        read = [self._types.type_of(value) for value in node.inputs if value is not None]
        room = _elements(read) * (MAX_UNPACKED if node.op_type == "Gather" else 1) + MAX_GROWTH_ELEMENTS
        if not all(map(_is_numbers, types)) or _elements(types) > room:
            return
        local = (self.made.get(value) for value in node.inputs if value is not None)
        stays = node.op_type in KEPT or any(made.stays and made.graph is graph for made in local if made is not None)
        for value in results:
            self.made[value] = _Made(node, graph, stays)

    def needed(self) -> list[Value]:
        """The values that somebody reads who does not depend on constants alone, in order."""
        gone = {made.node for made in self.made.values() if not made.stays}
        read: set[Value] = set()
        for graph in _graphs(self.root):
            own = {value for node in graph.nodes for value in node.outputs}
            readers = (node for node in graph.nodes if node not in gone)
            for value in (*graph.outputs, *(value for node in readers for value in node.inputs)):
                made = None if value is None else self.made.get(value)
                if value is not None and made is not None and not (made.stays and value in own):
                    read.add(value)
        return [value for value in self.made if value in read]


def _beyond(needed: Sequence[Value], search: _Search) -> frozenset[Node]:
    """The nodes of those values for which there is no room."""
    room = MOST_BYTES
    excess: set[Node] = set()
    for value in needed:
        nbytes = search.type_of(value).nbytes
        if nbytes <= room:
            room -= nbytes
        else:
            excess.add(search.made[value].node)
    return frozenset(excess)


@dataclass(slots=True)
class _Rewriting:
    """Makes constants of the values that are needed."""

    root: Graph
    search: _Search
    needed: Sequence[Value]
    _order: dict[Node, int] = field(init=False)
    _tensors: dict[Value, ComputedTensor] = field(init=False, default_factory=dict)
    _numbers: dict[Value, int] = field(init=False, default_factory=dict)
    _known: dict[object, int] = field(init=False, default_factory=dict)
    _same: dict[int, ComputedTensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._order = {made.node: place for place, made in enumerate(self.search.made.values())}

    def apply(self) -> None:
        """Change the graph, and the graphs nested in it."""
        made = self.search.made
        for value in self.needed:
            number = self._number(value)
            if number not in self._same:
                kind = self.search.type_of(value)
                self._same[number] = ComputedTensor(kind.dtype, kind.concrete_shape, self._recipe(value))
            self._tensors[value] = self._same[number]
        self.root.computed = list(self._same.values())
        gone = {found.node for found in made.values() if not found.stays}
        for value, tensor in self._tensors.items():
            graph, stays = made[value].graph, made[value].stays
            if stays:  # its own graph goes on reading what the node gives
                self._stand_in(value, graph, tensor)
            else:
                value.constant, value.producer = tensor, None
                value.type = TensorType(tensor.dtype, tensor.shape)
                graph.initializers[value.name] = value
        for graph in _graphs(self.root):
            remove_nodes(graph, gone)

    def _stand_in(self, value: Value, graph: Graph, tensor: ComputedTensor) -> None:
        """Let the bodies within ``graph`` read a constant instead of ``value``."""
        name = f"{value.name}/constant"
        while name in graph.initializers:
            name += "_"
        constant = graph.initializers[name] = Value(name, None, tensor)
        for node in graph.nodes:
            for body in node.subgraphs():
                body.outputs = [constant if output is value else output for output in body.outputs]
                replace_values(body, {value: constant})

    def _number(self, value: Value) -> int:
        """Equal for values that are computed in the same way from the same constants."""
        stack = [value]
        while stack:
            top = stack[-1]
            made = self.search.made.get(top)
            read = () if made is None else [v for v in made.node.inputs if v is not None]
            missing = [v for v in read if v not in self._numbers]
            if missing and top not in self._numbers:
                stack += missing
                continue
            stack.pop()
            if top not in self._numbers:
                key = id(top.constant) if made is None else self._key(top, made.node)
                self._numbers[top] = self._known.setdefault(key, len(self._known))
        return self._numbers[value]

    def _key(self, value: Value, node: Node) -> tuple[object, ...]:
        inputs = tuple(-1 if v is None else self._numbers[v] for v in node.inputs)
        attributes = tuple((name, hashable(given.value)) for name, given in sorted(node.attributes.items()))
        return node.op_type, attributes, inputs, node.outputs.index(value)

    def _recipe(self, value: Value) -> Graph:
        """A graph that computes ``value`` from constants, those that were made before among them."""
        nodes: set[Node] = set()
        pending = [value]
        while pending:
            made = self.search.made.get(pending.pop())
            if made is not None and made.node not in nodes:
                nodes.add(made.node)
                pending += [v for v in made.node.inputs if v is not None and v not in self._tensors]
        ordered = sorted(nodes, key=self._order.__getitem__)
        return recipe_of(ordered, value, self._tensors, self.root.opset_imports)


def recipe_of(
    nodes: Iterable[Node], result: Value, computed: Mapping[Value, Tensor], opset_imports: Mapping[str, int]
) -> Graph:
    """A graph without inputs of copies of ``nodes``, in order, that shares no value with the model's."""
    recipe = Graph("a constant")
    recipe.opset_imports = dict(opset_imports)
    copies: dict[Value, Value] = {}

    def read(value: Value | None) -> Value | None:
        if value is None:
            return None
        if value not in copies:
            constant = computed.get(value, value.constant)
            assert constant is not None, "nodes are in an order in which they can run"
            copies[value] = recipe.initializers[value.name] = Value(value.name, None, constant)
        return copies[value]

    for node in nodes:
        inputs = [read(value) for value in node.inputs]
        for value in node.outputs:
            if value is not None:
                copies[value] = Value(value.name, value.type)
        outputs = [None if value is None else copies[value] for value in node.outputs]
        recipe.nodes.append(Node(node.op_type, inputs, outputs, name=node.name, attributes=node.attributes))
    recipe.outputs = [copies[result]]
    return recipe


class _Types(Resolver):
    """Finds types without looking into constants that are computed."""

    def visit(self, node: Node) -> None:
        """
        Raises:
            ModelError: if the node's inputs cannot be.
        """
        if self._inputs_reached(node):
            opset = self.opset_imports.get(node.domain, 1)
            self._resolve_node(NodeContext(node, opset, self.types, self.contents, self))

    def content_of(self, value: Value) -> Array | None:
        return None if isinstance(value.constant, ComputedTensor) else super().content_of(value)


def _graphs(graph: Graph) -> Iterator[Graph]:
    """The graph, and all that are nested in it."""
    yield graph
    for node in graph.nodes:
        for body in node.subgraphs():
            yield from _graphs(body)


def _is_numbers(found: object) -> bool:
    return isinstance(found, TensorType) and found.is_concrete and found.dtype is not DType.STRING


def _elements(types: Iterable[object]) -> int:
    return sum(found.size for found in types if isinstance(found, TensorType) and found.is_concrete)

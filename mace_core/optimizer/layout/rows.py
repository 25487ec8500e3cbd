"""Products of rows that keep their axes: a dense layer over channels need not know pixels as rows of a matrix.

Exporters write a dense layer over the last axis of a tensor as a Reshape to a matrix, a product, and a Reshape back.
Which axes the rows had is lost in between, and with it every order of axes but one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.names import free_name
from mace_core.operators.standard.independent_elementwise import UNARY
from mace_core.optimizer.infra import remove_nodes
from mace_core.optimizer.layout.facts import Facts
from mace_core.symbolic import is_same

LEAST_RANK = 4
"""Below, the product may not become a convolution, and a matrix is as good."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A product between Reshapes.

    Attributes:
        product: the node.
        source: its rows as they were before they became a matrix.
        behind: elementwise nodes between the product and the Reshape behind it.
        reshape: that Reshape.
    """

    product: Node
    source: Value
    behind: tuple[Node, ...]
    reshape: Node


def keep_axes_of_rows(graph: Graph, facts: Facts) -> int:
    """Make each (Reshape, product with a matrix, Reshape) that gives rows their axes back one product.

    Only products that have the same axes for all sizes of the inputs are changed.  What is not read any more stays.

    Returns:
        How many there were.
    """
    users, outputs = graph.users(), set(graph.outputs)
    found = [each for node in graph.nodes if (each := _found(node, facts, users, outputs)) is not None]
    names = {value.name for node in graph.nodes for value in (*node.inputs, *node.outputs) if value is not None}
    for each in found:
        _rewrite(graph, each, names)
    remove_nodes(graph, {each.reshape for each in found})
    return len(found)


def _found(node: Node, facts: Facts, users: Mapping[Value, list[Node]], outputs: set[Value]) -> _Found | None:
    rows, matrix, result = node.input(0), node.input(1), node.output(0)
    if rows is None or matrix is None or result is None or not _is_plain_product(node, facts):
        return None
    behind: list[Node] = []
    while True:
        readers = users.get(result, [])
        if len(readers) != 1 or result in outputs:
            return None
        (reader,) = readers
        made = reader.output(0)
        if made is None or reader.domain or reader.input(0) is not result:
            return None
        if reader.op_type == "Reshape":
            break
        if reader.op_type not in UNARY or sum(value is result for value in reader.inputs) != 1:
            return None
        behind.append(reader)
        result = made
    source = _with_axes(rows, matrix, made, facts)
    return None if source is None else _Found(node, source, tuple(behind), reader)


def _is_plain_product(node: Node, facts: Facts) -> bool:
    """Whether a node multiplies rows with a matrix, and adds the same numbers to each row at most."""
    if node.domain or node.op_type not in ("Gemm", "MatMul"):
        return False
    shapes = [None if value is None else facts.shape(value) for value in node.inputs]
    if shapes[0] is None or shapes[1] is None or (len(shapes[0]), len(shapes[1])) != (2, 2):
        return False
    if node.op_type == "MatMul":
        return True
    if node.attr("transA", 0) or node.attr("alpha", 1.0) != 1 or node.attr("beta", 1.0) != 1:
        return False
    if node.input(2) is None:
        return True
    added = shapes[2]
    return added is not None and all(is_same(size, 1) for size in added[:-1])


def _with_axes(rows: Value, matrix: Value, made: Value, facts: Facts) -> Value | None:
    """What the rows were before Reshapes made a matrix of them, if it has the axes that the result is given."""
    wanted, depth = facts.shape(made), facts.shape(rows)
    if wanted is None or depth is None or len(wanted) < LEAST_RANK or not facts.is_certain(made):
        return None
    for value in _before_reshapes(rows):
        shape = facts.shape(value)
        if shape is not None and len(shape) == len(wanted) and facts.is_certain(value):
            same = all(is_same(one, other) for one, other in zip(shape[:-1], wanted[:-1], strict=True))
            if same and is_same(shape[-1], depth[-1]):
                return value
    return None


def _before_reshapes(value: Value) -> Iterator[Value]:
    while value.producer is not None and value.producer.op_type == "Reshape" and not value.producer.domain:
        before = value.producer.input(0)
        if before is None:
            return
        yield before
        value = before


def _rewrite(graph: Graph, found: _Found, names: set[str]) -> None:
    node = found.product
    matrix, result = node.inputs[1], node.outputs[0]
    added = node.input(2) if node.op_type == "Gemm" else None
    assert matrix is not None and result is not None
    nodes: list[Node] = []
    if node.op_type == "Gemm" and node.attr("transB", 0):
        turned = Value(free_name(f"{matrix.name}/turned", names), None)
        perm = Attribute(AttributeKind.INTS, (1, 0))
        nodes.append(Node("Transpose", [matrix], [turned], name=f"{node.name}/turned", attributes={"perm": perm}))
        matrix = turned
    chain = [result, *(each.outputs[0] for each in found.behind)]
    for value in chain:
        assert value is not None
        value.type = None  # of the matrix that it was
    final = found.reshape.outputs[0]
    assert final is not None
    last = found.behind[-1] if found.behind else None
    if last is None:
        result = final
    else:
        last.outputs[0], final.producer = final, last
    product = result if added is None else Value(free_name(f"{result.name}/product", names), None)
    nodes.append(Node("MatMul", [found.source, matrix], [product], name=node.name))
    if added is not None:
        nodes.append(Node("Add", [product, added], [result], name=f"{node.name}/added"))
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = nodes

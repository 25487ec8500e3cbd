"""In which order the nodes of a subgraph are lowered."""

from __future__ import annotations

from collections.abc import Mapping

from mace_core.graph import GraphView, Node, Value
from mace_core.graph.graph import captured_values

_JOINS = ("Add", "Sub", "Mul", "Div")
_MOVES = ("Pad", "Slice", "Concat", "Resize", "Upsample", "MaxPool", "AveragePool", "DepthToSpace", "SpaceToDepth")
_PRODUCTS = ("Conv", "ConvTranspose")


def operands_first(view: GraphView) -> list[Node]:
    """The nodes in an order in which what is joined with the result of a convolution is there before it.

    An epilogue takes only operands that are computed already.  Exporters write the branch that moves elements alone (a
    shortcut whose channels are padded) now before, now behind the branch that computes.
    """
    nodes = list(view.nodes)
    makers = {value: node for node in nodes for value in node.outputs if value is not None}
    place = {node: index for index, node in enumerate(nodes)}
    moved: dict[Node, list[Node]] = {}
    taken: set[Node] = set()
    for node in nodes:
        if node.op_type not in _JOINS or node.domain or len(node.inputs) != 2:
            continue
        for computed, other in (node.inputs, node.inputs[::-1]):
            product = _product(view, makers, computed)
            if product is None:
                continue
            behind = _movements_behind(makers, place, other, place[product])
            if behind and taken.isdisjoint(behind):
                moved.setdefault(product, []).extend(behind)
                taken.update(behind)
                break
    if not moved:
        return nodes
    order: list[Node] = []
    for node in nodes:
        order += moved.get(node, ())
        if node not in taken:
            order.append(node)
    return order


def _product(view: GraphView, makers: Mapping[Value, Node], value: Value | None) -> Node | None:
    """The convolution that computes ``value``, which is read once."""
    maker = None if value is None else makers.get(value)
    if maker is None or value is None or maker.domain or maker.op_type not in _PRODUCTS:
        return None
    return maker if len(view.users(value)) == 1 else None


def _movements_behind(
    makers: Mapping[Value, Node], place: Mapping[Node, int], value: Value | None, first: int
) -> list[Node]:
    """The nodes behind number ``first`` that ``value`` comes from, in order; empty if not all of them only move
    elements of what is there before."""
    found: set[Node] = set()
    wanted = [value]
    while wanted:
        maker = makers.get(wanted[-1]) if wanted[-1] is not None else None
        wanted.pop()
        if maker is None or place[maker] < first or maker in found:
            continue
        if place[maker] == first or maker.domain or maker.op_type not in _MOVES:
            return []
        found.add(maker)
        wanted += [*maker.inputs, *captured_values(maker)]
    return sorted(found, key=place.__getitem__)

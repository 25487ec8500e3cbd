"""Pieces of a large graph, and the wiring they come from: laws over any graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mace_core.report.blocks import ALL_AT_ONCE, PIECES, Block, blocks_of
from mace_core.report.wiring import wire
from mace_core.scheduler.explain import NodeExplanation


def node(name: str, reads: tuple[str, ...], writes: tuple[str, ...], scope: str = "", part: int = 0) -> NodeExplanation:
    return NodeExplanation(name, "Op", "cpu:0", "", {}, scope, part, "", (name,), reads, writes)


@st.composite
def graphs(draw: st.DrawFn) -> list[NodeExplanation]:
    """Any acyclic graph, its nodes told in any order and cut into partitions that are not even convex."""
    count = draw(st.integers(1, 40))
    nodes = []
    for i in range(count):
        reads = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        nodes.append(node(f"n{i}", tuple(f"v{r}" for r in reads), (f"v{i}",), part=draw(st.integers(0, 3))))
    return draw(st.permutations(nodes))


@given(graphs())
def test_nodes_are_put_in_an_order_in_which_they_can_run(nodes: list[NodeExplanation]) -> None:
    found = wire(nodes)
    assert sorted(each.node for each in found.nodes) == sorted(each.node for each in nodes)
    place = {each.node: number for number, each in enumerate(found.nodes)}
    wanted = {(place[f"n{value[1:]}"], place[each.node]) for each in nodes for value in each.inputs}
    assert set(found.edges) == wanted
    assert all(source < target for source, target in found.edges)


def leaves(block: Block) -> Iterator[Block]:
    if not block.pieces:
        yield block
    for piece in block.pieces:
        yield from leaves(piece)


def fans(block: Block) -> Iterator[int]:
    yield len(block.pieces)
    for piece in block.pieces:
        yield from fans(piece)


@settings(max_examples=40)
@given(st.integers(1, 5_000), st.integers(1, 1_000))
@example(3601, 1)
def test_pieces_hold_every_node_once_and_are_few_at_a_time(count: int, length: int) -> None:
    template = [node("n", (), (), part=part) for part in range(-(-count // length))]
    found = blocks_of([template[i // length] for i in range(count)])
    ends = [(each.first, each.last) for each in leaves(found)]
    assert ends[0][0] == 0 and ends[-1][1] == count
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))
    if count > ALL_AT_ONCE:
        assert max(last - first for first, last in ends) <= PIECES
        assert max(fans(found)) <= PIECES
    else:
        assert found.pieces == ()


def test_bodies_hang_on_their_node_and_read_of_the_scopes_around_them() -> None:
    found = wire(
        [
            node("a", ("x",), ("v",)),
            node("loop/1.x", ("n",), ("y",)),
            node("inner", ("v",), ("w",), "loop/1.x.body"),
            node("own", ("w", "i"), ("u",), "loop/1.x.body"),
            node("alone", ("i",), ("q",), "loop/1.x.body"),
            node("after", ("v", "y"), ("z",)),
        ]
    )
    names = [each.node for each in found.nodes]
    assert {(names[a], names[b]) for a, b in found.edges} == {
        ("a", "inner"),
        ("inner", "own"),
        ("a", "after"),
        ("loop/1.x", "after"),
        ("loop/1.x", "alone"),
    }

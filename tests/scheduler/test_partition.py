"""Partitioning: every node once, convex pieces without cycles, atomic claims whole, a reason for everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.graph import Node, Value
from mace_core.provider import Capability, Claim, Rejection
from mace_core.scheduler.planning.partition import (
    CORE_DEVICE,
    Offer,
    Partitioning,
    UnplacedNodesError,
    dependencies,
    partition,
)


def graph_of(edges: list[list[int]]) -> list[Node]:
    """Nodes numbered topologically; ``edges[i]`` are the producers of what node i reads."""
    nodes: list[Node] = []
    for index, producers in enumerate(edges):
        inputs = [nodes[p].outputs[0] for p in producers] or [Value("x")]
        nodes.append(Node("Op", inputs, [Value(f"v{index}")], name=f"n{index}"))
    return nodes


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Node], list[Offer]]:
    count = draw(st.integers(1, 14))
    edges = [draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else [] for i in range(count)]
    nodes = graph_of(edges)
    offers = []
    for device in ("a", "b", "c")[: draw(st.integers(1, 3))]:
        claims = []
        for _ in range(draw(st.integers(0, 4))):
            chosen = draw(st.lists(st.sampled_from(nodes), unique=True, min_size=1, max_size=6))
            claims.append(Claim(tuple(chosen), atomic=draw(st.booleans())))
        offers.append(Offer(device, Capability(claims)))
    return nodes, [*offers, Offer("all", Capability([Claim(tuple(nodes))]))]


def assert_runnable(nodes: list[Node], result: Partitioning) -> None:
    """Each piece reads only what pieces before it, or itself, computed: so no cycle, and all pieces convex."""
    home = {node: index for index, part in enumerate(result.partitions) for node in part.nodes}
    assert sorted(node.name for part in result.partitions for node in part.nodes) == sorted(n.name for n in nodes)
    for node, before in zip(nodes, dependencies(nodes), strict=True):
        for predecessor in before:
            assert home[nodes[predecessor]] <= home[node]
    for part in result.partitions:
        order = [nodes.index(node) for node in part.nodes]
        assert order == sorted(order)
        assert all(result.placements[node].device == part.device for node in part.nodes)


@given(problems())
def test_partitions_cover_every_node_once_and_can_run_in_order(problem: tuple[list[Node], list[Offer]]) -> None:
    nodes, offers = problem
    assert_runnable(nodes, partition(nodes, offers))


@given(problems())
def test_atomic_claims_are_taken_whole_or_not_at_all(problem: tuple[list[Node], list[Offer]]) -> None:
    nodes, offers = problem
    result = partition(nodes, offers)
    home = {node: index for index, part in enumerate(result.partitions) for node in part.nodes}
    for node in nodes:
        offer = next(offer for offer in offers if offer.device == result.placements[node].device)
        whole = [
            claim
            for claim in offer.capability.claims
            if node in claim.nodes and (not claim.atomic or len({home[member] for member in claim.nodes}) == 1)
        ]
        assert whole, f"{node} runs on {offer.device} without a claim that is honored"


@given(problems())
def test_neighbors_on_one_device_are_merged_where_that_makes_no_cycle(
    problem: tuple[list[Node], list[Offer]],
) -> None:
    nodes, offers = problem
    parts = partition(nodes, offers).partitions
    position = {node: index for index, node in enumerate(nodes)}
    home = {position[node]: index for index, part in enumerate(parts) for node in part.nodes}
    direct = [set[int]() for _ in parts]
    for index, before in enumerate(dependencies(nodes)):
        direct[home[index]] |= {home[p] for p in before} - {home[index]}
    behind = [set(d) for d in direct]
    for index in range(len(parts)):
        for earlier in direct[index]:
            behind[index] |= behind[earlier]
    for second in range(len(parts)):
        for first in behind[second]:
            if parts[first].device == parts[second].device:
                assert any(first in behind[m] for m in behind[second]), "two pieces could be one"


@given(problems())
def test_every_device_passed_over_has_a_reason(problem: tuple[list[Node], list[Offer]]) -> None:
    nodes, offers = problem
    order = [offer.device for offer in offers]
    for placement in partition(nodes, offers).placements.values():
        assert list(placement.declined) == order[: order.index(placement.device)]
        assert all(placement.declined.values())


def test_a_node_goes_to_the_first_device_that_claims_it() -> None:
    nodes = graph_of([[], [0], [1]])
    offers = [
        Offer("gpu", Capability([Claim((nodes[0], nodes[2]))], [Rejection(nodes[1], "too wide")])),
        Offer("cpu", Capability([Claim(tuple(nodes))])),
    ]
    result = partition(nodes, offers)
    assert [(part.device, len(part.nodes)) for part in result.partitions] == [("gpu", 1), ("cpu", 1), ("gpu", 1)]
    assert result.placements[nodes[1]].declined == {"gpu": "too wide"}


def test_an_atomic_claim_around_a_foreign_node_would_make_a_cycle() -> None:
    nodes = graph_of([[], [0], [1]])
    offers = [
        Offer("npu", Capability([Claim((nodes[0], nodes[2]), atomic=True)])),
        Offer("cpu", Capability([Claim(tuple(nodes))])),
    ]
    result = partition(nodes, offers)
    assert [part.device for part in result.partitions] == ["cpu"]
    assert "would make a cycle through node 'n1'" in result.placements[nodes[0]].declined["npu"]


def test_an_atomic_claim_takes_along_what_lies_between_if_the_device_claims_that_too() -> None:
    nodes = graph_of([[], [0], [1]])
    claims = [Claim((nodes[0], nodes[2]), atomic=True), Claim((nodes[1],))]
    result = partition(nodes, [Offer("npu", Capability(claims)), Offer("cpu", Capability([Claim(tuple(nodes))]))])
    assert [(part.device, len(part.nodes)) for part in result.partitions] == [("npu", 3)]


def test_an_atomic_claim_is_off_if_one_of_its_nodes_runs_elsewhere() -> None:
    nodes = graph_of([[], [0]])
    offers = [
        Offer("gpu", Capability([Claim((nodes[1],))])),
        Offer("npu", Capability([Claim(tuple(nodes), atomic=True)])),
        Offer("cpu", Capability([Claim(tuple(nodes))])),
    ]
    result = partition(nodes, offers)
    assert result.placements[nodes[0]].device == "cpu"
    assert "atomic claim needs node 'n1'" in result.placements[nodes[0]].declined["npu"]


def test_independent_branches_on_one_device_share_a_partition() -> None:
    # n0(a) and n1(b) are independent; n2(a) reads n1: two partitions are enough
    nodes = graph_of([[], [], [1]])
    offers = [Offer("a", Capability([Claim((nodes[0], nodes[2]))])), Offer("b", Capability([Claim((nodes[1],))]))]
    assert [part.device for part in partition(nodes, offers).partitions] == ["b", "a"]


def test_a_pin_moves_its_device_to_the_head_of_the_order() -> None:
    nodes = graph_of([[], [0]])
    everything = Capability([Claim(tuple(nodes))])
    result = partition(nodes, [Offer("gpu", everything), Offer("cpu", everything)], pins={nodes[1]: "cpu"})
    assert [part.device for part in result.partitions] == ["gpu", "cpu"]
    assert result.placements[nodes[1]].reason == "pinned by the user"


def test_a_pin_that_can_not_be_kept_is_explained() -> None:
    nodes = graph_of([[]])
    offers = [
        Offer("gpu", Capability(rejections=[Rejection(nodes[0], "no such kernel")])),
        Offer("cpu", Capability([Claim(tuple(nodes))])),
    ]
    placement = partition(nodes, offers, pins={nodes[0]: "gpu"}).placements[nodes[0]]
    assert placement.device == "cpu"
    assert placement.reason == "pinned to gpu, which declines: no such kernel"


def test_a_device_for_pinned_nodes_takes_no_others() -> None:
    nodes = graph_of([[], [0]])
    everything = Capability([Claim(tuple(nodes))])
    offers = [Offer("npu", everything, only_pinned=True), Offer("cpu", everything)]
    result = partition(nodes, offers, pins={nodes[0]: "npu"})
    assert [result.placements[node].device for node in nodes] == ["npu", "cpu"]


def test_nodes_that_nobody_claims_are_all_listed_with_reasons() -> None:
    nodes = graph_of([[], [0]])
    offers = [Offer("cpu", Capability(rejections=[Rejection(nodes[0], "no kernel"), Rejection(nodes[1], "no shape")]))]
    with pytest.raises(UnplacedNodesError) as caught:
        partition(nodes, offers)
    assert "node 'n0' (Op): cpu: no kernel" in str(caught.value)
    assert "node 'n1' (Op): cpu: no shape" in str(caught.value)


def test_control_flow_that_nobody_claims_is_the_cores() -> None:
    nodes = graph_of([[], [0], [1]])
    offers = [Offer("cpu", Capability([Claim((nodes[0], nodes[2]))]))]
    result = partition(nodes, offers, control_flow=frozenset([nodes[1]]))
    assert [part.device for part in result.partitions] == ["cpu", CORE_DEVICE, "cpu"]

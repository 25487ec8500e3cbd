"""Pieces are cut in two where that lets devices work at the same time; they stay convex and in order."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mace_core.scheduler.placing.choose import choose
from mace_core.scheduler.placing.objective import Objective
from mace_core.scheduler.placing.overlapping import LEAST_SECONDS, cut_for_overlap
from mace_core.scheduler.placing.pieces import gather_pieces
from mace_core.scheduler.placing.predict import predict
from mace_core.scheduler.placing.problem import Link, Problem, Tensor

LONG = 10 * LEAST_SECONDS

Placed = tuple[str, list[set[int]], list[float]]


def cut(devices: str, before: Sequence[set[int]], seconds: Sequence[float], cells: Sequence[int] | None = None):  # type: ignore[no-untyped-def]
    cells = range(len(devices)) if cells is None else cells
    pieces = gather_pieces(list(devices), before, cells, alone="core")
    return cut_for_overlap(pieces, before, cells, seconds)


def test_what_waits_for_another_device_does_not_hold_up_what_does_not() -> None:
    before = [set(), {0}, set(), {2}, {1, 3}]  # a: 0 1; b: 2 3; a: 4 joins them
    assert sorted(cut("aabba", before, [LONG] * 5)) == [("a", [0, 1]), ("a", [4]), ("b", [2, 3])]


def test_what_another_device_waits_for_comes_first() -> None:
    before = [set(), {0}, {1}, {0}]  # a: 0 1 2; b: 3 needs 0 alone
    assert cut("aaab", before, [LONG] * 4) == [("a", [0]), ("a", [1, 2]), ("b", [3])]


def test_a_moment_is_not_worth_a_cut() -> None:
    before = [set(), {0}, set(), {2}, {1, 3}]
    for seconds in ([0.0] * 5, [0.0, 0.0, LONG, LONG, LONG], [LONG, LONG, 0.0, 0.0, LONG]):
        assert len(cut("aabba", before, seconds)) == 2


def test_a_chain_is_not_cut() -> None:
    before = [set(), {0}, {1}, {2}]
    assert cut("aabb", before, [LONG] * 4) == [("a", [0, 1]), ("b", [2, 3])]


def test_what_must_stay_together_stays_together() -> None:
    before = [set(), {0}, set(), {2}, {1, 3}]
    assert len(cut("aabba", before, [LONG] * 5, cells=[0, 4, 2, 3, 4])) == 3  # 1 and 4 wait, 0 does not
    assert len(cut("aabba", before, [LONG] * 5, cells=[4, 4, 2, 3, 4])) == 2


@st.composite
def placed(draw: st.DrawFn) -> Placed:
    count = draw(st.integers(2, 14))
    devices = "".join(draw(st.sampled_from("abc")) for _ in range(count))
    before = [set(draw(st.lists(st.integers(0, n - 1), max_size=3))) if n else set() for n in range(count)]
    return devices, before, [draw(st.sampled_from([0.0, LEAST_SECONDS / 2, LONG])) for _ in range(count)]


@given(placed())
def test_pieces_hold_every_node_once_and_can_run_in_their_order(
    problem: tuple[str, list[set[int]], list[float]],
) -> None:
    devices, before, seconds = problem
    pieces = cut(devices, before, seconds)
    assert sorted(node for _, nodes in pieces for node in nodes) == list(range(len(devices)))
    assert all(devices[node] == device for device, nodes in pieces for node in nodes)
    home = {node: number for number, (_, nodes) in enumerate(pieces) for node in nodes}
    # an order of whole pieces in which each needs only earlier ones: they are convex, and in no circle
    assert all(home[other] <= home[node] for node in range(len(devices)) for other in before[node])


def branches(seconds: float, link: float) -> Problem:
    """Two branches of the same work and their sum, on two devices of the same speed."""
    tensors = [
        Tensor(-1, (0, 1), 1000),
        Tensor(0, (2,), 1000),
        Tensor(1, (2,), 1000),
        Tensor(2, (), 1000, is_result=True),
    ]
    between = Link(link)
    return Problem(
        ("home", "other"),
        ((seconds, seconds), (seconds, seconds), (0.0, 0.0)),
        tuple(tensors),
        ((Link(), between), (between, Link())),
        ((Link(), Link()), (between, between)),
        (1e-6, 1e-6),
    )


def test_branches_are_shared_where_that_pays() -> None:
    chosen = choose(branches(LONG, 1e-5), Objective.OVERLAPPED).best
    assert set(chosen.assignment[:2]) == {0, 1}
    assert chosen.overlapped < 0.6 * predict(branches(LONG, 1e-5), (0, 0, 0)).overlapped


def test_branches_stay_together_where_a_border_takes_longer() -> None:
    assert choose(branches(LONG, 2 * LONG), Objective.OVERLAPPED).best.assignment == (0, 0, 0)

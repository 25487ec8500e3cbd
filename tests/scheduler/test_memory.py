"""The arena planner: buffers alive together never overlap, and the arena is not a larger than necessary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.provider.arenas import ArenaPlan, Lifetime, plan_arena


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    spans = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8), st.integers(0, 5000)), max_size=40))
    return [Lifetime(first, first + length, size) for first, length, size in spans]


def overlapping_pairs(entries: list[Lifetime], plan: ArenaPlan) -> list[tuple[int, int]]:
    found = []
    for i, a in enumerate(entries):
        for j in range(i):
            b = entries[j]
            together = a.first <= b.last and b.first <= a.last
            apart = plan.offsets[i] + a.nbytes <= plan.offsets[j] or plan.offsets[j] + b.nbytes <= plan.offsets[i]
            if together and not apart and a.nbytes and b.nbytes:
                found.append((i, j))
    return found


@given(lifetimes())
def test_live_buffers_never_overlap(entries: list[Lifetime]) -> None:
    plan = plan_arena(entries)
    assert overlapping_pairs(entries, plan) == []
    assert all(offset % 64 == 0 for offset in plan.offsets)
    assert all(
        offset + e.nbytes <= plan.total_bytes for offset, e in zip(plan.offsets, entries, strict=True) if e.nbytes
    )


@given(lifetimes())
def test_the_arena_is_at_least_the_lower_bound_and_at_most_the_sum(entries: list[Lifetime]) -> None:
    plan = plan_arena(entries)
    assert plan.lower_bound_bytes <= plan.total_bytes <= sum(-(-e.nbytes // 64) * 64 for e in entries)


def test_a_chain_needs_two_neighbors_at_a_time() -> None:
    plan = plan_arena([Lifetime(i, i + 1, 1000) for i in range(10)])
    assert plan.total_bytes == plan.lower_bound_bytes == 2 * 1024


def test_a_gap_between_two_live_buffers_is_used() -> None:
    entries = [Lifetime(0, 9, 640), Lifetime(0, 3, 320), Lifetime(0, 9, 128), Lifetime(4, 9, 256)]
    plan = plan_arena(entries)
    assert overlapping_pairs(entries, plan) == []
    assert plan.total_bytes == plan.lower_bound_bytes == 640 + 320 + 128


def test_nothing_takes_no_memory() -> None:
    assert plan_arena([]) == ArenaPlan((), 0, 0)
    assert plan_arena([Lifetime(0, 1, 0)]).total_bytes == 0


def test_an_impossible_lifetime_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a lifetime"):
        plan_arena([Lifetime(3, 2, 10)])

"""Memory plans whose sizes are not decided keep live buffers apart for any sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mace_core.provider.arenas import Lifetime, plan_arena
from mace_core.symbolic import SizeProgramBuilder, Trace, new_symbol, polynomial_of

SPANS = st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 300), st.integers(0, 40), st.integers(0, 3))


@given(
    st.lists(SPANS, min_size=1, max_size=14),
    st.tuples(st.integers(2, 200), st.integers(2, 50)),
    st.lists(st.tuples(st.integers(2, 4000), st.integers(2, 4000)), max_size=6),
)
def test_no_two_live_buffers_overlap_for_any_sizes(
    spans: list[tuple[int, int, int, int, int]], hints: tuple[int, int], others: list[tuple[int, int]]
) -> None:
    trace = Trace()
    n, m = (new_symbol(trace, name, hint) for name, hint in zip("nm", hints, strict=True))
    lifetimes = [Lifetime(first, first + more, a + b * n + c * n * m) for first, more, a, b, c in spans]
    plan = plan_arena(lifetimes)
    assert len(trace.guards) == 4, "the plan asks nothing but the bounds of the symbols"
    builder = SizeProgramBuilder(trace)
    places = [
        (builder.register(polynomial_of(offset)), builder.register(polynomial_of(lifetime.nbytes)))
        for offset, lifetime in zip(plan.offsets, lifetimes, strict=True)
    ]
    total = builder.register(polynomial_of(plan.total_bytes))
    program = builder.finish()
    for values in (hints, *others):
        found = program.run(values)
        placed = [(found[offset], found[offset] + found[nbytes]) for offset, nbytes in places]
        for i, (begin, end) in enumerate(placed):
            assert begin % 64 == 0
            assert 0 <= begin <= end <= found[total]
            for j in range(i):
                together = lifetimes[i].first <= lifetimes[j].last and lifetimes[j].first <= lifetimes[i].last
                shared = min(end, placed[j][1]) - max(begin, placed[j][0])
                if together:
                    assert shared <= 0, (spans, values, i, j)


def test_for_the_sizes_at_hand_the_arena_is_the_one_that_was_planned() -> None:
    sizes = [(0, 1, 640), (1, 2, 1280), (2, 3, 640), (3, 4, 1280), (0, 4, 128)]
    concrete = plan_arena([Lifetime(*size) for size in sizes])
    trace = Trace()
    n = new_symbol(trace, "n", 10)
    symbolic = plan_arena([Lifetime(first, last, nbytes // 10 * n) for first, last, nbytes in sizes])
    assert trace.value(polynomial_of(symbolic.total_bytes)) <= concrete.total_bytes

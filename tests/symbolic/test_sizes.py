"""Sizes that are not decided: expressions, decisions that become guards, and programs that compute them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.symbolic import (
    SizeProgramBuilder,
    Trace,
    ceiling,
    hint,
    is_symbolic,
    maximum,
    minimum,
    new_symbol,
    polynomial_of,
    whole,
)


def traced(**hints: int) -> tuple[Trace, dict[str, int]]:
    trace = Trace()
    return trace, {name: new_symbol(trace, name, value) for name, value in hints.items()}


def guards(trace: Trace) -> list[str]:
    """The guards beside the bounds of the symbols."""
    return [trace.guard_text(guard) for guard in list(trace.guards.values())[2 * trace.symbols :]]


# --- what is known without a guard ------------------------------------------------------------------------------------


def test_a_size_stands_where_an_integer_stands() -> None:
    _, sizes = traced(n=37)
    n = sizes["n"]
    assert isinstance(n, int)
    assert is_symbolic(n)
    assert not is_symbolic(37)
    assert hint(n * 2 + 1) == 75
    assert repr(n * 64 - 3) == "64*n - 3"
    assert isinstance(n - n, int)
    assert n - n == 0
    assert not is_symbolic(n - n)


@pytest.mark.parametrize(
    "question",
    [
        lambda n, m: n != 1,
        lambda n, m: n > 0,
        lambda n, m: n * m == m * n,
        lambda n, m: (n + 1) * 8 == 8 * n + 8,
        lambda n, m: n * m > n,
        lambda n, m: (n * 8) % 8 == 0,
        lambda n, m: (n * m) // m == n,
        lambda n, m: (n * n - 1) // (n - 1) == n + 1,
        lambda n, m: -(-n // 16) == (n + 15) // 16,
        lambda n, m: math.prod((n, m, 4)) == 4 * m * n,
        lambda n, m: maximum(n, 1) == n,
        lambda n, m: bool(n),
    ],
)
def test_what_is_so_for_all_shapes_needs_no_guard(question: Callable[[int, int], bool]) -> None:
    trace, sizes = traced(n=37, m=5)
    assert question(sizes["n"], sizes["m"])
    assert guards(trace) == []


def test_what_depends_on_the_shape_is_a_guard_once() -> None:
    trace, sizes = traced(n=37)
    n = sizes["n"]
    assert n >= 30
    assert 2 * n >= 60
    assert n > 20  # follows
    assert not n > 40
    assert guards(trace) == ["n >= 30", "n <= 40"]


@pytest.mark.parametrize(
    "use",
    [
        lambda n: list(range(n)),
        lambda n: np.zeros(n),
        lambda n: np.asarray([n], np.int64),
        lambda n: [0] * n,
        lambda n: float(n),
        lambda n: f"{n}",
        lambda n: {37: 1}[int(n)],
        lambda n: "abc" * n,
        lambda n: n.bit_length(),
        lambda n: n & 3,
    ],
)
def test_whoever_needs_the_number_pins_it(use: Callable[[int], object]) -> None:
    trace, sizes = traced(n=37)
    use(sizes["n"])
    assert guards(trace) == ["n == 37"]


def test_tables_are_not_asked_with_sizes() -> None:
    _, sizes = traced(n=37)
    with pytest.raises(TypeError, match="unhashable"):
        hash(sizes["n"])


def test_a_hint_is_no_decision() -> None:
    trace, sizes = traced(n=37)
    assert hint(sizes["n"]) == 37
    assert hint(sizes["n"] * 0.5) == 18.5
    assert guards(trace) == []


def test_work_is_split_by_estimates() -> None:
    trace, sizes = traced(n=1000)
    parts = whole(sizes["n"] * 64 * 0.125, 100)
    assert hint(parts) == 80
    assert guards(trace) == []
    assert whole(8000.0, 100) == 80


def test_a_closed_trace_takes_no_more_decisions() -> None:
    trace, sizes = traced(n=37)
    trace.close()
    assert sizes["n"] > 1  # known
    assert f"{sizes['n']}" == "n"
    with pytest.raises(RuntimeError, match="somebody decides"):
        bool(sizes["n"] > 10)


def test_symbols_are_bounded_so_that_programs_stay_within_64_bits() -> None:
    trace, sizes = traced(n=37)
    n = sizes["n"]
    SizeProgramBuilder(trace).register(polynomial_of(n * n * n * 64))
    largest = trace.largest_symbol()
    assert 64 * largest**3 < 2**63
    assert 64 * (2 * largest) ** 3 >= 2**62


def test_division_by_a_size_that_is_nothing() -> None:
    _, sizes = traced(n=37)
    with pytest.raises(ZeroDivisionError):
        1 // (sizes["n"] - 37)


# --- laws -------------------------------------------------------------------------------------------------------------

SMALL = st.integers(1, 20)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Callable[..., int]:
    """A function of three sizes."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        which = draw(st.integers(0, 3))
        if which == 3:
            number = draw(st.integers(-5, 20))
            return lambda *sizes: number
        return lambda *sizes: sizes[which]
    kind = draw(st.sampled_from(["+", "-", "*", "//", "ceil", "%", "min", "max", "if"]))
    left, right = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    number = draw(SMALL)
    table: dict[str, Callable[..., int]] = {
        "+": lambda *s: left(*s) + right(*s),
        "-": lambda *s: left(*s) - right(*s),
        "*": lambda *s: left(*s) * right(*s),
        "//": lambda *s: left(*s) // number,
        "ceil": lambda *s: ceiling(left(*s), number),
        "%": lambda *s: left(*s) % number,
        "min": lambda *s: minimum(left(*s), right(*s)),
        "max": lambda *s: maximum(left(*s), right(*s)),
        "if": lambda *s: left(*s) + number if left(*s) < right(*s) else right(*s) - number,
    }
    return table[kind]


@given(
    expressions(), st.tuples(*[st.integers(2, 100)] * 3), st.lists(st.tuples(*[st.integers(0, 200)] * 3), max_size=8)
)
def test_where_the_guards_hold_the_program_gives_what_python_gives(
    function: Callable[..., int], hints: tuple[int, int, int], others: list[tuple[int, int, int]]
) -> None:
    trace, sizes = traced(a=hints[0], b=hints[1], c=hints[2])
    result = function(*sizes.values())
    assert hint(result) == function(*hints)
    builder = SizeProgramBuilder(trace)
    register = builder.register(polynomial_of(result))
    checks = [(builder.register(g.expression), g) for g in trace.guards.values()]
    program = builder.finish()
    for values in (hints, *others):
        found = program.run(values)
        holds = all(((found[r] == 0) if g.relation == "==" else (found[r] < 0)) is g.outcome for r, g in checks)
        if holds:
            assert found[register] == function(*values)
        else:
            assert values != hints


@given(expressions(), st.tuples(*[st.integers(2, 100)] * 3))
def test_bounds_hold_what_they_bound(function: Callable[..., int], hints: tuple[int, int, int]) -> None:
    trace, sizes = traced(a=hints[0], b=hints[1], c=hints[2])
    result = function(*sizes.values())
    low, high = trace.interval(polynomial_of(result))
    assert low <= hint(result) <= high

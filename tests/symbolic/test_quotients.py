"""Quotients of sizes: one form for what is equal, and guards about what is divided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mace_core.symbolic import Trace, is_symbolic, minimum, new_symbol
from mace_core.symbolic.integer import polynomial_of
from mace_core.symbolic.program import SizeProgramBuilder


def _guards(trace: Trace) -> list[str]:
    """The guards beside the bounds of the symbols."""
    return [trace.guard_text(guard) for guard in list(trace.guards.values())[2 * trace.symbols :]]


def test_nested_quotients_are_one_quotient() -> None:
    trace = Trace()
    w = new_symbol(trace, "w", 320)
    half = (w + 1) // 2
    assert repr((half + 1) // 2) == "((w + 3) // 4)"
    assert repr(-(-half // 14)) == "((w + 27) // 28)"
    assert repr((4 * w + 13) // 14) == "((2*w + 6) // 7)"
    assert (half - 1) // 2 == (w - 1) // 4
    assert not _guards(trace)


def test_a_guard_about_a_quotient_is_one_about_what_is_divided() -> None:
    trace = Trace()
    w = new_symbol(trace, "w", 320)
    assert (w + 1) // 2 >= 14
    assert (w + 1) // 2 != 1
    assert w > 26
    assert (w + 3) // 4 >= 7
    assert not (w + 31) // 32 < 10
    assert 2 * w != 41
    assert [trace.guard_text(guard) for guard in trace.conditions()] == ["w >= 289", "w <= 16777216"]


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "divide", "multiply", "negate"]), st.integers(1, 9)), min_size=1, max_size=7
)
_QUESTIONS = st.lists(st.tuples(st.sampled_from(["<", "==", "!=", ">="]), st.integers(-30, 30)), max_size=4)


def _computed(size: int, steps: list[tuple[str, int]]) -> int:
    for step, number in steps:
        if step == "add":
            size = size + number
        elif step == "divide":
            size = size // number
        elif step == "multiply":
            size = size * number
        else:
            size = number - size
    return size


def _asked(size: int, questions: list[tuple[str, int]]) -> list[bool]:
    asked = {
        "<": lambda n: size < n,
        "==": lambda n: size == n,
        "!=": lambda n: size != n,
        ">=": lambda n: size >= n,
    }
    return [asked[relation](number) for relation, number in questions]


@given(st.integers(2, 60), _STEPS, _STEPS, _QUESTIONS)
def test_any_computation_is_what_it_is_for_numbers(
    now: int, first: list[tuple[str, int]], second: list[tuple[str, int]], questions: list[tuple[str, int]]
) -> None:
    """Values for every size, and answers for every size that the guards admit."""
    trace = Trace()
    n = new_symbol(trace, "n", now)
    expressions = [_computed(n, first), _computed(n, second)]
    expressions.append(minimum(*expressions) // 3)
    answers = [_asked(expression, questions) for expression in expressions]
    builder = SizeProgramBuilder(trace)
    symbolic = [e for e in expressions if is_symbolic(e)]
    registers = [builder.register(polynomial_of(e)) for e in symbolic]
    checks = [(builder.register(g.expression), g) for g in trace.conditions()]
    program = builder.finish()
    for size in range(2, 80):
        values = program.run([size])
        plain = [_computed(size, first), _computed(size, second)]
        plain.append(min(plain) // 3)
        wanted = [value for value, e in zip(plain, expressions, strict=True) if is_symbolic(e)]
        assert [values[r] for r in registers] == wanted
        holds = all((values[r] == 0 if g.relation == "==" else values[r] < 0) is g.outcome for r, g in checks)
        if holds:
            assert [_asked(value, questions) for value in plain] == answers
        else:
            assert size != now

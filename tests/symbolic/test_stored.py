"""Traces and sizes as plain data: what comes back is what was written, and what was not written is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mace_core.symbolic import SymbolicQuotient, SymbolicReal, Trace, maximum, minimum, new_symbol, whole
from mace_core.symbolic import polynomial as poly
from mace_core.symbolic.stored import SizeReader, SizeWriter, dump_size, dump_trace, load_size, load_trace

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a // (b * b + 1),
    "rest": lambda a, b: a % 7,
    "up": lambda a, b: -(-a // 3),
    "minimum": minimum,
    "maximum": maximum,
    "compare": lambda a, b: a + 1 if a < b else a,
    "equal": lambda a, b: a if a == b else b,
}

walks = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 30), st.integers(0, 30)), max_size=12)


def walked(hints: list[int], walk: list[tuple[str, int, int]]) -> tuple[Trace, list[Any]]:
    """A trace, and sizes that some operations made of its symbols."""
    trace = Trace()
    sizes: list[Any] = [new_symbol(trace, f"n{i}", hint) for i, hint in enumerate(hints)]
    for name, first, second in walk:
        made = OPERATIONS[name](sizes[first % len(sizes)], sizes[second % len(sizes)])
        if abs(made if isinstance(made, int) and type(made) is int else made.hint) < 1 << 40:
            sizes.append(made)
    return trace, sizes


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@hypothesis.settings(max_examples=150)
@hypothesis.given(st.lists(st.integers(2, 50), min_size=1, max_size=3), walks)
def test_a_trace_and_its_sizes_come_back(hints: list[int], walk: list[tuple[str, int, int]]) -> None:
    trace, sizes = walked(hints, walk)
    writer = SizeWriter(trace)
    written = [writer.item(size) for size in sizes]
    found = load_trace(through_json(dump_trace(trace, trace.largest_symbol())))
    reader = SizeReader(found, through_json(writer.expressions))
    again = [reader.item(item) for item in through_json(written)]
    assert list(map(str, again)) == list(map(str, sizes))
    assert found.atoms == trace.atoms
    assert list(found.guards) == list(trace.guards)
    assert found.conditions() == trace.conditions()
    assert found.largest_symbol() == trace.largest_symbol()
    for size, other in zip(sizes, again, strict=True):
        if type(size) is not int:
            assert dict(other.expression) == dict(size.expression)
            assert list(other.expression) == list(size.expression), "rows of a program follow this order"
            assert found.interval(other.expression) == trace.interval(size.expression)
            assert load_size(through_json(dump_size(size)), found).expression == size.expression  # type: ignore[attr-defined]
    # what is asked and computed from here on is the same, too
    for name, operation in OPERATIONS.items():
        for first, second in ((0, -1), (-1, 0)):
            assert str(operation(again[first], again[second])) == str(operation(sizes[first], sizes[second])), name
    assert [found.guard_text(guard) for guard in found.conditions()] == [
        trace.guard_text(guard) for guard in trace.conditions()
    ]


def test_quotients_and_estimates_come_back() -> None:
    trace = Trace()
    n: Any = new_symbol(trace, "n", 9)
    items = [SymbolicQuotient(n + 1, 6, 24), n * 2.5 + 0.1, whole(n * 0.3, 2), 7, True, 0.1, n // 4]
    writer = SizeWriter(trace)
    written = through_json([writer.item(item) for item in items])
    reader = SizeReader(load_trace(through_json(dump_trace(trace, 1 << 20))), through_json(writer.expressions))
    quotient, estimate, *others = [reader.item(item) for item in written]
    assert isinstance(quotient, SymbolicQuotient) and isinstance(estimate, SymbolicReal)
    assert (quotient.denominator, quotient.bits) == (6, 24) and str(quotient.numerator) == "n + 1"
    assert estimate.terms == (n * 2.5 + 0.1).terms
    assert [str(other) for other in others] == [str(item) for item in items[2:]]
    assert [type(other) for other in others[1:4]] == [int, bool, float]


def test_sizes_of_another_trace_are_not_written() -> None:
    n, m = new_symbol(Trace(), "n", 9), new_symbol(Trace(), "n", 9)
    writer = SizeWriter(n.trace)  # type: ignore[attr-defined]
    writer.size(n)
    for foreign in (m, m + 1, 1.5, b"x"):
        with pytest.raises(ValueError, match="no size"):
            writer.size(foreign)


def document() -> dict[str, Any]:
    trace = Trace()
    n: Any = new_symbol(trace, "n", 9)
    m: Any = new_symbol(trace, "m", 4)
    assert (n + m) * (n - 1) // 5 > 3 and maximum(n, m * 3) > 2
    found: dict[str, Any] = through_json(dump_trace(trace, 1 << 20))
    return found


CODE = "__import__('os').abort()"


@pytest.mark.parametrize(
    ("path", "item"),
    [
        (("symbols", 0, 0), 5),
        (("symbols", 0, 1), CODE),
        (("symbols", 0, 1), 1),  # not what the guards say
        (("operations", 0, 0), CODE),
        (("operations", 0, 1, 0, 0), CODE),
        (("operations", 0, 1, 0, 0), 0),
        (("operations", 0, 1, 0, 1), 1000),
        (("operations", 0, 1, 0, 1), -1),
        (("operations", 0, 1, 0), []),
        (("operations", 0, 2), [[0]]),
        (("operations", 0, 2), []),  # a division by zero
        (("guards", 0, 1), CODE),
        (("guards", 0, 2), 1),
        (("guards", 0, 2), True),
        (("guards", 0, 0, 0, 0), 1.5),
        (("bounds", 0), [None]),
        (("bounds", 0), [10, 3]),
        (("bounds", 0), [100, 200]),
        (("bounds",), []),
        (("learned",), [[1]]),
        (("largest",), CODE),
        (("largest",), None),
        (("symbols",), {}),
    ],
)
def test_what_is_no_trace_is_refused(path: tuple[Any, ...], item: Any) -> None:
    good = document()
    load_trace(copy.deepcopy(good))
    parent = good
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = item
    with pytest.raises(ValueError, match=r"stored|number|operation"):
        load_trace(good)


@pytest.mark.parametrize("item", [[0, 1], [5], [-1], [CODE], ["quotient", 1, 0, 24], ["real", [[CODE, 0]]], {}, 1.5])
def test_what_is_no_size_is_refused(item: Any) -> None:
    trace = load_trace(document())
    reader = SizeReader(trace, [[[1, 0]]])
    assert str(reader.item([0])) == "n"
    with pytest.raises(ValueError, match=r"stored|number"):
        reader.item(item)


def test_polynomials_are_written_in_their_order() -> None:
    trace, sizes = walked([5, 7], [("multiply", 0, 1), ("add", 2, 0), ("add", 3, 1)])
    stored = dump_size(sizes[-1])
    assert [tuple(row[1:]) for row in stored] == list(sizes[-1].expression)
    assert poly.evaluate(load_size(stored, trace).expression, lambda number: (5, 7)[number]) == 35 + 5 + 7  # type: ignore[attr-defined]

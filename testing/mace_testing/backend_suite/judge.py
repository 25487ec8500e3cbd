"""Runs one case: on the provider alone, then with fallback."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mace_core.errors import MaceError, OutOfRangeError, StrictPlacementError
from mace_core.session import Session
from mace_testing.backend_suite.cases import SuiteCase

NARROW_RTOL = {"bfloat16": 2.0**-6, "float16": 2.0**-9}
"""Two units in the last place: what the suite itself allows for bfloat16.  Its 0.001 for float16 is less than one."""

LOOSER_ATOL = dict.fromkeys(("test_dft_inverse", "test_dft_inverse_opset19"), 1e-6)
"""The expected values of these carry rounding errors of 2e-7 where the exact result is 0, beyond their tolerance."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How cases are run and compared.

    Attributes:
        options: provider options, as `Session` takes them.
        rtol, atol: tolerances, where they are wider than a case's own.  For devices that compute float32 in float16.
        half: the device rounds its inputs to float16.  A case that comes out otherwise, but as the CPU provider has it
            for inputs so rounded, is not native, and not wrong either.
    """

    options: Mapping[str, Mapping[str, object]] | None = None
    rtol: float = 0.0
    atol: float = 0.0
    half: bool = False


class Outcome(enum.Enum):
    """How a case came out."""

    NATIVE = "native"  # right, on the provider alone
    FALLBACK = "fallback"  # right, but some node ran on the reference
    FAIL = "fail"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one case; ``reason`` says why it is not native; ``wrong``: the provider's own result is wrong."""

    name: str
    kind: str
    op: str
    unusual: str
    outcome: Outcome
    reason: str = ""
    wrong: bool = False


def judge(case: SuiteCase, provider: str, conditions: Conditions = Conditions()) -> Verdict:
    """Run ``case`` on ``provider`` alone and, where that declines some node, with fallback."""

    def verdict(outcome: Outcome, reason: str = "", *, wrong: bool = False) -> Verdict:
        return Verdict(case.name, case.kind, case.op, case.unusual, outcome, reason, wrong)

    if case.excluded:
        return verdict(Outcome.EXCLUDED, case.excluded)
    try:
        _run(case, provider, strict=True, conditions=conditions)
    except StrictPlacementError as error:
        reason = _first_reason(error)
    except OutOfRangeError as error:
        reason = _short(error)
    except (AssertionError, MaceError) as error:
        if conditions.half and isinstance(error, AssertionError) and _is_right_when_rounded(case, provider, conditions):
            return verdict(Outcome.FAIL, "right for inputs rounded to float16 only")
        return verdict(Outcome.FAIL, _short(error), wrong=True)
    else:
        return verdict(Outcome.NATIVE)
    try:
        _run(case, provider, strict=False, conditions=conditions)
    except (AssertionError, MaceError) as error:
        return verdict(Outcome.FAIL, f"{reason}; with fallback: {_short(error)}")
    return verdict(Outcome.FALLBACK, reason)


def _run(case: SuiteCase, provider: str, *, strict: bool, conditions: Conditions) -> None:
    """Run all data sets and compare.

    Raises:
        MaceError: what the session raises.
        AssertionError: where an output differs from what the suite expects.
    """
    graph = case.model.graph
    rtol = max(case.rtol, conditions.rtol)
    atol = max(LOOSER_ATOL.get(case.name, case.atol), conditions.atol)
    with Session(case.model, devices=[provider], strict=strict, cache=False, options=conditions.options) as session:
        for inputs, outputs in case.data():
            found = session.run(_feeds(case, inputs))
            for spec, expected in zip(graph.output, outputs, strict=False):
                assert_same(found[spec.name], expected, rtol, atol)


def _is_right_when_rounded(case: SuiteCase, provider: str, conditions: Conditions) -> bool:
    """Whether the provider has what the CPU provider has for inputs rounded to float16, where that changes them.

    The CPU provider must have what the suite expects for the inputs as they are.
    """
    data, changed = [], False
    for inputs, _ in case.data():
        rounded = [_rounded(item) for item in inputs]
        changed |= any(isinstance(item, np.ndarray) and bool((item != old).any())
                       for item, old in zip(rounded, inputs, strict=True))  # fmt: skip
        data.append((rounded, _results(case, rounded)))
    if not changed:
        return False
    try:
        _run(case, "cpu", strict=False, conditions=Conditions())
        _run(replace(case, data_sets=data), provider, strict=True, conditions=conditions)
    except AssertionError:
        return False
    return True


def _rounded(item: Any) -> Any:
    if isinstance(item, np.ndarray) and item.dtype == np.float32:
        with np.errstate(over="ignore"):
            return item.astype(np.float16).astype(np.float32)
    return item


def _results(case: SuiteCase, inputs: list[Any]) -> list[Any]:
    graph = case.model.graph
    with Session(case.model, devices=["cpu"], cache=False) as session:
        found = session.run(_feeds(case, inputs))
    return [found[spec.name] for spec in graph.output]


def _feeds(case: SuiteCase, inputs: Sequence[Any]) -> dict[str, Any]:
    names = [value.name for value in case.model.graph.input]
    initialized = {tensor.name for tensor in case.model.graph.initializer}
    given = names if len(inputs) == len(names) else [name for name in names if name not in initialized]
    return dict(zip(given, inputs, strict=False))


def assert_same(found: Any, expected: Any, rtol: float, atol: float) -> None:
    """Compare two outputs: type, shape and content.

    Raises:
        AssertionError: with what differs.
    """
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            raise AssertionError(f"a sequence of {len(expected)} is expected, not {found!r:.80}")
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, rtol, atol)
        return
    if expected is None:
        if found is not None:
            raise AssertionError("an absent optional is expected")
        return
    expected, found = np.asarray(expected), np.asarray(found)
    if found.shape != expected.shape:
        raise AssertionError(f"shape {list(found.shape)} instead of {list(expected.shape)}")
    if expected.dtype.kind in "OUST":
        if [_text(item) for item in found.reshape(-1)] != [_text(item) for item in expected.reshape(-1)]:
            raise AssertionError("other strings")
        return
    if found.dtype != expected.dtype:
        raise AssertionError(f"element type {found.dtype} instead of {expected.dtype}")
    rtol = max(rtol, NARROW_RTOL.get(expected.dtype.name, 0.0))
    if expected.dtype.kind not in "fcb":
        found, expected = found.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol, atol)


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _first_reason(error: StrictPlacementError) -> str:
    """Why the first node that is declined is so, with the device that says it."""
    for reasons in error.unplaced.values():
        for device, reason in reasons.items():
            return f"{device}: {reason}"[:300]
    return _short(error)

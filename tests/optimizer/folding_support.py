"""One node run twice: with its inputs fed, and with the same inputs as constants of the model."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from mace_testing.fuzzing.case import OpCase

from mace_core.errors import MaceError
from mace_core.frontend.load import load_model
from mace_core.session import Session

Array = npt.NDArray[Any]

DTYPES = (np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run gave: arrays, or the error's words; and how many nodes were left to run."""

    results: list[Any]
    error: str
    nodes: int


def fed(case: OpCase, device: str = "cpu") -> Outcome:
    """The case with every input fed."""
    return _run(dataclasses.replace(case, constants=frozenset(), symbolic=False), device)


def folded(case: OpCase, device: str = "cpu") -> Outcome:
    """The case with every input a constant."""
    given = frozenset(index for index, array in enumerate(case.inputs) if array is not None)
    return _run(dataclasses.replace(case, constants=given, symbolic=False), device)


def _run(case: OpCase, device: str) -> Outcome:
    try:
        with Session(case.model(), devices=[device], cache=False) as session:
            results = list(session.run(case.feeds).values())
            return Outcome(results, "", len(session._graph.nodes))
    except MaceError as error:
        return Outcome([], str(error), len(load_model(case.model()).nodes))


def difference(first: Outcome, second: Outcome) -> str:
    """How two outcomes differ in any bit, all NaNs being equal; "" where they do not."""
    if bool(first.error) != bool(second.error):
        return f"fed: {first.error or first.results}; constant: {second.error or second.results}"
    for fed_result, folded_result in zip(first.results, second.results, strict=True):
        both = [
            item if isinstance(item, list) else [item] for item in (fed_result, folded_result)
        ]  # a list: a sequence
        if len(both[0]) != len(both[1]) or not all(
            map(same_bits, *([np.asarray(part) for part in item] for item in both))
        ):
            return f"fed: {fed_result!r}; constant: {folded_result!r}"
    return ""


def same_bits(first: Array, second: Array) -> bool:
    """Equal in type, shape and every bit (so that -0.0 is not 0.0), all NaNs being equal."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype == object:
        return bool((first == second).all())
    missing = first != first
    if not np.array_equal(missing, second != second):
        return False
    zero = np.zeros((), first.dtype)
    return bool(np.where(missing, zero, first).tobytes() == np.where(missing, zero, second).tobytes())


@functools.cache
def telling(dtype: type[np.generic]) -> Array:
    """The numbers of a type where implementations differ: zeros of either sign, ends, halves, NaN, infinities."""
    kind = np.dtype(dtype)
    if kind == np.bool_:
        return np.array([False, True])
    if kind.kind in "iu":
        info = np.iinfo(kind)
        middle = [0, 1, 2, 3, 5, 7, 100] + ([-1, -2, -3, -7] if kind.kind == "i" else [])
        return np.array([info.min, info.min + 1, *middle, info.max - 1, info.max], kind)
    largest, tiny = float(np.finfo(kind).max), float(np.finfo(kind).smallest_subnormal)
    numbers = [0.0, 0.5, 1.0, 1.5, 2.5, 3.7, 127.6, 200.0, 255.5, 300.0, 40000.0, 3e9, 1e10, 1e19, 2e19, largest, tiny]
    with np.errstate(all="ignore"):
        return np.array([*numbers, *(-x for x in numbers), np.inf, -np.inf, np.nan], kind)

"""Runs a case on the provider and on the judges, and decides."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import MaceError, StrictPlacementError
from mace_core.session import Session
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.judges import JUDGES
from mace_testing.fuzzing.known import excuse

Array = npt.NDArray[Any]

TOLERANCE = {"float16": 4e-3, "bfloat16": 4e-2, "float32": 1e-5, "float64": 1e-5, "complex64": 1e-5}
"""Of the largest element.  float64: several operators of both judges compute it in float32."""

NEAR_ZERO = 0.1
"""Added to the largest element: inputs are of the order of 1, and results near 0 come from differences of such."""


class Outcome(enum.Enum):
    """How a case came out."""

    RIGHT = "right"  # as at least one judge says, and every other judge that differs is known to be wrong there
    WRONG = "wrong"  # unlike every judge
    DISPUTED = "disputed"  # the judges differ, and no reason is written down
    DECLINED = "declined"  # the provider does not take the node
    UNJUDGED = "unjudged"  # no judge takes the node
    EXCUSED = "excused"  # unlike every judge that answered, all of which are known to be wrong there


@dataclass(frozen=True)
class Verdict:
    """The outcome and what was said; ``against``: the judges that the provider differs from."""

    outcome: Outcome
    detail: str = ""
    against: tuple[str, ...] = ()

    @property
    def is_failure(self) -> bool:
        return self.outcome in (Outcome.WRONG, Outcome.DISPUTED)


def decide(case: OpCase, provider: str) -> Verdict:
    """The verdict on one case."""
    model, feeds = case.model(), case.feeds
    found: list[Any] | None = None
    refusal = ""
    try:
        with Session(model, devices=[provider], strict=True, cache=False) as session:
            results = session.run(feeds)
        found = [results[f"y{i}"] for i, asked in enumerate(case.outputs) if asked]
    except StrictPlacementError as error:
        return Verdict(Outcome.DECLINED, _reason(error))
    except MaceError as error:
        refusal = _short(error)
    except Exception as error:
        # what no caller should ever see counts as an answer, or nobody would hear of it
        refusal = f"escaped {type(error).__name__}: {_short(error)}"
        if _answers(case, model) == {}:
            return Verdict(Outcome.WRONG, refusal)
    answers = _answers(case, model)
    if not answers:
        return Verdict(Outcome.UNJUDGED, refusal)
    differences = {judge: _difference(case, found, refusal, answer) for judge, answer in answers.items()}
    against = tuple(judge for judge, text in differences.items() if text)
    detail = "; ".join(f"{judge}: {text}" for judge, text in differences.items() if text)
    if not against:
        return Verdict(Outcome.RIGHT)
    unexcused = [judge for judge in against if not excuse(judge, case)]
    if not unexcused:
        right = len(against) < len(differences)
        return Verdict(Outcome.RIGHT if right else Outcome.EXCUSED, detail, against)
    if len(against) < len(differences):
        return Verdict(Outcome.DISPUTED, detail, against)
    return Verdict(Outcome.WRONG, detail, against)


def _answers(case: OpCase, model: Any) -> dict[str, list[Any]]:
    """What each judge that takes the case says."""
    found = {}
    for name, ask in JUDGES.items():
        try:
            found[name] = ask(model, {key: array.copy() for key, array in case.feeds.items()})
        except Exception:  # a judge that refuses has no say
            continue
    return found


def _difference(case: OpCase, found: Sequence[Any] | None, refusal: str, expected: Sequence[Any]) -> str:
    """What differs; "" where nothing does."""
    if found is None:
        return f"has a result, the provider says: {refusal}"
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        text = difference(np.asarray(mine), np.asarray(theirs), case.tolerance, case.off_by)
        if text:
            return f"output {index}: {text}"
    return ""


def difference(found: Array, expected: Array, tolerance: float | None = None, off_by: int = 0) -> str:
    """How two arrays differ beyond the tolerance, in words; "" where they do not."""
    if found.dtype != expected.dtype:
        return f"is {found.dtype}, should be {expected.dtype}"
    if found.shape != expected.shape:
        return f"has shape {list(found.shape)}, should have {list(expected.shape)}"
    if found.dtype.kind in "iub":
        bad = found != expected
        if off_by and bad.any():
            bad = np.abs(found.astype(np.int64) - expected.astype(np.int64)) > off_by
    else:
        bad = _floats_differ(found, expected, max(tolerance or 0, TOLERANCE.get(found.dtype.name, 1e-5)))
    if not bad.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    first = f"first at {list(at)}: {found[at]!r}, should be {expected[at]!r}"
    return f"{int(bad.sum())} of {bad.size} elements differ, {first}"


def _floats_differ(found: Array, expected: Array, tolerance: float) -> npt.NDArray[np.bool_]:
    wide = np.complex128 if found.dtype.kind == "c" else np.float64
    mine, theirs = found.astype(wide), expected.astype(wide)
    finite = np.isfinite(theirs)
    largest = float(np.abs(theirs[finite]).max()) if finite.any() else 0.0
    with np.errstate(all="ignore"):
        near = np.abs(mine - theirs) <= tolerance * (largest + NEAR_ZERO)
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    different: npt.NDArray[np.bool_] = ~(same | (finite & near))
    return different


def _reason(error: StrictPlacementError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("node ")), lines[0])[:300]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

"""Where a judge does not do what the ONNX specification says.

Each entry names the judge, the operator, when it is wrong, and why the specification says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mace_core.testing.fuzzing.case import OpCase

REFERENCE, RUNTIME = "onnx.reference", "onnxruntime"


@dataclass(frozen=True)
class Known:
    """A judge is not asked about cases for which ``when`` holds."""

    judge: str
    ops: tuple[str, ...]
    reason: str
    when: Callable[[OpCase], bool] = lambda case: True


KNOWN: tuple[Known, ...] = ()


def excuse(judge: str, case: OpCase) -> str:
    """Why the judge's answer does not count; "" where it does."""
    for known in KNOWN:
        if known.judge == judge and case.op in known.ops and known.when(case):
            return known.reason
    return ""

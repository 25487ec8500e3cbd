"""Single operations of epilogues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EpilogueOp:
    """One operation on the accumulators.

    Attributes:
        kind: a function of ``vector_activation``, or one of ``add``, ``mul``, ``sub``, ``rsub``, ``div``, ``prelu``,
            ``save``, which remembers the accumulators for a later operation, or ``swap``, which exchanges them with
            those remembered last.
        operand: "" for activations, else "channel", "tensor", or "saved" for what the last ``save`` remembered.
        parameters: constants of the activation, part of the generated code; None for a bound that is not there.
    """

    kind: str
    operand: str = ""
    parameters: tuple[float | None, ...] = ()

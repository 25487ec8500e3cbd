"""What of a plan depends on sizes that are decided at each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mace_core.symbolic import SizeProgram

Words = npt.NDArray[np.int64]


class PlanSizes(NamedTuple):
    """Which words of a plan a size program computes.

    Attributes:
        program: over the sizes that are decided at a run.
        words: (n, 2): word of the plan, register.
        steps: (n, 3): step, column of the table of steps, register.
        relocations: (n, 2): relocation whose offset it is, register.
    """

    program: SizeProgram
    words: Words
    steps: Words
    relocations: Words

"""Plans that native code runs one after the other: each goes on with what those before it computed."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import numpy as np

from mace_core.native.kernel import load_kernels
from mace_core.native.runner_ir import BETWEEN_TURNS as AGAIN
from mace_core.native.runner_ir import CANCELLED, ENTERING, STAGES_END, STAGES_RUNNER, StagesControl
from mace_core.native.turns import enter_stage

__all__ = ["AGAIN", "ENTERING", "StageRunner"]


class StageRunner:
    """Runs stages; for one run at a time."""

    def __init__(self, stages: Sequence[tuple[int, int]]) -> None:
        """``stages``: for each the addresses of what `enter_stage` is called with (`mace_core.native.turns.EnterWords`)
        and of its block (`mace_core.native.plan.PlanInstance.stage`)."""
        self._rows = np.array(stages, np.int64)
        self._block = (ctypes.c_int64 * StagesControl.SIZE)()
        self._block[StagesControl.ENTER] = enter_stage()
        self._block[StagesControl.ROWS] = int(self._rows.ctypes.data)
        self._block[StagesControl.COUNT] = len(stages)
        self._address = ctypes.addressof(self._block)
        self._count = len(stages)
        self._call = _run_stages()

    def run(self, start: int, stop: Callable[[int], object]) -> int:
        """Run stages until all have been, or one cannot; which that is, or their number.

        Args:
            start: `ENTERING` for a run from the first stage on, `AGAIN` to go on with the one that could not.
            stop: called with the number of a stage whose run was cancelled; raises why.
        """
        block, call, address = self._block, self._call, self._address
        if start == ENTERING:
            block[_CURRENT] = 0
        step = call(address, start)
        while step != STAGES_END:
            if step == CANCELLED:
                stop(block[_CURRENT])
            step = call(address, step)
        return block[_CURRENT]


_CURRENT = int(StagesControl.CURRENT)


@functools.cache
def _run_stages() -> Callable[[int, int], int]:
    address = load_kernels([STAGES_RUNNER])[STAGES_RUNNER.symbol]
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)

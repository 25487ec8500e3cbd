"""What of a plan depends on sizes that are decided at each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.errors import ProviderBugError

if TYPE_CHECKING:
    from mace_core.symbolic import SizeProgram

Words = npt.NDArray[np.int64]


FIRST_SIZED_COLUMN = 2
"""Of the table of steps: the kernel and the place of its arguments are the same for all sizes."""


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

    def check(self, words: int, steps: int, columns: int, relocations: int) -> None:
        """Look whether all that is written and read is there; native code does not look again.

        Args:
            words, steps, relocations: how many the plan has.
            columns: of its table of steps.

        Raises:
            ProviderBugError: if something is not.
        """
        from mace_core.symbolic.program import Op

        program = self.program
        operations, left, right = program.rows.T.reshape(3, -1)
        own = program.symbols + np.arange(len(program.rows))
        of_two = np.isin(operations, [Op.ADD, Op.MULTIPLY, Op.FLOOR_DIVIDE, Op.MINIMUM, Op.MAXIMUM])
        faults = ~np.isin(operations, list(Op)) | (left < 0) | ((left >= own) & (operations != Op.NUMBER))
        faults |= of_two & ((right < 0) | (right >= own))
        targets = (
            (self.words[:, :1], words),
            (self.steps[:, :2], (steps, columns)),
            (self.relocations[:, :1], relocations),
        )
        is_sound = program.symbols >= 0 and not faults.any() and bool((self.steps[:, 1] >= FIRST_SIZED_COLUMN).all())
        for places, limits in targets:
            is_sound &= bool(((places >= 0) & (places < limits)).all())
        for table in (self.words, self.steps, self.relocations):
            registers = table[:, -1]
            is_sound &= bool(((registers >= 0) & (registers < program.registers)).all())
        if not is_sound:
            raise ProviderBugError("what a plan computes of its sizes names a word or a register that does not exist")

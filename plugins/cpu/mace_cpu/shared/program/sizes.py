"""Gathers what of a subgraph depends on sizes that are not decided."""

from __future__ import annotations

from typing import cast

import numpy as np

from mace_core.native.sizes import PlanSizes
from mace_core.symbolic import SizeProgramBuilder, Trace, hint, is_symbolic, polynomial_of


class SizeCollector:
    """Puts the numbers for the shapes at hand in the place of expressions, and notes where these belong."""

    def __init__(self, trace: Trace | None) -> None:
        self._builder = None if trace is None else SizeProgramBuilder(trace)
        self._words: list[tuple[int, int]] = []
        self._steps: list[tuple[int, int, int]] = []
        self._relocations: list[tuple[int, int]] = []

    @property
    def is_used(self) -> bool:
        """Whether anything depended on them so far."""
        return bool(self._words or self._steps or self._relocations)

    def of_word(self, index: int, word: int) -> int:
        if is_symbolic(word):
            self._words.append((index, self._register(word)))
        return hint(word)

    def of_step(self, step: int, column: int, value: int) -> int:
        if is_symbolic(value):
            self._steps.append((step, column, self._register(value)))
        return hint(value)

    def of_relocation(self, index: int, offset: int) -> int:
        if is_symbolic(offset):
            self._relocations.append((index, self._register(offset)))
        return hint(offset)

    def relocation(self, index: int, offset: int) -> tuple[int, int]:
        """Which of the relocations noted one is, and the register of a part of its offset."""
        rows = [number for number, (noted, _) in enumerate(self._relocations) if noted == index]
        return rows[0], self._register(offset)

    def finish(self) -> PlanSizes | None:
        """What a plan needs of it; None where nothing depends on them."""
        if not self.is_used or self._builder is None:
            return None
        return PlanSizes(
            self._builder.finish(),
            np.array(self._words, np.int64).reshape(-1, 2),
            np.array(self._steps, np.int64).reshape(-1, 3),
            np.array(self._relocations, np.int64).reshape(-1, 2),
        )

    def _register(self, value: int) -> int:
        return cast("SizeProgramBuilder", self._builder).register(polynomial_of(value))

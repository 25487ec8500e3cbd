"""What a subgraph is once it is lowered: plain data that runs, and that can be stored and used by another process.

This module and what it imports know nothing of lowering: a warm start needs no more than this.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.native.sizes import PlanSizes
from mace_core.provider.weights import SharedArray
from mace_core.tensor import DType

ARENA_SLOT, CONSTANT_SLOT, FIRST_INPUT_SLOT = 0, 1, 2

ALIGNMENT_BYTES = 64

STATUS_WORDS = 2
"""Words per fault: a flag that is zero while all is well, and the offending number."""

JOURNAL_WORDS = 4
"""Words that say what to put back: address of the journal, rows, bytes of a row, address of the target."""

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Fault(NamedTuple):
    """What a status word that is not zero means: a sentence with ``{value}`` for what the kernel found; all else in it,
    braces included, stands for itself."""

    message: str
    node: str


class SizedByRun(NamedTuple):
    """An output whose shape only the run tells.

    Attributes:
        output: its index.
        dtype: of its elements.
        offset: where in the arena the elements are, row-major.
        offset_word: the word of the plan that holds the offset, where it follows from sizes that are decided at a run.
        first_word, rank: where among the dimension words its dimensions are, and how many.
    """

    output: int
    dtype: DType
    offset: int
    first_word: int
    rank: int
    offset_word: int = -1


GATE = ""
"""In the place of a kernel's symbol: the step is a gate, see `mace_core.native.plan.gate`."""


class AssembledStep(NamedTuple):
    """One kernel over all its work, see `mace_core.native.plan.PlanStep`; its arguments begin at ``first_word``."""

    symbol: str
    first_word: int
    extent: int
    chunks: int
    name: str
    source: tuple[str, ...]
    piece: int = 0


class InnerSteps(NamedTuple):
    """What a step calls for each of its units, for profiles.

    Attributes:
        step: its number.
        times_word: the word that is 0, or the address of ``units * len(names)`` records of three words.
        names, sources: of what it calls, in order, as those of `AssembledStep`.
    """

    step: int
    times_word: int
    names: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]


class Assembly(NamedTuple):
    """A subgraph as steps, words and addresses to fill in.

    Attributes:
        steps: run in this order.
        words: the arguments of all steps.
        calls: (word, symbol): words that are to hold the address of a kernel which a step calls.
        relocations: (n, 3): word, base slot, byte offset; offsets into the constants count from ``constants``.
        workspace_bytes: the size of the arena.
        inputs, outputs: names of the view's inputs and outputs, in order.
        faults, dim_words, notes: see `mace_cpu.shared.parts.steps.Steps` and `mace_cpu.shared.program.values.Values`.
        sized_by_run: outputs whose shape only the run tells.
        constants: all constants, the address they count from, and what keeps them alive.
        sizes: what follows from sizes that are decided at a run.
        in_place: see `mace_core.provider.CompiledSubgraph.in_place`.
        inner: the steps that call others and tell their times.
        journals: the first of the ``JOURNAL_WORDS`` words, among those for dimensions, of what a run writes over.
    """

    steps: list[AssembledStep]
    words: Words
    calls: tuple[tuple[int, str], ...]
    relocations: Words
    workspace_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    faults: tuple[Fault, ...]
    sized_by_run: tuple[SizedByRun, ...]
    dim_words: int
    notes: dict[str, str]
    constants: Constants
    sizes: PlanSizes | None = None
    in_place: tuple[int, ...] = ()
    journals: tuple[int, ...] = ()
    inner: tuple[InnerSteps, ...] = ()

    @property
    def symbols(self) -> set[str]:
        """Every kernel that it runs."""
        called = {symbol for _, symbol in self.calls}
        return called.union(step.symbol for step in self.steps if step.symbol != GATE)


class Constants(NamedTuple):
    """Where the constants of a subgraph are.

    Attributes:
        address: offsets of relocations count from here.
        owners: arrays that own the memory, but for that of ``weights``.
        weights: large constants, which others share.
        parts: each small constant and where a single block of all of them has it; empty for what came out of such a
            block.
        block_places: (n, 2): for each relocation what its offset counts from, and that offset: a number of ``weights``,
            or -1 for such a block.  None for what was restored.
        sized_places: of relocations to a place in a constant that follows from sizes of a run: the row of
            `PlanSizes.relocations`, the register of the place, and what ``block_places`` says of where the constant
            begins.
    """

    address: int
    owners: tuple[npt.NDArray[np.generic], ...]
    weights: tuple[SharedArray, ...] = ()
    parts: tuple[tuple[int, Bytes], ...] = ()
    block_places: Words | None = None
    sized_places: tuple[tuple[int, int, int], ...] = ()

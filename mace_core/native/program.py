"""A compiled subgraph as plain data: what is written into a library that runs without Python.

A provider that compiles to a `NativePlan` can give one.  It is the plan before any address is known, with kernels as
object code for the processor that the backend was opened for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mace_core.native.sizes import PlanSizes
from mace_core.native.target import Target

Words = npt.NDArray[np.int64]
"""Argument words, step tables and other numbers of a program."""
Bytes = npt.NDArray[np.uint8]
"""The bytes of a constant."""

GATE = ""
"""In the place of a kernel's symbol: the step is a gate, see `mace_core.native.plan.gate`."""

ARENA_SLOT, CONSTANT_SLOT, FIRST_INPUT_SLOT = 0, 1, 2
"""What relocations count from: the arena, a constant, and then each input, each output, the words of faults, and the
words in which kernels note sizes."""


class ProgramStep(NamedTuple):
    """A step of a plan, see `mace_core.native.plan.PlanStep`, whose kernel is a symbol."""

    kernel: str
    args: int
    extent: int
    chunks: int
    name: str
    source: tuple[str, ...]
    piece: int = 0


class ProgramFault(NamedTuple):
    """What a pair of status words that is not zero means: a sentence with ``{value}``, and the node it is about."""

    message: str
    node: str


class SizedConstant(NamedTuple):
    """A relocation whose offset into a constant follows from sizes: a row of ``PlanSizes.relocations``, the register of
    the place in what kernels call a constant, and where that begins in the one of `NativeProgram.constants`."""

    row: int
    register: int
    start: int


class NativeProgram(NamedTuple):
    """A subgraph that native code can run.

    Attributes:
        target: the processor that its kernels are for.
        kernels: object code by symbol, see `mace_core.native.kernel.build_kernels`.
        steps: run in this order.
        words: the arguments of all steps.
        calls: (word, symbol): words that are to hold the address of a kernel which a step calls.
        relocations: (n, 3): word, slot, byte offset.
        constants: memory that kernels read, each at a multiple of 64 bytes.
        constant_of: for each relocation of the slot of constants the number of the constant that its offset counts
            from; -1 for the others.
        workspace_bytes: the size of the arena; an expression where sizes are symbols.
        inputs, outputs: names of the subgraph's inputs and outputs, in the order of their slots.
        faults: in the order of their pairs of status words.
        dim_words: how many words kernels note sizes in.
        sizes: what follows from sizes that are decided at a run.
        sized_constants: places in constants that do.
        unsized: names of outputs whose shape only the run tells.
    """

    target: Target
    kernels: Mapping[str, bytes]
    steps: Sequence[ProgramStep]
    words: Words
    calls: Sequence[tuple[int, str]]
    relocations: Words
    constants: Sequence[Bytes]
    constant_of: Words
    workspace_bytes: int
    inputs: Sequence[str]
    outputs: Sequence[str]
    faults: Sequence[ProgramFault]
    dim_words: int
    sizes: PlanSizes | None = None
    sized_constants: Sequence[SizedConstant] = ()
    unsized: Sequence[str] = ()


@runtime_checkable
class HasProgram(Protocol):
    """A compiled subgraph that can be written into a library."""

    def program(self) -> NativeProgram:
        """It as plain data."""

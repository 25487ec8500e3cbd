"""What a subgraph is once it is lowered: plain data that runs, and that can be stored and used by another process.

This module and what it imports know nothing of lowering: a warm start needs no more than this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.tensor import DType

if TYPE_CHECKING:
    from mace_cpu.shared.program.buffers import Buf
    from mace_cpu.shared.program.program import Program

ARENA_SLOT, CONSTANT_SLOT, FIRST_INPUT_SLOT = 0, 1, 2

ALIGNMENT_BYTES = 64

STATUS_WORDS = 2
"""Words per fault: a flag that is zero while all is well, and the offending number."""

LARGEST_PIECE_WORK = 1 << 25
"""A call of a kernel processes units of at most about this many scalar operations, a millisecond where they are done in
vectors and some tens of them where not: a run can be stopped only between calls, but for kernels whose single unit may
be larger and that poll (``stop_requested``)."""

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Fault(NamedTuple):
    """What a status word that is not zero means: a sentence with ``{value}`` for what the kernel found."""

    message: str
    node: str


class SizedByRun(NamedTuple):
    """An output whose shape only the run tells.

    Attributes:
        output: its index.
        dtype: of its elements.
        offset: where in the arena the elements are, row-major.
        first_word, rank: where among the dimension words its dimensions are, and how many.
    """

    output: int
    dtype: DType
    offset: int
    first_word: int
    rank: int


class AssembledStep(NamedTuple):
    """One kernel over all its work, see `mace_core.native.plan.PlanStep`; its arguments begin at ``first_word``."""

    symbol: str
    first_word: int
    extent: int
    chunks: int
    name: str
    source: tuple[str, ...]
    piece: int = 0


class Assembly(NamedTuple):
    """A subgraph as steps, words and addresses to fill in.

    Attributes:
        steps: run in this order.
        words: the arguments of all steps.
        calls: (word, symbol): words that are to hold the address of a kernel which a step calls.
        relocations: (n, 3): word, base slot, byte offset; offsets into the constants count from ``constants``.
        workspace_bytes: the size of the arena.
        inputs, outputs: names of the view's inputs and outputs, in order.
        faults, sized_by_run, dim_words, notes: see `mace_cpu.shared.program.program.Program`.
        constants: all constants, the address they count from, and what keeps them alive.
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

    @property
    def symbols(self) -> set[str]:
        """Every kernel that it runs."""
        return {step.symbol for step in self.steps}.union(symbol for _, symbol in self.calls)


class Constants(NamedTuple):
    """Where the constants of a subgraph are.

    Attributes:
        address: offsets of relocations count from here.
        owners: arrays that own the memory.
        parts: each constant and where a single block of all of them has it; empty for what came out of such a block.
        block_offsets: for each relocation the offset it has in such a block.
    """

    address: int
    owners: tuple[npt.NDArray[np.generic], ...]
    parts: tuple[tuple[int, Bytes], ...] = ()
    block_offsets: Words | None = None


def assemble(program: Program) -> Assembly:
    """What has been lowered, with every buffer at its place."""
    from mace_cpu.shared.program.buffers import Place

    workspace_bytes = _plan_buffers(program)
    constants, block_places = _place_constants(program)
    inputs, outputs = len(program.view.inputs), len(program.view.outputs)
    slots = {
        Place.ARENA: ARENA_SLOT,
        Place.CONSTANT: CONSTANT_SLOT,
        Place.INPUT: FIRST_INPUT_SLOT,
        Place.OUTPUT: FIRST_INPUT_SLOT + inputs,
        Place.STATUS: FIRST_INPUT_SLOT + inputs + outputs,
        Place.DIMS: FIRST_INPUT_SLOT + inputs + outputs + 1,
    }
    steps: list[AssembledStep] = []
    words: list[int] = []
    calls: list[tuple[int, str]] = []
    relocations: list[tuple[int, int, int]] = []
    block_offsets: list[int] = []
    for step in program.steps:
        words.append(0)  # of the control block
        first = len(words)
        for index, at in step.addresses:
            base = at.buf.index if at.buf.place in (Place.INPUT, Place.OUTPUT) else 0
            relocations.append((first + index, slots[at.buf.place] + base, at.buf.offset + at.offset))
            block_offsets.append(block_places.get(at.buf, at.buf.offset) + at.offset)
        words.extend(step.words)
        calls += [(first + index, called.symbol) for index, called in step.calls]
        piece = _piece(step.extent, step.work)
        steps.append(AssembledStep(step.kernel.symbol, first, step.extent, step.chunks, step.name, step.source, piece))
    return Assembly(
        steps,
        np.array(words, np.int64),
        tuple(calls),
        np.array(relocations, np.int64).reshape(-1, 3),
        workspace_bytes,
        tuple(value.name for value in program.view.inputs),
        tuple(value.name for value in program.view.outputs),
        tuple(program.faults),
        tuple(SizedByRun(u.index, u.dtype, u.data.offset, u.first_word, u.rank) for u in program.unsized),
        program.dim_words,
        dict(program.notes),
        constants._replace(block_offsets=np.array(block_offsets, np.int64)),
    )


def _plan_buffers(program: Program) -> int:
    """Give every arena buffer its offset; returns the arena's size in bytes."""
    from mace_core.scheduler.planning.memory import Lifetime, plan_arena

    spans = lifetimes(program)
    entries = [Lifetime(first=first, last=last, nbytes=buf.nbytes) for buf, (first, last) in spans.items()]
    plan = plan_arena(entries, alignment=ALIGNMENT_BYTES)
    for buf, offset in zip(spans, plan.offsets, strict=True):
        buf.offset = offset
    return plan.total_bytes


def lifetimes(program: Program) -> dict[Buf, tuple[int, int]]:
    """Numbers of the first and the last step that need a buffer of the arena.

    A buffer lives from the first to the last step that names it.  What is handed over when all steps have run lives
    until then: it is needed by the step after the last, which does not exist.
    """
    from mace_cpu.shared.program.buffers import At, Place

    spans: dict[Buf, tuple[int, int]] = {}
    for index, step in enumerate(program.steps):
        for _, at in step.addresses:
            if at.buf.place is Place.ARENA:
                first, _ = spans.get(at.buf, (index, index))
                spans[at.buf] = first, index
    for output in program.unsized:
        whole = At(output.data).in_whole().buf
        if whole in spans:
            spans[whole] = spans[whole][0], len(program.steps)
    return spans


def _place_constants(program: Program) -> tuple[Constants, dict[object, int]]:
    """Give every constant buffer its offset, and tell where one block of all of them would have it.

    Small constants are gathered in one array; packed weights stay where they are.
    """
    total = block_total = 0
    block_places: dict[object, int] = {}
    for buf, _ in program.constants:
        rounded = -(-buf.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        block_places[buf] = block_total
        block_total += rounded
        if not buf.in_place:
            buf.offset = total
            total += rounded
    gathered = np.zeros(total + ALIGNMENT_BYTES, np.uint8)
    start = -gathered.ctypes.data % ALIGNMENT_BYTES
    base = gathered.ctypes.data + start
    owners: list[npt.NDArray[np.generic]] = [gathered]
    parts: list[tuple[int, Bytes]] = []
    for buf, data in program.constants:
        content = data.reshape(-1).view(np.uint8)
        if buf.in_place:
            buf.offset = data.ctypes.data - base
            owners.append(data)
        else:
            place = gathered[start + buf.offset : start + buf.offset + buf.nbytes]
            place[:] = content
            content = place
        parts.append((block_places[buf], content))
    return Constants(base, tuple(owners), tuple(parts)), block_places


def _piece(extent: int, work: float) -> int:
    """How many of ``extent`` units one call of a kernel is to process; 0 where it may be all."""
    if work <= LARGEST_PIECE_WORK:
        return 0
    piece = max(int(extent * (LARGEST_PIECE_WORK / work)), 1)
    return piece if piece < extent else 0

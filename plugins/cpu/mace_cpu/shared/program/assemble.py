"""From a program to what runs and is stored: every buffer at its place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.provider import arenas as memory
from mace_core.symbolic import ceiling, hint, is_symbolic, maximum, whole
from mace_cpu.plan.assembly import (
    ALIGNMENT_BYTES,
    ARENA_SLOT,
    CONSTANT_SLOT,
    FIRST_INPUT_SLOT,
    AssembledStep,
    Assembly,
    Bytes,
    Constants,
    InnerSteps,
    SizedByRun,
)
from mace_cpu.shared.parts.buffers import At, Buf, Place
from mace_cpu.shared.parts.steps import Again, Gate
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.program.sizes import SizeCollector

LARGEST_PIECE_WORK = 1 << 25
"""A call of a kernel processes units of at most about this many scalar operations, a millisecond where they are done in
vectors and some tens of them where not: a run can be stopped only between calls, but for kernels whose single unit may
be larger and that poll (``stop_requested``)."""


def assemble(program: Program) -> Assembly:
    """What has been lowered, with every buffer at its place."""
    workspace_bytes = plan_buffers(program)
    constants, block_places = _place_constants(program)
    inputs, outputs = len(program.facts.view.inputs), len(program.facts.view.outputs)
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
    places: list[tuple[int, int]] = []
    inner: list[InnerSteps] = []
    in_constants: dict[int, tuple[int, int]] = {}  # by relocation: where the constant begins, and the place in it
    positions = {id(step): position for position, step in enumerate(program.steps.emitted)}
    for step in program.steps.emitted:
        words.append(0)  # of the control block
        first = len(words)
        for index, at in step.addresses:
            base = at.buf.index if at.buf.place in (Place.INPUT, Place.OUTPUT) else 0
            relocations.append((first + index, slots[at.buf.place] + base, at.buf.offset + at.offset))
            number, start = block_places.get(at.buf, (-1, at.buf.offset))
            places.append((number, hint(start + at.offset)))
            if at.buf in block_places and is_symbolic(at.offset):
                in_constants[len(places) - 1] = start, at.offset
        words.extend(step.words)
        calls += [(first + index, called.symbol) for index, called in step.calls]
        if step.inner:
            names, sources = tuple(s.name for s in step.inner), tuple(s.source for s in step.inner)
            inner.append(InnerSteps(len(steps), first + step.times_word, names, sources))
        extent, piece = step.extent, piece_of(step.extent, step.work)
        if isinstance(step, Gate):
            extent, piece = positions[id(step.last)] + 1, int(step.runs_if)
        elif isinstance(step, Again):
            extent, piece = positions[id(step.first)], 0
        steps.append(AssembledStep(step.kernel.symbol, first, extent, step.chunks, step.name, step.source, piece))
    sized_by_run: list[SizedByRun] = []
    for u in program.values.unsized:
        word = -1
        if is_symbolic(u.data.offset):
            word = len(words)
            words.append(u.data.offset)
        sized_by_run.append(SizedByRun(u.index, u.dtype, hint(u.data.offset), u.first_word, u.rank, word))
    sizes = SizeCollector(program.facts.view.trace)
    return Assembly(
        [
            step._replace(
                extent=sizes.of_step(number, 2, step.extent),
                chunks=sizes.of_step(number, 3, step.chunks),
                piece=sizes.of_step(number, 4, step.piece),
            )
            for number, step in enumerate(steps)
        ],
        np.array([sizes.of_word(index, word) for index, word in enumerate(words)], np.int64),
        tuple(calls),
        np.array(
            [(word, slot, sizes.of_relocation(index, at)) for index, (word, slot, at) in enumerate(relocations)],
            np.int64,
        ).reshape(-1, 3),
        workspace_bytes,
        tuple(value.name for value in program.facts.view.inputs),
        tuple(value.name for value in program.facts.view.outputs),
        tuple(program.steps.faults),
        tuple(sized_by_run),
        program.values.dim_words,
        dict(program.steps.notes),
        constants._replace(
            block_places=np.array(places, np.int64).reshape(-1, 2),
            sized_places=tuple((*sizes.relocation(index, at), start) for index, (start, at) in in_constants.items()),
        ),
        sizes.finish(),
        tuple(sorted(program.values.in_place)),
        tuple(journal.first_word for journal in program.values.journals),
        tuple(inner),
    )


def plan_buffers(program: Program) -> int:
    """Give every arena buffer its offset; returns the arena's size in bytes."""
    spans = lifetimes(program)
    entries = [memory.Lifetime(first=first, last=last, nbytes=buf.nbytes) for buf, (first, last) in spans.items()]
    plan = memory.plan_arena(entries, alignment=ALIGNMENT_BYTES)
    for buf, offset in zip(spans, plan.offsets, strict=True):
        buf.offset = offset
    return plan.total_bytes


def lifetimes(program: Program) -> dict[Buf, tuple[int, int]]:
    """Numbers of the first and the last step that need a buffer of the arena.

    A buffer lives from the first to the last step that names it.  What is brought into a loop lives to its end, since
    the next turn needs it, too; and what comes out of it lives from its beginning, since turns before add to it.  What
    is handed over when all steps have run lives until then: it is needed by the step after the last, which does not
    exist.
    """
    spans: dict[Buf, tuple[int, int]] = {}
    for index, step in enumerate(program.steps.emitted):
        for _, at in step.addresses:
            if at.buf.place is Place.ARENA:
                first, _ = spans.get(at.buf, (index, index))
                spans[at.buf] = first, index
    positions = {id(step): index for index, step in enumerate(program.steps.emitted)}
    for end, step in enumerate(program.steps.emitted):
        if isinstance(step, Again):
            begin = positions[id(step.first)]
            for buf, (first, last) in spans.items():
                if first < begin <= last < end:
                    spans[buf] = first, end
                elif begin < first <= end < last:
                    spans[buf] = begin, last
    journals = (journal.data for journal in program.values.journals)
    for kept in (*(output.data for output in program.values.unsized), *journals):
        whole = At(kept).in_whole().buf
        if whole in spans:
            spans[whole] = spans[whole][0], len(program.steps.emitted)
    return spans


def _place_constants(program: Program) -> tuple[Constants, dict[object, tuple[int, int]]]:
    """Give every constant buffer its offset, and tell what a stored form counts it from, and at which offset it is.

    Small constants are gathered in one array; packed weights stay where they are.
    """
    total = block_total = 0
    places: dict[object, tuple[int, int]] = {}
    weights = program.constants.weights
    numbers = {buf: number for number, buf in enumerate(weights)}
    for buf, _ in program.constants.all:
        rounded = -(-buf.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        if buf in weights:
            places[buf] = numbers[buf], 0
        else:
            places[buf] = -1, block_total
            block_total += rounded
        if not buf.in_place:
            buf.offset = total
            total += rounded
    gathered = np.zeros(total + ALIGNMENT_BYTES, np.uint8)
    start = -gathered.ctypes.data % ALIGNMENT_BYTES
    base = gathered.ctypes.data + start
    owners: list[npt.NDArray[np.generic]] = [gathered]
    parts: list[tuple[int, Bytes]] = []
    for buf, data in program.constants.all:
        if buf.in_place:
            buf.offset = data.ctypes.data - base
            if buf in weights:
                continue
            owners.append(data)
        content = data.reshape(-1).view(np.uint8)
        if not buf.in_place:
            place = gathered[start + buf.offset : start + buf.offset + buf.nbytes]
            place[:] = content
            content = place
        parts.append((places[buf][1], content))
    return Constants(base, tuple(owners), tuple(weights.values()), tuple(parts)), places


def piece_of(extent: int, work: float) -> int:
    """How many of ``extent`` units one call of a kernel is to process; 0 where it may be all."""
    if is_symbolic(extent) or is_symbolic(work):
        units = maximum(whole(work, LARGEST_PIECE_WORK), 0) + 1  # pieces
        return ceiling(extent, units)
    if work <= LARGEST_PIECE_WORK:
        return 0
    piece = max(int(extent * (LARGEST_PIECE_WORK / work)), 1)
    return piece if piece < extent else 0

"""Stretches of a graph that are computed row by row become one step; see `mace_cpu.batch.stretches`.

The nodes are lowered as for a batch of one row and for one thread, so that a row of a batch is computed as a run of
that row alone would be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mace_core.graph import GraphView, Node, Value
from mace_core.native.chunk_times import TIMED_CHUNK
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint, minimum
from mace_core.tensor import TensorType
from mace_cpu.batch.arguments import Arg, Entry
from mace_cpu.batch.stretches import Stretch, find_stretches
from mace_cpu.plan.assembly import ALIGNMENT_BYTES
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import At, Buf, Place
from mace_cpu.shared.parts.steps import Step
from mace_cpu.shared.program.assemble import piece_of, plan_buffers
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import instead, lower


@instead
def compute_row_by_row(program: Program) -> Mapping[Node, Callable[[], None]]:
    """For the first node of each stretch, what emits all of it, if nothing before has taken a part of it."""
    stretches = find_stretches(program.facts.view, program.settings.threads)
    return {stretch.nodes[0]: functools.partial(_emit, program, stretch) for stretch in stretches}


class _OneRow(GraphView):
    """The nodes of a stretch, with one row."""

    def __init__(self, view: GraphView, stretch: Stretch) -> None:
        nodes = stretch.nodes
        made = {value: None for node in nodes for value in node.outputs if value is not None}
        read = {value: None for node in nodes for value in node.inputs if value is not None and value not in made}
        within = set(nodes)
        outputs = [v for v in made if view.is_output(v) or any(user not in within for user in view.users(v))]
        types = {}
        for value in stretch.rows:
            found = view.tensor_type(value)
            assert found is not None
            types[value] = TensorType(found.dtype, (1, *found.concrete_shape[1:]))
        super().__init__(
            view._graph,
            nodes,
            [value for value in read if view.constant(value) is None],
            outputs,
            {**view._types, **types},
            view._known,
            name=f"{view.name}/row",
            opset_imports=view.opset_imports,
            trace=view.trace,
        )


def _emit(program: Program, stretch: Stretch) -> None:
    first, *others = stretch.nodes
    row = _OneRow(program.facts.view, stretch)
    grown = {pair.target for pair in program.facts.view.in_place}
    if not grown.isdisjoint(row.outputs) or not all(program.fusion.is_free(node) for node in stretch.nodes):
        return
    program.fusion.begin(first)
    program.fusion.claim(others)
    outside = [program.values.read(value) for value in row.inputs]
    targets = [program.values.write(value) for value in row.outputs]
    inner = lower(row, replace(program.settings, threads=1), program)
    if inner.values.unsized or inner.values.dim_words:
        raise ValueError(f"the shape of a result of '{row.name}' is not known before the run")

    def row_bytes(value: Value) -> int:
        return program.facts.nbytes(value) // stretch.batch if value in stretch.rows else 0

    written = _Words()
    places = {
        **{(Place.INPUT, i): (buf, row_bytes(row.inputs[i])) for i, buf in enumerate(outside)},
        **{(Place.OUTPUT, i): (buf, row_bytes(row.outputs[i])) for i, buf in enumerate(targets)},
    }
    arena_bytes = plan_buffers(inner)
    for step in inner.steps.emitted:
        written.add(step, places)
    program.steps.emitted.append(_joined(program, stretch, inner.steps.emitted, written, arena_bytes))


@dataclass(slots=True)
class _Words:
    """The words of all steps, one after the other, and which of them are what.

    Attributes:
        table: see `Entry`.
        private: words that are places in the memory of a chunk.
        moved: words that name a row, each with the bytes from row to row.
        addresses, calls: as those of a step; words counted from the first of these.
    """

    words: list[int] = field(default_factory=list)
    table: list[int] = field(default_factory=list)
    private: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    addresses: list[tuple[int, At]] = field(default_factory=list)
    calls: list[tuple[int, KernelSource]] = field(default_factory=list)
    kernels: list[KernelSource] = field(default_factory=list)

    def add(self, step: Step, places: Mapping[tuple[Place, int], tuple[Buf, int]]) -> None:
        """``places``: where the inputs and outputs lie, and the bytes from row to row there."""
        self.words.append(0)  # of the control block
        first = len(self.words)
        self.words += step.words
        for index, at in step.addresses:
            word = first + index
            if at.buf.place is Place.ARENA:
                self.words[word] = at.buf.offset + at.offset
                self.private.append(word)
                continue
            buf, row_bytes = places.get((at.buf.place, at.buf.index), (at.buf, 0))
            self.addresses.append((word, At(buf, at.offset).in_whole()))
            if hint(row_bytes):
                self.moved += [word, row_bytes]
        self.calls += [(first + index, kernel) for index, kernel in step.calls]
        self.kernels.append(step.kernel)
        self.table += [0, first, step.extent, piece_of(step.extent, step.work) or step.extent]


def _joined(program: Program, stretch: Stretch, steps: Sequence[Step], inner: _Words, arena_bytes: int) -> Step:
    chunks = minimum(stretch.batch, program.settings.threads)
    arena_start = -(-8 * len(inner.words) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    chunk_bytes = -(-(arena_start + arena_bytes) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    kernel = rows_kernel()
    assert kernel.words is not None
    words: dict[Arg | str, int | list[int]] = {
        Arg.MEMORY: 0,
        Arg.CHUNK_BYTES: chunk_bytes,
        Arg.ARENA_START: arena_start,
        Arg.TIMES: 0,
        Arg.TIMER: 0,
        Arg.TABLE_WORDS: len(inner.table),
        Arg.PRIVATE_WORDS: len(inner.private),
        Arg.MOVED_WORDS: len(inner.moved),
        Arg.STEP_WORDS: len(inner.words),
        "table": inner.table,
        "private": inner.private,
        "moved": inner.moved,
        "steps": inner.words,
    }
    table = len(Arg)
    start = table + len(inner.table) + len(inner.private) + len(inner.moved)
    return Step(
        kernel,
        kernel.words.arrange(words, kernel.symbol),
        [
            (int(Arg.MEMORY), At(Buf.scratch(chunk_bytes * chunks))),
            *((start + word, at) for word, at in inner.addresses),
        ],
        stretch.batch,
        chunks,
        f"{len(stretch.nodes)} nodes, row by row",
        tuple(source for node in stretch.nodes for source in node.source),
        work=stretch.batch * sum(step.work for step in steps),
        calls=[
            (int(Arg.TIMER), TIMED_CHUNK),
            *((table + len(Entry) * number, called) for number, called in enumerate(inner.kernels)),
            *((start + word, called) for word, called in inner.calls),
        ],
        inner=steps,
        times_word=int(Arg.TIMES),
    )


def rows_kernel() -> KernelSource:
    """The kernel that calls those of a stretch."""
    words = functools.partial(
        WordLayout.of, Arg, table="table_words", private="private_words", moved="moved_words", steps="step_words"
    )
    return generated("mace_cpu.batch.generate", "batch_rows", words=words)

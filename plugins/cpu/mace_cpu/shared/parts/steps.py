"""Kernel calls: what a program does, in order, and for which nodes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mace_core.graph import Node
from mace_core.native.errors import KernelError
from mace_core.native.source import KernelSource
from mace_core.symbolic import is_symbolic, maximum, minimum, whole
from mace_cpu.plan.assembly import GATE, STATUS_WORDS, Fault
from mace_cpu.shared.parts.buffers import At, Buf, Place
from mace_cpu.shared.parts.forms import StepForm

SMALLEST_CHUNK_WORK = 10_000
"""Below about this many scalar operations a chunk is not worth handing to another thread: they take one some 2 us, and
to let another take part costs 0.2 us and moving what it reads and writes between caches."""

CHUNKS_PER_THREAD = 4
"""More chunks than threads, so that a thread that is held up leaves its share to the others."""

_NO_KERNEL = KernelSource(GATE, "", lambda _: "")

Word: TypeAlias = int | float | Buf | At
"""An argument of a kernel."""

Words: TypeAlias = dict[Any, Word | Sequence[Word]]
"""The arguments of a kernel by name, or by member of the enumeration that numbers them; several under one name."""


def words_of(
    kernel: KernelSource, arguments: Mapping[Any, Word | Sequence[Word]]
) -> tuple[list[int], list[tuple[int, At]]]:
    """The argument words of a step, and which of them are which addresses; see `Steps.emit`.

    Raises:
        KernelError: if ``arguments`` are not what the kernel takes.
    """
    words: list[int] = []
    addresses: list[tuple[int, At]] = []
    if kernel.words is None:
        raise KernelError(f"the kernel '{kernel.symbol}' does not name its argument words")
    for argument in kernel.words.arrange(arguments, kernel.symbol):
        if isinstance(argument, Buf):
            argument = At(argument)
        if isinstance(argument, At):
            argument = argument.in_whole()
            addresses.append((len(words), argument))
            words.append(0)
        elif isinstance(argument, float):
            words.append(struct.unpack("<q", struct.pack("<d", argument))[0])
        else:
            words.append(argument if is_symbolic(argument) else int(argument))
    return words, addresses


@dataclass(slots=True)
class Step:
    """One kernel call: ``words`` are its arguments, ``addresses`` says which of them are addresses.

    Attributes:
        form: what those who join steps need to know about it.
        work: how many scalar operations it takes in all.
        calls: which words are to be the addresses of other kernels.
        inner: the steps that it calls for each of its units, if it notes their times.
        times_word: the word that says where.
    """

    kernel: KernelSource
    words: list[int]
    addresses: list[tuple[int, At]]
    extent: int
    chunks: int
    name: str
    source: tuple[str, ...]
    form: StepForm | None = None
    work: float = 0.0
    calls: list[tuple[int, KernelSource]] = field(default_factory=list)
    inner: Sequence[Step] = ()
    times_word: int = 0


@dataclass(slots=True)
class Gate(Step):
    """A step that lets those behind it, up to ``last``, run or passes them over; ``runs_if`` says for which condition.

    Its address is that of the condition, a truth value.  It has no kernel.
    """

    runs_if: bool = True
    last: Step | None = None


@dataclass(slots=True)
class Again(Step):
    """A step that goes back to ``first`` while a truth value, whose address it has, is true.  It has no kernel."""

    first: Step | None = None


class Steps:
    """The steps emitted so far, and the nodes that the next ones belong to.

    Attributes:
        emitted: steps in the order in which they run.
        faults: what kernels may find wrong with the content of inputs while they run.
        notes: remarks on nodes by their name, for explanations.
        settled: names of nodes of which passes say no more what became of them.
    """

    def __init__(self, threads: int = 1, outer: Steps | None = None) -> None:
        """``outer``: the steps that these will be among."""
        self.emitted: list[Step] = []
        self.faults: list[Fault] = [] if outer is None else outer.faults
        self.notes: dict[str, str] = {} if outer is None else outer.notes
        self.settled: set[str] = set()
        self._threads = threads
        self._status = Buf(Place.STATUS, 0)
        self._node: Node | None = None
        self._fused: list[Node] = []

    def begin(self, node: Node) -> None:
        """Steps emitted from now on belong to ``node``."""
        self._node = node
        self._fused = []

    def add_node(self, node: Node) -> None:
        """Steps emitted from now on compute ``node``, too."""
        self._fused.append(node)

    @contextmanager
    def on_behalf_of(self, nodes: Sequence[Node]) -> Iterator[None]:
        """Steps emitted inside belong to ``nodes`` instead of the current one."""
        before = self._node, self._fused
        self._node, self._fused = None, list(nodes)
        try:
            yield
        finally:
            self._node, self._fused = before

    def chunks(self, extent: int, work: float) -> int:
        """Into how many chunks a step of ``extent`` units and ``work`` scalar operations in all is to be split."""
        if self._threads <= 1 or (not is_symbolic(extent) and extent <= 1):
            return 1
        most = minimum(extent, self._threads * CHUNKS_PER_THREAD)
        worth = maximum(minimum(most, whole(work, SMALLEST_CHUNK_WORK)), 1)
        even = whole(worth, self._threads) * self._threads  # three parts take two threads as long as four
        return maximum(even, minimum(worth, self._threads))

    def emit(
        self,
        kernel: KernelSource,
        arguments: Mapping[Any, Word | Sequence[Word]],
        *,
        extent: int,
        work: float = 0.0,
        chunks: int | None = None,
        name: str | None = None,
        note: str = "",
        form: StepForm | None = None,
    ) -> None:
        """Append a step over units ``[0, extent)``.

        Args:
            kernel: what to run.
            arguments: its words by name: ints as they are, floats as float64 bits, buffers as addresses.
            extent: number of independent units of work; 0 makes the step vanish (empty tensors).
            work: scalar operations in all, to decide the split where ``chunks`` does not, and into how many calls.
            name: for profiles; default the op types of the nodes it computes.
            note: a remark on how the current node is computed, for profiles and explanations.
            form: what those who join steps need to know.
        """
        if extent == 0:
            return
        words, addresses = words_of(kernel, arguments)
        nodes = ([self._node] if self._node is not None else []) + self._fused
        name = name or "+".join(n.op_type for n in nodes) or kernel.symbol
        if note:
            name = f"{name} ({note})"
            self.remark(note)
        self.emitted.append(
            Step(
                kernel,
                words,
                addresses,
                extent,
                chunks if chunks is not None else self.chunks(extent, work),
                name,
                tuple(s for n in nodes for s in n.source),
                form,
                work,
            )
        )

    def emit_gated(self, condition: Buf, runs_if: bool, steps: Sequence[Step], name: str) -> None:
        """Append ``steps``, which are to run only where the truth value in ``condition`` is ``runs_if``."""
        if steps:
            at = At(condition).in_whole()
            source = () if self._node is None else self._node.source
            self.emitted.append(Gate(_NO_KERNEL, [0], [(0, at)], 1, 1, name, source, runs_if=runs_if, last=steps[-1]))
            self.emitted += steps

    def emit_repeated(self, going: Buf, steps: Sequence[Step], name: str) -> None:
        """Append ``steps``, which are run again and again while the truth value in ``going`` is true."""
        at = At(going).in_whole()
        source = () if self._node is None else self._node.source
        again = Again(_NO_KERNEL, [0], [(0, at)], 1, 1, name, source, first=steps[0])
        self.emit_gated(going, True, [*steps, again], name)

    def remark(self, note: str) -> None:
        """Note how the current node is computed, for explanations; "" says nothing."""
        if note and self._node is not None:
            self.notes[self._node.name] = note

    def settle(self, note: str) -> None:
        """Note how the nodes are computed that the current one computes, too, instead of what passes have noted."""
        for node in self._fused:
            self.notes[node.name] = note
            self.settled.add(node.name)

    def settle_current(self, note: str) -> None:
        """The same of the current node."""
        if self._node is not None:
            self.notes[self._node.name] = note
            self.settled.add(self._node.name)

    def add_note(self, name: str, note: str) -> None:
        """Put ``note`` before what is noted of the node called ``name`` already."""
        before = self.notes.get(name)
        self.notes[name] = note if before is None else f"{note}; {before}"

    def report(self, message: str) -> At:
        """Where a kernel of the current node writes 1 and the offending number when an input's content is wrong.

        The run then raises a DataError with ``message``, a sentence in which ``{value}`` is that number.  Sizes are
        written into it with ``!s``: one that is not decided is shown by its name then.
        """
        self.faults.append(Fault(message, self._node.name if self._node is not None else ""))
        return At(self._status, (len(self.faults) - 1) * STATUS_WORDS * 8)

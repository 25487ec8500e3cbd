"""Many kernels in one native call."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from mace_core.errors import CancelledError, ProviderBugError
from mace_core.host.processors import pinned
from mace_core.native.kernel import load_kernels
from mace_core.native.poll_ir import Control
from mace_core.native.pool import ThreadPool
from mace_core.native.runner_ir import (
    BETWEEN_TURNS,
    GATE,
    RELOCATION_WORDS,
    RUNNER,
    STEP_WORDS,
    TURN_RUNNER,
    TurnControl,
)
from mace_core.native.signals import Attention
from mace_core.provider.execution import CancelFlag, Turns

if TYPE_CHECKING:
    from mace_core.native.chunk_times import ChunkTime, ChunkTimes
    from mace_core.native.size_writer import SizeWriter
    from mace_core.native.sizes import PlanSizes

Words = npt.NDArray[np.int64]
"""The argument words of steps, one after another."""

# enumerations take longer to look up than the run of a small plan should
_STEPS, _CANCEL, _PROFILE, _THREADS, _POOL = (
    int(word) for word in (Control.STEPS, Control.CANCEL, Control.PROFILE, Control.THREADS, Control.POOL)
)

_LOOK, _OWNER, _STOPPED = int(Control.LOOK), int(Control.OWNER), int(Control.STOPPED)

SLICE_NS = 50_000_000
"""A run lets Python look at signals this often, so that Ctrl-C is seen."""


class PlanStep(NamedTuple):
    """One kernel over all its work, or a gate (see `gate`).

    Attributes:
        kernel: address of a kernel, see `load_kernels`.
        args: index of its first argument among the plan's words.
        extent: number of work units; chunk i of n gets units [extent * i // n, extent * (i + 1) // n).
        chunks: in how many parts the units are processed; more than one may run at a time.
        piece: at most so many units of a chunk are processed in one call, so that a run can be stopped in between;
            0: all of them.
        name: for messages and profiles.
        source: names of the model's nodes that the step computes.
    """

    kernel: int
    args: int
    extent: int = 1
    chunks: int = 1
    name: str = ""
    source: tuple[str, ...] = ()
    piece: int = 0


def gate(args: int, *, runs_if: bool, until: int) -> PlanStep:
    """A step that lets those behind it run or passes them over, or goes back to one before it.

    Args:
        args: index of the word that is the address of a byte.
        runs_if: whether the steps behind run where the byte is not 0, or where it is 0.
        until: number of the step that follows otherwise: the first that runs in any case, or the first of those that
            are run again.
    """
    return PlanStep(GATE, args, extent=until, piece=int(runs_if))


class NativePlan:
    """An array of steps and their arguments.

    Args:
        steps: run in this order.
        words: the arguments of all steps; addresses that only a run knows hold anything.
        relocations: (n, 3) int64: word index, base slot, byte offset.  At the start of a run
            ``words[index] = bases[slot] + offset``.
        control_words: words that are to hold the address of the run's control block: the one before a step's first
            argument, where its kernel polls (``stop_requested``).
        sizes: what depends on sizes that are decided at a run; what it computes is written over whatever the words, the
            steps and the relocations hold there (`PlanInstance.resize`).
    """

    def __init__(
        self,
        steps: Sequence[PlanStep],
        words: npt.ArrayLike,
        relocations: npt.ArrayLike | Sequence[tuple[int, int, int]],
        control_words: Sequence[int] = (),
        sizes: PlanSizes | None = None,
    ) -> None:
        self.steps = tuple(steps)
        self.words: Words = np.array(words, np.int64).reshape(-1)
        self.relocations: Words = np.array(relocations, np.int64).reshape(-1, RELOCATION_WORDS)
        self.control_words = np.array(control_words, np.int64)
        self.sizes = sizes
        self._check()
        self.slots = int(self.relocations[:, 1].max()) + 1 if len(self.relocations) else 0
        table = [(step.kernel, step.args, step.extent, step.chunks, step.piece) for step in self.steps]
        self._table: Words = np.array(table, np.int64).reshape(-1, STEP_WORDS)

    def new_instance(self) -> PlanInstance:
        """Argument state for one run at a time."""
        return PlanInstance(self)

    def _check(self) -> None:
        for index, step in enumerate(self.steps):
            label = f"Step {index} ({step.name or 'unnamed'})"
            if step.kernel == 0:
                raise ProviderBugError(f"{label} has no kernel")
            if step.kernel == GATE:
                self._check_gate(index, step, label)
                continue
            if not 0 <= step.args <= len(self.words):
                raise ProviderBugError(
                    f"{label}: argument index {step.args} is outside the plan's {len(self.words)} words"
                )
            if step.piece < 0:
                raise ProviderBugError(f"{label}: pieces of {step.piece} units are not possible")
            if step.extent < 0 or not 1 <= step.chunks < 2**31 or step.extent * step.chunks >= 2**63:
                raise ProviderBugError(f"{label}: {step.extent} units in {step.chunks} chunks is not possible")
        self._check_words()

    def _check_gate(self, index: int, step: PlanStep, label: str) -> None:
        if step.piece not in (0, 1) or step.chunks != 1 or not 0 <= step.extent <= len(self.steps):
            raise ProviderBugError(f"{label} is no gate between steps")
        if step.extent == index:
            raise ProviderBugError(f"{label} is a gate that leads to itself")
        if not 0 <= step.args < len(self.words):
            raise ProviderBugError(f"{label}: word {step.args} is not one of the plan's {len(self.words)}")

    def _check_words(self) -> None:
        if len(self.control_words) and not 0 <= self.control_words.min() <= self.control_words.max() < len(self.words):
            raise ProviderBugError("a control word of a plan does not exist")
        if len(self.relocations):
            word, slot = self.relocations[:, 0], self.relocations[:, 1]
            if word.min() < 0 or word.max() >= len(self.words) or slot.min() < 0:
                raise ProviderBugError("a relocation of a plan names a word or a slot that does not exist")
        if self.sizes is not None:
            self.sizes.check(len(self.words), len(self.steps), STEP_WORDS, len(self.relocations))


class PlanInstance:
    """A plan with its own argument words.  Not for two runs at a time: make several."""

    def __init__(self, plan: NativePlan) -> None:
        self.plan = plan
        self._call = _run_plan()
        self._words, table, relocations = plan.words, plan._table, plan.relocations
        self._sizes: SizeWriter | None = None
        if plan.sizes is None:
            self._words = self._words.copy()
        else:
            self._words, table, relocations = self._own_copies(plan, plan.sizes)
        self._step_table = table
        self._relocations = relocations
        self._table = int(table.ctypes.data)
        self._bases = (ctypes.c_int64 * plan.slots)()
        self._control = (ctypes.c_int64 * Control.SIZE)()
        self._address = ctypes.addressof(self._control)
        self._words[plan.control_words] = self._address
        self._profile: Words | None = None
        self._chunk_times: ChunkTimes | None = None
        self._running = False
        self._filled: tuple[int, int, int, bool] | None = None  # what the control block says of the latest run
        self._owner = 0
        self._attention: Attention | None = None
        self._blocks: list[object] = []  # which native code refers to
        self._slots = plan.slots
        self._count = len(plan.steps)
        control = self._control
        control[Control.STEP_COUNT] = len(plan.steps)
        control[Control.WORDS] = self._words.ctypes.data
        control[Control.RELOCATIONS] = relocations.ctypes.data
        control[Control.RELOCATION_COUNT] = len(plan.relocations)
        control[Control.BASES] = ctypes.addressof(self._bases)
        control[Control.SLICE_NS] = SLICE_NS

    def _own_copies(self, plan: NativePlan, sizes: PlanSizes) -> tuple[Words, Words, Words]:
        """Words, steps and relocations in one block, which the sizes are written into."""
        from mace_core.native.size_writer import SizeWriter

        parts = (plan.words, plan._table, plan.relocations)
        block = np.concatenate([part.reshape(-1) for part in parts])
        first = np.cumsum([0, *(part.size for part in parts)])
        words, table, relocations = (block[first[i] : first[i + 1]].reshape(part.shape) for i, part in enumerate(parts))
        steps, offsets = sizes.steps, sizes.relocations
        targets = np.concatenate(
            [
                sizes.words,
                np.stack([first[1] + STEP_WORDS * steps[:, 0] + steps[:, 1], steps[:, 2]], axis=1),
                np.stack([first[2] + RELOCATION_WORDS * offsets[:, 0] + 2, offsets[:, 1]], axis=1),
            ]
        )
        self._sizes = SizeWriter(sizes.program, targets, block)
        return words, table, relocations

    def word(self, index: int) -> int:
        """The present value of one of the plan's words."""
        return int(self._words[index])

    def address_of_word(self, index: int) -> int:
        """Where one of the plan's words is."""
        return int(self._words.ctypes.data) + 8 * index

    def extent(self, step: int) -> int:
        """The present number of units of a step."""
        return int(self._step_table[step, 2])

    def resize(self, sizes: Sequence[int]) -> None:
        """Fill in what follows from ``sizes``, the values of the size program's symbols; not during a run."""
        if self._sizes is None:
            raise ProviderBugError("the sizes of this plan are decided")
        self._sizes.write(sizes)
        self._profile = self._chunk_times = None

    def run(
        self,
        bases: Sequence[int] | Words,
        *,
        pool: ThreadPool | None = None,
        cancel: CancelFlag | None = None,
        profile: bool = False,
        threads: int | None = None,
    ) -> None:
        """Run all steps.

        Args:
            bases: the address for each base slot.
            pool: whose workers help with steps of more than one chunk; None: this thread does all.
            cancel: polled between steps, between the pieces of long ones, and by kernels whose units take long.
            profile: note when each step and each of its chunks began and ended, for `timings` and `chunk_times`.
            threads: at most so many threads take part; None: as many as the pool has.

        Raises:
            CancelledError: the cancel flag was seen; the step at work was left half done, later ones have not run.
            BaseException: what a signal handler raised (KeyboardInterrupt), in the main thread.
        """
        if self._running:
            raise ProviderBugError("a plan instance was asked to run while it runs; use one instance for each request")
        if len(bases) != self._slots:
            raise ProviderBugError(f"the plan has {self._slots} base slots, {len(bases)} addresses were given")
        self._running = True
        try:
            self._prepare(bases, pool, cancel, profile, threads)
            if pool is None or pool.processors is None:
                if (step := self._call(self._address, 0)) != self._count:
                    self._go_on(step)
            else:
                with pinned(pool.processors):
                    self._walk()
        finally:
            self._running = False

    def run_turns(
        self,
        turns: Turns,
        bases: Sequence[int],
        *,
        faults: Words,
        pool: ThreadPool | None = None,
        cancel: CancelFlag | None = None,
        threads: int | None = None,
    ) -> None:
        """Run all steps again and again, until ``turns`` come to an end or a word of ``faults`` is no longer 0.

        Args:
            turns: what happens between two of them; base slot 0 is the workspace, slot 1 stays as given, and behind it
                are the inputs and the outputs.
            bases: as in `run`; the slots of the workspace, the inputs and the outputs are filled in for each turn.
            faults: words that kernels set when something is wrong.
            pool, cancel, threads: as in `run`, and so is what it raises.
        """
        if self._running:
            raise ProviderBugError("a plan instance was asked to run while it runs; use one instance for each request")
        self._running = True
        try:
            self._prepare(bases, pool, cancel, False, threads)
            self._profile = self._chunk_times = None
            block = self._turn_block(turns, faults)
            if pool is None or pool.processors is None:
                self._walk_turns(block)
            else:
                with pinned(pool.processors):
                    self._walk_turns(block)
        finally:
            self._running = False

    def stage(self, turns: Turns, bases: Sequence[int], *, faults: Words) -> int:
        """The address of a block with which native code runs this plan among others (`mace_core.native.stages`); it
        stays what it is for as long as the instance is there.

        Args:
            turns, bases: as in `run_turns`.
            faults: words that kernels set when something is wrong.
        """
        self._bases[:] = list(bases)
        block = self._turn_block(turns, faults)
        self._blocks.append((block, faults))
        return ctypes.addressof(block)

    def begin_stage(self, *, pool: ThreadPool | None, cancel: CancelFlag | None, threads: int | None) -> None:
        """Make ready for a run of a `stage`; all as in `run_turns`."""
        self._prepare(None, pool, cancel, False, threads)

    def _prepare(
        self,
        bases: Sequence[int] | Words | None,
        pool: ThreadPool | None,
        cancel: CancelFlag | None,
        profile: bool,
        threads: int | None,
    ) -> None:
        """Fill in the control block; ``bases`` None: they are there."""
        if bases is not None:
            self._bases[:] = bases if type(bases) is list else list(bases)
        participants = 1 if pool is None or threads == 1 else pool.participants(threads)
        helpers = pool.address if pool is not None and participants > 1 else 0
        filled = (0 if cancel is None else cancel.address, participants, helpers, profile)
        if profile or filled != self._filled:  # most runs are like the one before
            control = self._control
            control[_STEPS], control[_PROFILE] = self._recorders() if profile else (self._table, 0)
            control[_CANCEL], control[_THREADS], control[_POOL], _ = filled
            self._filled = filled
        if (ident := get_ident()) != self._owner:
            self._own(ident)

    def _turn_block(self, turns: Turns, faults: Words) -> ctypes.Array[ctypes.c_int64]:
        block = (ctypes.c_int64 * TurnControl.SIZE)()
        block[TurnControl.CONTROL] = self._address
        block[TurnControl.ADVANCE], block[TurnControl.STATE] = turns.advance, turns.state
        block[TurnControl.END], block[TurnControl.ADDRESSES] = turns.end, turns.addresses
        block[TurnControl.WORKSPACE_COUNT] = min(self._slots, 1)
        block[TurnControl.OTHER_COUNT] = max(0, min(turns.tensors, self._slots - 2))
        if self._sizes is not None:
            write, arguments, target, count = self._sizes.parts
            block[TurnControl.WRITE], block[TurnControl.WRITE_ARGUMENTS] = write, arguments
            block[TurnControl.SIZES], block[TurnControl.PLAN_SIZES] = turns.sizes, target
            block[TurnControl.SIZE_COUNT] = count
        block[TurnControl.FAULTS], block[TurnControl.FAULT_COUNT] = int(faults.ctypes.data), faults.size
        return block

    def _walk_turns(self, block: ctypes.Array[ctypes.c_int64]) -> None:
        call, address, count = _run_turns(), ctypes.addressof(block), self._count
        step = call(address, BETWEEN_TURNS)
        while step != count:
            if step < 0 and step != BETWEEN_TURNS:
                self.stop()
            step = call(address, step)

    def _walk(self) -> None:
        step = self._call(self._address, 0)
        if step != self._count:
            self._go_on(step)

    def _go_on(self, step: int) -> None:
        """After native code came back before the end: Python looks at signals, or the run was stopped."""
        while step != self._count:
            if step < 0:
                self.stop()
            step = self._call(self._address, step)

    def _own(self, ident: int) -> None:
        """From now on the thread ``ident`` runs this; where it is the main one, native code lets it look at signals."""
        self._owner = self._control[_OWNER] = ident
        if self._attention is None and threading.current_thread() is threading.main_thread():
            self._attention = Attention()
        is_main = threading.current_thread() is threading.main_thread()
        self._control[_LOOK] = self._attention.address if is_main and self._attention is not None else 0

    def stop(self) -> NoReturn:
        """Raise why the run was stopped."""
        self._control[_STOPPED] = 0
        raised = self._attention.take() if self._attention is not None else None
        if raised is not None:
            raise raised
        raise CancelledError("the run was cancelled")

    def timings(self) -> list[tuple[int, int, int]]:
        """(step index, start, end) of the last profiled run, in nanoseconds of a monotonic clock."""
        if self._profile is None:
            return []
        return [(index, int(start), int(end)) for index, (start, end) in enumerate(self._profile) if end]

    def chunk_times(self) -> list[ChunkTime]:
        """Which thread computed which chunk in the last profiled run, and when."""
        return [] if self._chunk_times is None else self._chunk_times.times()

    def _recorders(self) -> tuple[int, int]:
        """Addresses of the table of steps that notes the times of chunks, and of room for the times of steps."""
        if self._profile is None or self._chunk_times is None:
            from mace_core.native.chunk_times import ChunkTimes

            self._profile = np.zeros((len(self.plan.steps), 2), np.int64)
            chunks = self._step_table[:, 3].tolist()
            self._chunk_times = ChunkTimes(self._step_table, self._words, chunks)
        self._profile.fill(0)
        self._chunk_times.clear()
        return int(self._chunk_times.table.ctypes.data), int(self._profile.ctypes.data)


@functools.cache
def _run_plan() -> Callable[[int, int], int]:
    address = load_kernels([RUNNER])[RUNNER.symbol]
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)


@functools.cache
def _run_turns() -> Callable[[int, int], int]:
    address = load_kernels([TURN_RUNNER])[TURN_RUNNER.symbol]
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)

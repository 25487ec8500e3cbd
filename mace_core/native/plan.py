"""Many kernels in one native call."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.errors import CancelledError, ProviderBugError
from mace_core.native.kernel import load_kernels
from mace_core.native.pool import ThreadPool
from mace_core.native.runner_ir import RELOCATION_WORDS, RUNNER, STEP_WORDS, Control
from mace_core.provider.execution import CancelFlag

Words = npt.NDArray[np.int64]

# enumerations take longer to look up than the run of a small plan should
_CANCEL, _PROFILE, _THREADS, _POOL = (
    int(word) for word in (Control.CANCEL, Control.PROFILE, Control.THREADS, Control.POOL)
)

SLICE_NS = 50_000_000
"""A run comes back to Python this often, so that Ctrl-C is seen."""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One kernel over all its work.

    Attributes:
        kernel: address of a kernel, see `load_kernels`.
        args: index of its first argument among the plan's words.
        extent: number of work units; chunk i of n gets units [extent * i // n, extent * (i + 1) // n).
        chunks: in how many calls the units are processed; more than one may run at a time.
        name: for messages and profiles.
        source: names of the model's nodes that the step computes.
    """

    kernel: int
    args: int
    extent: int = 1
    chunks: int = 1
    name: str = ""
    source: tuple[str, ...] = ()


class NativePlan:
    """An array of steps and their arguments.

    Args:
        steps: run in this order.
        words: the arguments of all steps; addresses that only a run knows hold anything.
        relocations: (n, 3) int64: word index, base slot, byte offset.  At the start of a run
            ``words[index] = bases[slot] + offset``.
    """

    def __init__(
        self,
        steps: Sequence[PlanStep],
        words: npt.ArrayLike,
        relocations: npt.ArrayLike | Sequence[tuple[int, int, int]],
    ) -> None:
        self.steps = tuple(steps)
        self.words: Words = np.array(words, np.int64).reshape(-1)
        self.relocations: Words = np.array(relocations, np.int64).reshape(-1, RELOCATION_WORDS)
        self._check()
        self.slots = int(self.relocations[:, 1].max()) + 1 if len(self.relocations) else 0
        table = [(step.kernel, step.args, step.extent, step.chunks) for step in self.steps]
        self._table: Words = np.array(table, np.int64).reshape(-1, STEP_WORDS)

    def new_instance(self) -> PlanInstance:
        """Argument state for one run at a time."""
        return PlanInstance(self)

    def _check(self) -> None:
        for index, step in enumerate(self.steps):
            label = f"Step {index} ({step.name or 'unnamed'})"
            if step.kernel == 0:
                raise ProviderBugError(f"{label} has no kernel.")
            if not 0 <= step.args <= len(self.words):
                raise ProviderBugError(
                    f"{label}: argument index {step.args} is outside the plan's {len(self.words)} words."
                )
            if step.extent < 0 or not 1 <= step.chunks < 2**31 or step.extent * step.chunks >= 2**63:
                raise ProviderBugError(f"{label}: {step.extent} units in {step.chunks} chunks is not possible.")
        if len(self.relocations):
            word, slot = self.relocations[:, 0], self.relocations[:, 1]
            if word.min() < 0 or word.max() >= len(self.words) or slot.min() < 0:
                raise ProviderBugError("A relocation of a plan names a word or a slot that does not exist.")


class PlanInstance:
    """A plan with its own argument words.  Not for two runs at a time: make several."""

    def __init__(self, plan: NativePlan) -> None:
        self.plan = plan
        self._call = _run_plan()
        self._words = plan.words.copy()
        self._bases = (ctypes.c_int64 * plan.slots)()
        self._control = (ctypes.c_int64 * Control.SIZE)()
        self._address = ctypes.addressof(self._control)
        self._profile: Words | None = None
        self._running = False
        self._slots = plan.slots
        self._count = len(plan.steps)
        control = self._control
        control[Control.STEPS] = plan._table.ctypes.data
        control[Control.STEP_COUNT] = len(plan.steps)
        control[Control.WORDS] = self._words.ctypes.data
        control[Control.RELOCATIONS] = plan.relocations.ctypes.data
        control[Control.RELOCATION_COUNT] = len(plan.relocations)
        control[Control.BASES] = ctypes.addressof(self._bases)
        control[Control.SLICE_NS] = SLICE_NS

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
            cancel: polled between steps.
            profile: note when each step began and ended, for `timings`.
            threads: at most so many threads take part; None: as many as the pool has.

        Raises:
            CancelledError: the cancel flag was seen; no step is half done, later ones have not run.
        """
        if self._running:
            raise ProviderBugError("A plan instance was asked to run while it runs; use one instance for each request.")
        if len(bases) != self._slots:
            raise ProviderBugError(f"The plan has {self._slots} base slots, {len(bases)} addresses were given.")
        self._running = True
        try:
            self._bases[:] = bases.tolist() if isinstance(bases, np.ndarray) else bases  # type: ignore[assignment]
            control = self._control
            control[_CANCEL] = 0 if cancel is None else cancel.address
            control[_PROFILE] = self._profile_address() if profile else 0
            participants = 1 if pool is None else pool.participants(threads)
            control[_THREADS] = participants
            control[_POOL] = pool.address if pool is not None and participants > 1 else 0
            count = self._count
            step = self._call(self._address, 0)
            while step != count:
                if step < 0:
                    raise CancelledError("The run was cancelled.")
                step = self._call(self._address, step)
        finally:
            self._running = False

    def timings(self) -> list[tuple[int, int, int]]:
        """(step index, start, end) of the last profiled run, in nanoseconds of a monotonic clock."""
        if self._profile is None:
            return []
        return [(index, int(start), int(end)) for index, (start, end) in enumerate(self._profile)]

    def _profile_address(self) -> int:
        if self._profile is None:
            self._profile = np.zeros((len(self.plan.steps), 2), np.int64)
        return int(self._profile.ctypes.data)


@functools.cache
def _run_plan() -> Callable[[int, int], int]:
    address = load_kernels([RUNNER])[RUNNER.symbol]
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)

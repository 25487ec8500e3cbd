"""Running a compiled subgraph: bindings, streams, events, cancellation."""

from __future__ import annotations

import ctypes
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mace_core.provider.memory import Buffer
from mace_core.tensor import DType


@dataclass(slots=True, eq=False)
class BoundTensor:
    """A tensor in memory: dense, row-major, starting ``offset`` bytes into ``buffer``.

    For ``MemoryKind.OBJECT`` the value itself is ``buffer.handle`` and the other fields only inform.
    """

    dtype: DType
    shape: tuple[int, ...]
    buffer: Buffer
    offset: int = 0

    @property
    def address(self) -> int:
        """The address of the first element (host and pinned memory)."""
        return self.buffer.address + self.offset

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, packed where the element type is smaller than a byte."""
        return self.dtype.nbytes(math.prod(self.shape))


class CancelFlag:
    """Asks a run to stop.  It is polled every few milliseconds of work; native code polls ``address`` (an int32, 0 = go
    on).  A single node that Python or a device's queue computes is not interrupted."""

    __slots__ = ("_address", "_cell")

    def __init__(self) -> None:
        self._cell = ctypes.c_int32(0)
        self._address = ctypes.addressof(self._cell)

    def set(self) -> None:
        """Ask the run to stop."""
        self._cell.value = 1

    def clear(self) -> None:
        """Withdraw the request, so that the flag can be used again."""
        self._cell.value = 0

    @property
    def is_set(self) -> bool:
        """Whether a stop has been asked for."""
        return self._cell.value != 0

    @property
    def address(self) -> int:
        """The address of the flag, an int32 in host memory: 0 means go on."""
        return self._address


AllocateOutput = Callable[[int, DType, tuple[int, ...]], BoundTensor]
"""``(output index, dtype, shape) -> tensor``: where an output whose shape only the run tells is to be written."""


@dataclass(slots=True, eq=False)
class Bindings:
    """What one run of one compiled subgraph reads and writes.

    Attributes:
        inputs: one per subgraph input, in its order.
        outputs: one per subgraph output; None where the shape was unknown at compile: use ``allocate_output``.
        workspace: scratch memory of ``CompiledSubgraph.workspace_bytes``, 64-byte aligned, undefined content; None
            where that is nothing.
        allocate_output: see `AllocateOutput`; given whenever some output is None.
        cancel: polled between steps.
        profile: called with (step name, source nodes, start_ns, end_ns) after the run; None when not profiling.
        profile_part: called with (worker, step name, source nodes, start_ns, end_ns) after the run for every piece of a
            step that one of the device's workers did, by a provider that knows; ``worker`` names a thread, core or
            queue.  None when not profiling.
        sizes: for a subgraph that was compiled from a view with a trace: the values of the trace's symbols at this run;
            another object whenever they are others (since api 1.2).
    """

    inputs: Sequence[BoundTensor]
    outputs: Sequence[BoundTensor | None]
    workspace: BoundTensor | None = None
    allocate_output: AllocateOutput | None = None
    cancel: CancelFlag = field(default_factory=CancelFlag)
    profile: Callable[[str, tuple[str, ...], int, int], None] | None = None
    profile_part: Callable[[str, str, tuple[str, ...], int, int], None] | None = None
    sizes: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of a loop whose body is one subgraph on host memory, run without the core in between.

    Before each turn the provider calls ``advance``, which looks at the results of the turn before.  It may be called
    from any thread, without Python.

    Attributes:
        advance: address of a native function ``void (int64 *state, int64, int64, int64)``; the last three are not used.
        state: address of its first argument.
        end: address of an int64 that it sets: 0, and there is another turn; else there is none.
        addresses: address of the int64 addresses, which it sets, of the workspace, each input and each output of the
            turn to come; the workspace is as large as the sizes of the turn ask for.
        tensors: the number of inputs and outputs.
        sizes: address of the int64 values, which it sets, of the symbols of the view's trace.
    """

    advance: int
    state: int
    end: int
    addresses: int
    tensors: int
    sizes: int


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """Where native code finds an output whose shape only the run tells, once it has run.

    Attributes:
        output: its index.
        dims, rank: address of its dimensions, int64, and how many.
        offset: address of an int64: how many bytes behind the workspace its elements begin.
    """

    output: int
    dims: int
    rank: int
    offset: int


class NativeStage(ABC):
    """An execution that native code runs, after others and before others (since api 1.2).

    Attributes:
        block: address of a control block, see `mace_core.native.plan.PlanInstance.stage`.
        found: the outputs that are bound to None.
        may_fail: whether `check` may find anything.
    """

    block: int
    found: Sequence[FoundOutput] = ()
    may_fail: bool = True

    @abstractmethod
    def begin(self, cancel: CancelFlag) -> None:
        """Called before each run."""

    @abstractmethod
    def stop(self) -> None:
        """Called where a run was cancelled, or a signal handler raised: raises what is to be raised."""

    @abstractmethod
    def check(self) -> None:
        """Called after each run of a stage that may fail.

        Raises:
            ProviderError: if something was wrong.
        """


class Event(ABC):
    """Completion of enqueued work."""

    @abstractmethod
    def wait(self) -> None:
        """Block until done.

        Raises:
            ProviderError: if the work failed.
        """

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether the work has ended, well or badly; never blocks.  Reserved for api 1.4 (cancelling queued work)."""


class Stream(ABC):
    """An in-order queue of a device."""

    @abstractmethod
    def synchronize(self) -> None:
        """Block until all enqueued work is done; raises what the work raised."""

    def close(self) -> None:
        """Free the queue.  Idempotent."""


class Execution(ABC):
    """Argument state for one request at a time over a compiled subgraph.

    The core never calls one execution from two threads at once; for concurrent requests it makes several.
    """

    @abstractmethod
    def run(self, bindings: Bindings) -> None:
        """Run to completion.

        Raises:
            CancelledError: if the cancel flag was seen.
            ProviderError: on failure; see the subclasses for what the core does then.
        """

    def run_turns(self, bindings: Bindings, turns: Turns) -> bool:
        """Run again and again, on what ``turns`` says instead of the tensors in ``bindings``, which tell no more than
        element types, until there is no further turn (since api 1.2).

        Returns:
            Whether it did; False, at once, for an execution that cannot: the core then calls ``run`` turn by turn.

        Raises:
            CancelledError, ProviderError: as ``run`` does.
        """
        return False

    def native_stage(self, bindings: Bindings, turns: Turns) -> NativeStage | None:
        """As `run_turns`, for a single turn that native code runs among executions of other subgraphs: the tensors are
        where ``turns`` says, outputs bound to None stay in the workspace (since api 1.2).

        Returns:
            None for an execution that cannot.  It is used for nothing else as long as the stage is.
        """
        return None

    def undo(self, bindings: Bindings) -> None:
        """Put back what the latest run wrote over an input of the kind `InPlace` has without an axis, whether that run
        succeeded or not: the core gives up what it was part of (since api 1.2).

        Called before anything else happens to the tensors and the workspace of ``bindings``.  Only for executions of
        subgraphs that take such offers.
        """
        raise TypeError(f"{type(self).__name__} writes over no input")

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> Event:
        """Start after ``wait`` and return at once.  Only for backends that offer streams; ``bindings`` stay alive
        until the event is done."""
        raise TypeError(f"{type(self).__name__} has no queue; use run()")

    def close(self) -> None:
        """Free argument state.  Idempotent."""

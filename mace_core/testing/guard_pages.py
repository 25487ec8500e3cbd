"""Memory between pages that nobody may touch, and runs that work on nothing else.

A kernel that reads or writes one byte outside a tensor usually does no visible harm: something else of the process lies
there.  Under `guarded_executions` every input, output and workspace of every execution on host memory lies between two
pages without any rights, so that the processor stops the kernel at the first such byte.  The process dies of it: run it
in one of its own, see `mace_testing.guarded_sweep`.  Linux and macOS.

    with guarded_executions(Side.END):
        session.run(feeds)
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import functools
import mmap
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.provider import Bindings, BoundTensor, Buffer, Execution
from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.scheduler.running import calls, chains, executor, single_runs, turning
from mace_core.tensor import DType, MemoryKind

Bytes = npt.NDArray[np.uint8]

PAGE_BYTES = mmap.PAGESIZE
GARBAGE = 0xFF
"""What fresh memory holds: NaN in every float type, and an index outside every axis."""

_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2


class Side(enum.Enum):
    """Where in its pages memory lies: its last byte is the last of a page, or its first the first of one."""

    END = "end"
    START = "start"


class GuardedMemory:
    """``nbytes`` bytes of garbage next to a page that can neither be read nor written.

    There is such a page on both sides; on the one that `Side` names it begins right there, unless ``alignment`` leaves
    some bytes between: those are looked at by `check`.

    Raises:
        UsageError: the system has no way to take rights from a page.
    """

    def __init__(self, nbytes: int, side: Side, *, alignment: int = 1, label: str = "") -> None:
        room = -(-max(nbytes, 1) // PAGE_BYTES) * PAGE_BYTES
        self.nbytes = nbytes
        self.label = label
        self._room = room
        system = _system()
        mapping = system.map(room + 2 * PAGE_BYTES)
        self._finalizer = weakref.finalize(self, _release, mapping, room + 2 * PAGE_BYTES)
        self._first = mapping + PAGE_BYTES
        for page in (mapping, self._first + room):
            system.forbid(page, PAGE_BYTES)
        self.address = self._first
        if side is Side.END:
            self.address += (room - nbytes) // alignment * alignment
        self._pages()[:] = GARBAGE
        _LIVE[self._first] = self

    @property
    def bytes(self) -> Bytes:
        """The memory as a flat array, which keeps it."""
        return _array(self, self.address, self.nbytes)

    def check(self) -> None:
        """See that nothing was written beside it, as far as that could be without touching a guarding page.

        Raises:
            AssertionError: something was.
        """
        pages, start = self._pages(), self.address - self._first
        for where, part in (("before", pages[:start]), ("behind", pages[start + self.nbytes :])):
            if not (part == GARBAGE).all():
                count = int((part != GARBAGE).sum())
                raise AssertionError(f"{count} bytes were written {where} {self.label or 'guarded memory'}")

    def describe(self, address: int) -> str | None:
        """Where an address lies, if that is in the pages of this memory or in those that guard it."""
        if not self._first - PAGE_BYTES <= address < self._first + self._room + PAGE_BYTES:
            return None
        end = self.address + self.nbytes
        if address >= end:
            where = f"{address - end} bytes behind the end"
        else:
            before = self.address - address
            where = f"{before} bytes before the start" if before > 0 else f"{-before} bytes into"
        return f"{where} of {self.label or 'guarded memory'} ({self.nbytes} bytes)"

    def _pages(self) -> Bytes:
        return _array(self, self._first, self._room)


_LIVE: weakref.WeakValueDictionary[int, GuardedMemory] = weakref.WeakValueDictionary()


def describe_address(address: int) -> str | None:
    """Which guarded memory an address lies in or beside; None where that is none."""
    return next((found for memory in list(_LIVE.values()) if (found := memory.describe(address))), None)


def guarded_copy(array: npt.NDArray[Any], side: Side, label: str = "") -> npt.NDArray[Any]:
    """An array of the same content in guarded memory."""
    source = np.ascontiguousarray(array)
    memory = GuardedMemory(source.nbytes, side, label=label)
    found = memory.bytes.view(source.dtype) if source.nbytes else np.empty(0, source.dtype)
    found = found.reshape(array.shape)
    found[...] = array
    return found


@dataclass
class GuardedCalls:
    """How many times an execution ran on guarded memory."""

    count: int = 0


@contextlib.contextmanager
def guarded_executions(side: Side) -> Iterator[GuardedCalls]:
    """Let all executions of this process work on guarded memory as long as this lasts.

    Turns of a loop, and partitions that follow each other without Python in between, are run one by one.
    """
    original, calls_so_far = calls.run_execution, GuardedCalls()

    def run(execution: Execution, bindings: Bindings, device: SessionDevice) -> None:
        calls_so_far.count += 1
        _run_guarded(original, execution, bindings, device, side)

    with (
        mock.patch.object(executor, "run_execution", run),
        mock.patch.object(single_runs, "run_execution", run),
        mock.patch.object(turning, "run_execution_turns", lambda *_: False),
        mock.patch.object(chains, "make_chain", lambda *_: None),
    ):
        yield calls_so_far


def _run_guarded(
    run: Callable[[Execution, Bindings, SessionDevice], None],
    execution: Execution,
    bindings: Bindings,
    device: SessionDevice,
    side: Side,
) -> None:
    """Run on copies of what is bound, and bring the results back."""
    guarded = _GuardedBindings(bindings, side)
    before = guarded.content_of_inputs()
    run(execution, guarded.bindings, device)
    guarded.check()
    assert before == guarded.content_of_inputs(), "an input was written to"
    guarded.bring_back()


class _GuardedBindings:
    """What an execution is bound to, all of it on host memory in guarded memory.

    Attributes:
        bindings: for the execution.
    """

    def __init__(self, given: Bindings, side: Side) -> None:
        self._given = given
        self._side = side
        self._memories: list[GuardedMemory] = []
        self._allocated: list[tuple[int, BoundTensor]] = []
        inputs = [self._place(bound, f"input {i}", filled=True) for i, bound in enumerate(given.inputs)]
        outputs = [
            None if bound is None else self._place(bound, f"output {i}", filled=False)
            for i, bound in enumerate(given.outputs)
        ]
        self.bindings = replace(
            given,
            inputs=inputs,
            outputs=outputs,
            workspace=self._workspace(),
            allocate_output=None if given.allocate_output is None else self._allocate,
        )

    def content_of_inputs(self) -> list[bytes]:
        """All of the memory behind each input on the host."""
        return [
            _array(bound, bound.address, bound.buffer.nbytes).tobytes()
            for bound in self.bindings.inputs
            if bound.buffer.memory is MemoryKind.HOST
        ]

    def check(self) -> None:
        """Look at the bytes that alignment left between memory and guarding page."""
        for memory in self._memories:
            memory.check()

    def bring_back(self) -> None:
        """Copy the results to where the caller wants them."""
        for target, source in zip(self._given.outputs, self.bindings.outputs, strict=True):
            if target is not None and source is not None and target is not source:
                _copy(source, target)
        for index, source in self._allocated:
            assert self._given.allocate_output is not None
            _copy(source, self._given.allocate_output(index, source.dtype, source.shape))

    def _place(self, bound: BoundTensor, label: str, *, filled: bool) -> BoundTensor:
        if bound.buffer.memory is not MemoryKind.HOST:
            return bound
        nbytes = bound.nbytes
        memory = GuardedMemory(nbytes, self._side, label=f"{label} ({bound.dtype.label}{list(bound.shape)})")
        self._memories.append(memory)
        if filled:
            memory.bytes[:] = _array(bound, bound.address, nbytes)
        return BoundTensor(bound.dtype, bound.shape, Buffer(MemoryKind.HOST, nbytes, memory.address, memory))

    def _allocate(self, index: int, dtype: DType, shape: tuple[int, ...]) -> BoundTensor:
        """Stands for the caller's ``allocate_output``."""
        assert self._given.allocate_output is not None
        if dtype is DType.STRING:
            return self._given.allocate_output(index, dtype, shape)
        bound = self._place(BoundTensor(dtype, shape, Buffer(MemoryKind.HOST, 0)), f"output {index}", filled=False)
        self._allocated.append((index, bound))
        return bound

    def _workspace(self) -> BoundTensor | None:
        given = self._given.workspace
        if given is None or given.buffer.memory is not MemoryKind.HOST:
            return given
        nbytes = given.nbytes
        memory = GuardedMemory(nbytes, self._side, alignment=64, label="the workspace")
        self._memories.append(memory)
        return replace(given, buffer=Buffer(MemoryKind.HOST, nbytes, memory.address, memory), offset=0)


def _copy(source: BoundTensor, target: BoundTensor) -> None:
    nbytes = source.nbytes
    _array(target, target.address, nbytes)[:] = _array(source, source.address, nbytes)


def _array(owner: object, address: int, nbytes: int) -> Bytes:
    """``nbytes`` bytes at an address; the array keeps ``owner``."""
    if not nbytes:
        return np.empty(0, np.uint8)
    memory = (ctypes.c_uint8 * nbytes).from_address(address)
    memory.owner = owner  # type: ignore[attr-defined]
    return np.ctypeslib.as_array(memory)


class _System:
    """The calls that make and guard pages."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._mmap = self._library.mmap
        self._mmap.restype = ctypes.c_void_p
        self._mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._mprotect = self._library.mprotect
        self._mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._munmap = self._library.munmap
        self._munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def map(self, nbytes: int) -> int:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        address = self._mmap(None, nbytes, _PROT_READ | _PROT_WRITE, flags, -1, 0)
        if address is None or address == ctypes.c_void_p(-1).value:
            raise MemoryError(f"the system gives no {nbytes} bytes of pages")
        return int(address)

    def forbid(self, address: int, nbytes: int) -> None:
        if self._mprotect(address, nbytes, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "the system does not guard a page")

    def unmap(self, address: int, nbytes: int) -> None:
        self._munmap(address, nbytes)


@functools.cache
def _system() -> _System:
    if sys.platform == "win32":
        raise UsageError("pages are guarded on Linux and macOS only")
    return _System()


def _release(address: int, nbytes: int) -> None:
    _system().unmap(address, nbytes)

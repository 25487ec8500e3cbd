"""How native code finds out that it is to stop, as LLVM IR: ``i64 @poll(ptr control)``, see `Control`.

A run stops because its cancel flag is set, or because a signal handler of Python raised (Ctrl-C).  Python runs handlers
in the main thread alone and only in its own code, so a run of that thread calls into Python now and then, however deep
in a kernel it is.  Kernels whose single unit of work may take long call it too, through the address in the control
block: see ``stop_requested`` in `mace_core.native.numba_prelude`.
"""

from __future__ import annotations

from enum import IntEnum

from mace_core.native.system_ir import thread_ir, word_addresses
from mace_core.native.target import Target


class Control(IntEnum):
    """Indices of 64-bit words in the control block of one run."""

    STEPS = 0
    STEP_COUNT = 1
    WORDS = 2
    RELOCATIONS = 3
    RELOCATION_COUNT = 4
    BASES = 5
    CANCEL = 6  # address of an int32, or 0
    POOL = 7  # address of a pool, or 0
    PROFILE = 8  # address of two int64 for each step, or 0
    THREADS = 9
    SLICE_NS = 10  # let Python look at signals after about so long
    POLL = 11  # address of `@poll`, filled in by the runner
    LOOK = 12  # address of an ``int64 (void)`` that lets Python look: not 0 = stop; or 0
    OWNER = 13  # the thread that may call it
    LOOK_AT = 14  # when it is to be called next
    STOPPED = 15  # not 0 once the run is to stop, whatever the flag says later
    SIZE = 16


_POLL = """
define internal i64 @poll(ptr %control) noinline {
entry:
CONTROL_WORDS
  %stopped.before = load atomic i64, ptr %stopped.at monotonic, align 8
  %known = icmp ne i64 %stopped.before, 0
  br i1 %known, label %stop, label %flag

flag:
  %cancel = load ptr, ptr %cancel.at
  %no.cancel = icmp eq ptr %cancel, null
  br i1 %no.cancel, label %signals, label %read

read:
  %value = load atomic i32, ptr %cancel acquire, align 4
  %cancelled = icmp ne i32 %value, 0
  br i1 %cancelled, label %note, label %signals

signals:
  %look = load ptr, ptr %look.at
  %no.look = icmp eq ptr %look, null
  br i1 %no.look, label %on, label %whose

whose:
  %owner = load i64, ptr %owner.at
  %self = call i64 @thread()
  %mine = icmp eq i64 %owner, %self
  br i1 %mine, label %clock, label %on

clock:
  %due = load i64, ptr %look_at.at
  %time = call i64 @now()
  %early = icmp ult i64 %time, %due
  br i1 %early, label %on, label %ask

ask:
  %answer = call i64 %look()
  %asked = call i64 @now()
  %slice = load i64, ptr %slice_ns.at
  %next = add i64 %asked, %slice
  store i64 %next, ptr %look_at.at
  %raised = icmp ne i64 %answer, 0
  br i1 %raised, label %note, label %on

note:
  store atomic i64 1, ptr %stopped.at monotonic, align 8
  br label %stop

stop:
  ret i64 1

on:
  ret i64 0
}
"""


def poll_ir(target: Target) -> str:
    """``@poll``, to be put into a module that has `system_ir`."""
    return thread_ir(target) + _POLL.replace("CONTROL_WORDS", word_addresses(Control, "%control"))

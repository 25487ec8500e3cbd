"""The plan runner and the pool's workers, as LLVM IR.

Both are kernels like any other for compiling, caching and loading, with parameters of their own:

* ``i64 mace_run_plan(ptr control, i64 start)`` walks the steps of a plan, see `Control`.
* ``i64 mace_pool_worker(ptr pool, i64 index, i64 resumed)`` is where a worker thread lives, see `PoolWord`.
* ``void mace_pool_stop(ptr pool)`` makes the workers return.

How chunks are claimed.  ``TICKET`` is one 64-bit word: the number of the parallel region in the upper half, the next
chunk in the lower.  A claim is one compare-and-swap of the whole word, so whoever was descheduled between reading the job
and claiming it finds another word and claims nothing.  The job's fields are only rewritten while the ticket is *closed*
(lower half all ones).  The region is over when every claimed chunk is reported done; a worker that claimed none is not
waited for.
"""

from __future__ import annotations

import sys
import time
from enum import IntEnum

from mace_core.native.kernel import KernelSource
from mace_core.native.target import Target

VERSION = "1"


class PoolWord(IntEnum):
    """Indices of 64-bit words in the memory of a pool.  What different threads write lies on different cache lines."""

    TICKET = 0
    KERNEL = 8
    ARGS = 9
    EXTENT = 10
    CHUNKS = 11
    WORKERS = 12  # workers with an index below this one may take part
    DONE = 16  # chunks that workers have finished
    WAKE = 24  # int32: changes whenever workers are woken (the futex)
    PARKED = 25  # one bit for each worker that sleeps or is about to
    STOP = 26
    ACTIVE = 27  # runs in progress: workers spin longer while there are any
    BUSY = 32  # taken by the one run that may use the workers now
    IDLE_SPIN_NS = 40
    ACTIVE_SPIN_NS = 41
    SIZE = 48


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
    SLICE_NS = 10  # go back to the caller after about so long
    SIZE = 16


STEP_WORDS = 4
"""A step is four int64: kernel address, index of its first argument word, extent, chunks."""

RELOCATION_WORDS = 3
"""A relocation is three int64: word index, base slot, byte offset."""

CANCELLED = -1

# --- what differs between systems ---------------------------------------------------------------------------------------

_FUTEX_SYSCALL = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_FUTEX_WAIT_BITSET_PRIVATE = 9 | 128
_FUTEX_WAKE_BITSET_PRIVATE = 10 | 128


def has_futex(target: Target) -> bool:
    """Whether a worker can sleep inside native code; where not, it goes back to Python to sleep."""
    return "linux" in target.triple and target.architecture in _FUTEX_SYSCALL


def _is_windows(target: Target) -> bool:
    return "windows" in target.triple


def _system(target: Target) -> str:
    """@now (monotonic nanoseconds), @relax (in a spin loop), @yield (give the processor away), @sleep, @wake."""
    pause = {
        "x86_64": "call void @llvm.x86.sse2.pause()",
        "aarch64": "call void @llvm.aarch64.hint(i32 1)",
    }.get(target.architecture, 'fence syncscope("singlethread") seq_cst')
    declare_pause = {
        "x86_64": "declare void @llvm.x86.sse2.pause()",
        "aarch64": "declare void @llvm.aarch64.hint(i32)",
    }.get(target.architecture, "")
    text = f"""
{declare_pause}
define internal void @relax() alwaysinline {{
  {pause}
  ret void
}}
"""
    text += _WINDOWS if _is_windows(target) else _POSIX.replace("CLOCK", str(_monotonic_clock()))
    if has_futex(target):
        number = _FUTEX_SYSCALL[target.architecture]
        text += (
            _FUTEX.replace("NUMBER", str(number))
            .replace("WAIT", str(_FUTEX_WAIT_BITSET_PRIVATE))
            .replace("WAKE", str(_FUTEX_WAKE_BITSET_PRIVATE))
        )
    else:
        text += "define internal void @wake(ptr %word, i64 %workers) alwaysinline {\n  ret void\n}\n"
    return text


def _monotonic_clock() -> int:
    return getattr(time, "CLOCK_MONOTONIC", 1)


_POSIX = """
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()

define internal i64 @now() {
  %time = alloca [2 x i64]
  %status = call i32 @clock_gettime(i32 CLOCK, ptr %time)
  %seconds = load i64, ptr %time
  %rest = getelementptr i64, ptr %time, i64 1
  %nanoseconds = load i64, ptr %rest
  %scaled = mul i64 %seconds, 1000000000
  %total = add i64 %scaled, %nanoseconds
  ret i64 %total
}

define internal void @yield() {
  %status = call i32 @sched_yield()
  ret void
}
"""

_WINDOWS = """
declare i32 @QueryPerformanceCounter(ptr)
declare i32 @QueryPerformanceFrequency(ptr)
declare i32 @SwitchToThread()

define internal i64 @now() {
  %count.at = alloca i64
  %frequency.at = alloca i64
  %status = call i32 @QueryPerformanceCounter(ptr %count.at)
  %status2 = call i32 @QueryPerformanceFrequency(ptr %frequency.at)
  %count = load i64, ptr %count.at
  %frequency = load i64, ptr %frequency.at
  %seconds = udiv i64 %count, %frequency
  %ticks = urem i64 %count, %frequency
  %scaled = mul i64 %seconds, 1000000000
  %ticks.scaled = mul i64 %ticks, 1000000000
  %nanoseconds = udiv i64 %ticks.scaled, %frequency
  %total = add i64 %scaled, %nanoseconds
  ret i64 %total
}

define internal void @yield() {
  %status = call i32 @SwitchToThread()
  ret void
}
"""

_FUTEX = """
declare i64 @syscall(i64, ...)

define internal void @sleep(ptr %word, i32 %seen, i64 %bit) {
  %bits = trunc i64 %bit to i32
  %status = call i64 (i64, ...) @syscall(i64 NUMBER, ptr %word, i32 WAIT, i32 %seen, ptr null, ptr null, i32 %bits)
  ret void
}

define internal void @wake(ptr %word, i64 %workers) {
  %bits.low = trunc i64 %workers to i32
  %high = lshr i64 %workers, 32
  %bits.high = trunc i64 %high to i32
  %bits = or i32 %bits.low, %bits.high
  %old = atomicrmw add ptr %word, i32 1 seq_cst
  %status = call i64 (i64, ...) @syscall(i64 NUMBER, ptr %word, i32 WAKE, i32 2147483647, ptr null, ptr null, i32 %bits)
  ret void
}
"""

# --- shared -------------------------------------------------------------------------------------------------------------

_CHUNK = """
define internal void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk) alwaysinline {
  %after = add i64 %chunk, 1
  %begin.scaled = mul i64 %extent, %chunk
  %end.scaled = mul i64 %extent, %after
  %begin = udiv i64 %begin.scaled, %chunks
  %end = udiv i64 %end.scaled, %chunks
  call void %kernel(ptr %args, i64 %begin, i64 %end, i64 %chunk)
  ret void
}
"""


def _words(words: type[IntEnum], base: str) -> str:
    """Addresses of the named words as ``%name.at``."""
    return "\n".join(
        f"  %{word.name.lower()}.at = getelementptr i64, ptr {base}, i64 {word.value}"
        for word in words
        if word.name != "SIZE"
    )


# --- the worker ---------------------------------------------------------------------------------------------------------

_WORKER = """
define i64 @mace_pool_worker(ptr %pool, i64 %index, i64 %resumed) {
entry:
POOL_WORDS
  %bit = shl i64 1, %index
  %unbit = xor i64 %bit, -1
  %futex.index = and i64 %index, 31
  %futex.bit = shl i64 1, %futex.index
  %was.parked = icmp ne i64 %resumed, 0
  br i1 %was.parked, label %unpark, label %fresh

unpark:
  %parked.old = atomicrmw and ptr %parked.at, i64 %unbit seq_cst
  br label %fresh

fresh:                      ; start counting idle time anew
  br label %look

look:
  %spins = phi i64 [ 0, %fresh ], [ %spins.next, %idle.soon ], [ %spins.next, %idle.late ], [ %spins, %lost ]
  %since = phi i64 [ 0, %fresh ], [ %since, %idle.soon ], [ %since.now, %idle.late ], [ %since, %lost ]
  %ticket = load atomic i64, ptr %ticket.at acquire, align 8
  %chunk = and i64 %ticket, 4294967295
  %chunks = load atomic i64, ptr %chunks.at acquire, align 8
  %workers = load atomic i64, ptr %workers.at acquire, align 8
  %left = icmp ult i64 %chunk, %chunks
  %invited = icmp ult i64 %index, %workers
  %work = and i1 %left, %invited
  br i1 %work, label %claim, label %idle

claim:
  %kernel.word = load atomic i64, ptr %kernel.at acquire, align 8
  %args.word = load atomic i64, ptr %args.at acquire, align 8
  %extent = load atomic i64, ptr %extent.at acquire, align 8
  %ticket.next = add i64 %ticket, 1
  %swap = cmpxchg ptr %ticket.at, i64 %ticket, i64 %ticket.next acq_rel acquire, align 8
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %execute, label %lost

lost:
  br label %look

execute:
  %kernel = inttoptr i64 %kernel.word to ptr
  %args = inttoptr i64 %args.word to ptr
  call void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk)
  %done.old = atomicrmw add ptr %done.at, i64 1 acq_rel
  br label %fresh

idle:
  %stop = load atomic i64, ptr %stop.at acquire, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %spin

spin:
  call void @relax()
  %spins.next = add i64 %spins, 1
  %phase = and i64 %spins.next, 63
  %soon = icmp ne i64 %phase, 0
  br i1 %soon, label %idle.soon, label %check

idle.soon:
  br label %look

check:                      ; now and then: how long has there been nothing?
  %time = call i64 @now()
  %first = icmp eq i64 %spins.next, 64
  %since.now = select i1 %first, i64 %time, i64 %since
  %waited = sub i64 %time, %since.now
  %active = load atomic i64, ptr %active.at acquire, align 8
  %running = icmp ne i64 %active, 0
  %idle.limit = load i64, ptr %idle_spin_ns.at
  %active.limit = load i64, ptr %active_spin_ns.at
  %limit = select i1 %running, i64 %active.limit, i64 %idle.limit
  %enough = icmp ugt i64 %waited, %limit
  br i1 %enough, label %park, label %polite

polite:                     ; others may need this processor
  %long = icmp ugt i64 %waited, 20000
  br i1 %long, label %give.way, label %idle.late

give.way:
  call void @yield()
  br label %idle.late

idle.late:
  br label %look

park:
  %wake.seen = load atomic i32, ptr %wake.at acquire, align 4
  %parked.before = atomicrmw or ptr %parked.at, i64 %bit seq_cst
  fence seq_cst
  ; work published before our bit was set would wake nobody: look once more
  %ticket.again = load atomic i64, ptr %ticket.at seq_cst, align 8
  %chunks.again = load atomic i64, ptr %chunks.at seq_cst, align 8
  %workers.again = load atomic i64, ptr %workers.at seq_cst, align 8
  %stop.again = load atomic i64, ptr %stop.at seq_cst, align 8
  %active.again = load atomic i64, ptr %active.at seq_cst, align 8
  %chunk.again = and i64 %ticket.again, 4294967295
  %left.again = icmp ult i64 %chunk.again, %chunks.again
  %invited.again = icmp ult i64 %index, %workers.again
  %work.again = and i1 %left.again, %invited.again
  %stopped.again = icmp ne i64 %stop.again, 0
  %wanted = or i1 %work.again, %stopped.again
  br i1 %wanted, label %unpark, label %rest

rest:
REST

leave:
  ret i64 0
}
"""

# With a futex the worker sleeps here.  Without, it returns 1 and Python lets it sleep, but only between runs: a run in
# progress could not wake it.
_REST_FUTEX = """
  call void @sleep(ptr %wake.at, i32 %wake.seen, i64 %futex.bit)
  br label %unpark
"""
_REST_CALLER = """
  %running.again = icmp ne i64 %active.again, 0
  br i1 %running.again, label %unpark, label %leave.resting

leave.resting:
  ret i64 1
"""

# --- the runner ---------------------------------------------------------------------------------------------------------

_REGION = """
define internal void @run_alone(ptr %kernel, ptr %args, i64 %extent, i64 %chunks) {
entry:
  br label %loop
loop:
  %chunk = phi i64 [ 0, %entry ], [ %chunk.next, %loop ]
  call void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk)
  %chunk.next = add i64 %chunk, 1
  %more = icmp ult i64 %chunk.next, %chunks
  br i1 %more, label %loop, label %end
end:
  ret void
}

define internal void @run_region(ptr %pool, ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %threads) {
entry:
POOL_WORDS
  %take = cmpxchg ptr %busy.at, i64 0, i64 1 acq_rel monotonic, align 8
  %taken = extractvalue { i64, i1 } %take, 1
  br i1 %taken, label %publish, label %alone

alone:                      ; another run has the workers
  call void @run_alone(ptr %kernel, ptr %args, i64 %extent, i64 %chunks)
  ret void

publish:
  %last = load atomic i64, ptr %ticket.at monotonic, align 8
  %last.region = lshr i64 %last, 32
  %closed.region = add i64 %last.region, 1
  %open.region = add i64 %last.region, 2
  %closed.high = shl i64 %closed.region, 32
  %closed = or i64 %closed.high, 4294967295
  store atomic i64 %closed, ptr %ticket.at seq_cst, align 8
  %workers = sub i64 %threads, 1
  %kernel.word = ptrtoint ptr %kernel to i64
  %args.word = ptrtoint ptr %args to i64
  store atomic i64 0, ptr %done.at release, align 8
  store atomic i64 %kernel.word, ptr %kernel.at release, align 8
  store atomic i64 %args.word, ptr %args.at release, align 8
  store atomic i64 %extent, ptr %extent.at release, align 8
  store atomic i64 %chunks, ptr %chunks.at release, align 8
  store atomic i64 %workers, ptr %workers.at release, align 8
  %open = shl i64 %open.region, 32
  store atomic i64 %open, ptr %ticket.at seq_cst, align 8
  fence seq_cst
  %parked = load atomic i64, ptr %parked.at seq_cst, align 8
  %past = shl i64 1, %workers
  %invited.some = sub i64 %past, 1
  %all = icmp ugt i64 %workers, 63
  %invited = select i1 %all, i64 -1, i64 %invited.some
  %asleep = and i64 %parked, %invited
  %nobody = icmp eq i64 %asleep, 0
  br i1 %nobody, label %claim, label %wake

wake:
  call void @wake(ptr %wake.at, i64 %asleep)
  br label %claim

claim:
  %mine = phi i64 [ 0, %publish ], [ 0, %wake ], [ %mine.next, %execute ], [ %mine, %try ]
  %ticket = load atomic i64, ptr %ticket.at acquire, align 8
  %chunk = and i64 %ticket, 4294967295
  %left = icmp ult i64 %chunk, %chunks
  br i1 %left, label %try, label %join

try:
  %ticket.next = add i64 %ticket, 1
  %swap = cmpxchg ptr %ticket.at, i64 %ticket, i64 %ticket.next acq_rel acquire, align 8
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %execute, label %claim

execute:
  call void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk)
  %mine.next = add i64 %mine, 1
  br label %claim

join:
  %theirs = sub i64 %chunks, %mine
  br label %wait

wait:
  %spins = phi i64 [ 0, %join ], [ %spins.next, %spin ], [ %spins.next, %give.way ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %finished = icmp eq i64 %done, %theirs
  br i1 %finished, label %end, label %again

again:
  call void @relax()
  %spins.next = add i64 %spins, 1
  %long = icmp ugt i64 %spins.next, 512
  %phase = and i64 %spins.next, 31
  %due = icmp eq i64 %phase, 0
  %polite = and i1 %long, %due
  br i1 %polite, label %give.way, label %spin

spin:
  br label %wait

give.way:                   ; the worker we wait for may need this processor
  call void @yield()
  br label %wait

end:
  store atomic i64 0, ptr %busy.at release, align 8
  ret void
}
"""

_RUN = """
define i64 @mace_run_plan(ptr %control, i64 %start) {
entry:
CONTROL_WORDS
  %steps = load ptr, ptr %steps.at
  %count = load i64, ptr %step_count.at
  %words = load ptr, ptr %words.at
  %cancel = load ptr, ptr %cancel.at
  %pool = load ptr, ptr %pool.at
  %profile = load ptr, ptr %profile.at
  %threads = load i64, ptr %threads.at
  %slice = load i64, ptr %slice_ns.at
  %relocations = load ptr, ptr %relocations.at
  %relocation.count = load i64, ptr %relocation_count.at
  %bases = load ptr, ptr %bases.at
  %begun = call i64 @now()
  %deadline = add i64 %begun, %slice
  %active.at = getelementptr i64, ptr %pool, i64 ACTIVE
  %no.pool = icmp eq ptr %pool, null
  %one.thread = icmp ult i64 %threads, 2
  %serial = or i1 %no.pool, %one.thread
  %no.profile = icmp eq ptr %profile, null
  %no.cancel = icmp eq ptr %cancel, null
  br i1 %no.pool, label %announced, label %announce

announce:
  %active.old = atomicrmw add ptr %active.at, i64 1 seq_cst
  br label %announced

announced:
  %resuming = icmp ne i64 %start, 0
  %nothing = icmp eq i64 %relocation.count, 0
  %patched = or i1 %resuming, %nothing
  br i1 %patched, label %walk, label %patch

patch:
  %r = phi i64 [ 0, %announced ], [ %r.next, %patch ]
  %r.first = mul i64 %r, 3
  %r.word.at = getelementptr i64, ptr %relocations, i64 %r.first
  %r.slot.at = getelementptr i64, ptr %r.word.at, i64 1
  %r.offset.at = getelementptr i64, ptr %r.word.at, i64 2
  %r.word = load i64, ptr %r.word.at
  %r.slot = load i64, ptr %r.slot.at
  %r.offset = load i64, ptr %r.offset.at
  %r.base.at = getelementptr i64, ptr %bases, i64 %r.slot
  %r.base = load i64, ptr %r.base.at
  %r.address = add i64 %r.base, %r.offset
  %r.target.at = getelementptr i64, ptr %words, i64 %r.word
  store i64 %r.address, ptr %r.target.at
  %r.next = add i64 %r, 1
  %r.more = icmp ult i64 %r.next, %relocation.count
  br i1 %r.more, label %patch, label %walk

walk:
  %step = phi i64 [ %start, %announced ], [ 0, %patch ], [ %step.next, %after ]
  %more = icmp ult i64 %step, %count
  br i1 %more, label %poll, label %leave

poll:
  br i1 %no.cancel, label %clock, label %look

look:
  %flag = load atomic i32, ptr %cancel acquire, align 4
  %cancelled = icmp ne i32 %flag, 0
  br i1 %cancelled, label %stopped, label %clock

stopped:
  br label %leave

clock:                      ; reading the clock costs as much as a small step: not at each one
  %position = and i64 %step, 3
  %due.position = icmp eq i64 %position, 3
  %progress = icmp ne i64 %step, %start
  %due = and i1 %due.position, %progress
  br i1 %due, label %time, label %execute

time:
  %time.now = call i64 @now()
  %late = icmp ugt i64 %time.now, %deadline
  br i1 %late, label %leave, label %execute

execute:
  %first = mul i64 %step, 4
  %kernel.at = getelementptr i64, ptr %steps, i64 %first
  %args.index.at = getelementptr i64, ptr %kernel.at, i64 1
  %extent.at = getelementptr i64, ptr %kernel.at, i64 2
  %chunks.at = getelementptr i64, ptr %kernel.at, i64 3
  %kernel = load ptr, ptr %kernel.at
  %args.index = load i64, ptr %args.index.at
  %extent = load i64, ptr %extent.at
  %chunks = load i64, ptr %chunks.at
  %args = getelementptr i64, ptr %words, i64 %args.index
  br i1 %no.profile, label %choose, label %profile.start

profile.start:
  %start.index = mul i64 %step, 2
  %start.at = getelementptr i64, ptr %profile, i64 %start.index
  %start.time = call i64 @now()
  store i64 %start.time, ptr %start.at
  br label %choose

choose:
  %single = icmp ult i64 %chunks, 2
  br i1 %single, label %run.one, label %run.many

run.one:
  call void %kernel(ptr %args, i64 0, i64 %extent, i64 0)
  br label %ran

run.many:
  br i1 %serial, label %run.alone, label %run.region

run.alone:
  call void @run_alone(ptr %kernel, ptr %args, i64 %extent, i64 %chunks)
  br label %ran

run.region:
  call void @run_region(ptr %pool, ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %threads)
  br label %ran

ran:
  br i1 %no.profile, label %after, label %profile.end

profile.end:
  %end.index.even = mul i64 %step, 2
  %end.index = add i64 %end.index.even, 1
  %end.at = getelementptr i64, ptr %profile, i64 %end.index
  %end.time = call i64 @now()
  store i64 %end.time, ptr %end.at
  br label %after

after:
  %step.next = add i64 %step, 1
  br label %walk

leave:
  %answer = phi i64 [ %step, %walk ], [ CANCELLED, %stopped ], [ %step, %time ]
  br i1 %no.pool, label %return, label %retire

retire:
  %active.last = atomicrmw sub ptr %active.at, i64 1 seq_cst
  br label %return

return:
  ret i64 %answer
}
"""


def _worker_ir(target: Target) -> str:
    rest = _REST_FUTEX if has_futex(target) else _REST_CALLER
    return _system(target) + _CHUNK + _WORKER.replace("POOL_WORDS", _words(PoolWord, "%pool")).replace("REST", rest)


def _runner_ir(target: Target) -> str:
    region = _REGION.replace("POOL_WORDS", _words(PoolWord, "%pool"))
    run = (
        _RUN.replace("CONTROL_WORDS", _words(Control, "%control"))
        .replace("ACTIVE", str(PoolWord.ACTIVE.value))
        .replace("CANCELLED", str(CANCELLED))
    )
    return _system(target) + _CHUNK + region + run


def _imports() -> frozenset[str]:
    if sys.platform == "win32":
        return frozenset(("QueryPerformanceCounter", "QueryPerformanceFrequency", "SwitchToThread"))
    return frozenset(("clock_gettime", "sched_yield", "syscall"))


_STOP = """
define void @mace_pool_stop(ptr %pool) {
POOL_WORDS
  store atomic i64 1, ptr %stop.at seq_cst, align 8
  call void @wake(ptr %wake.at, i64 -1)
  ret void
}
"""


def _stop_ir(target: Target) -> str:
    return _system(target) + _STOP.replace("POOL_WORDS", _words(PoolWord, "%pool"))


RUNNER = KernelSource("mace_run_plan", VERSION, _runner_ir, _imports())
WORKER = KernelSource("mace_pool_worker", VERSION, _worker_ir, _imports())
STOP = KernelSource("mace_pool_stop", VERSION, _stop_ir, _imports())

"""The workers of a pool and the parallel region, as LLVM IR.

* ``i64 mace_pool_worker(ptr pool, i64 index, i64 resumed)`` is where a worker thread lives, see `PoolWord`.
* ``void mace_pool_stop(ptr pool)`` makes the workers return.
* ``@run_region`` and ``@run_alone`` are for the plan runner.

How chunks are claimed.  ``TICKET`` is one 64-bit word: the number of the parallel region in the upper half, in the
lower how many chunks were taken from the end (16 bits) and from the beginning (16 bits).  The caller and every second
worker begin with the first chunk, the others with the last: so a thread gets, step after step, about the same part of
what it has in its caches.  A claim is one compare-and-swap of the whole word, so whoever was descheduled between
reading the job and claiming it finds another word and claims nothing.  The job's fields are only rewritten while the
ticket is *closed* (lower half all ones).  The region is over when every claimed chunk is reported done; a worker that
claimed none is not waited for.
"""

from __future__ import annotations

from enum import IntEnum

from mace_core.native.poll_ir import poll_ir
from mace_core.native.source import KernelSource
from mace_core.native.system_ir import (
    has_futex,
    source_version,
    system_imports,
    system_ir,
    thread_imports,
    word_addresses,
)
from mace_core.native.target import Target, host_target


class PoolWord(IntEnum):
    """Indices of 64-bit words in the memory of a pool.  What different threads write lies on different cache lines."""

    TICKET = 0
    KERNEL = 8
    ARGS = 9
    EXTENT = 10
    CHUNKS = 11
    WORKERS = 12  # workers with an index below this one may take part
    PIECE = 13
    CONTROL = 14  # of the run
    DONE = 16  # chunks that workers have finished
    WAKE = 24  # int32: changes whenever workers are woken (the futex)
    PARKED = 25  # one bit for each worker that sleeps or is about to
    STOP = 26
    ACTIVE = 27  # runs in progress: workers spin longer while there are any
    BUSY = 32  # taken by the one run that may use the workers now
    IDLE_SPIN_NS = 40
    ACTIVE_SPIN_NS = 41
    PARK_IN_CALLER = 42  # workers return to sleep instead of waiting for the futex
    SIZE = 48


MOST_CHUNKS = 60_000
"""Of a region with several threads; a step of more is computed by the caller alone."""

_CHUNK = """
define internal void @run_chunk(
  ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk, i64 %piece, ptr %control
) {
entry:
  %after = add i64 %chunk, 1
  %begin.scaled = mul i64 %extent, %chunk
  %end.scaled = mul i64 %extent, %after
  %begin = udiv i64 %begin.scaled, %chunks
  %end = udiv i64 %end.scaled, %chunks
  %whole = icmp eq i64 %piece, 0
  br label %turn
turn:
  %from = phi i64 [ %begin, %entry ], [ %to, %go ]
  %stop = call i64 @poll(ptr %control)
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %go
go:
  %left = sub i64 %end, %from
  %fits = icmp ule i64 %left, %piece
  %last = or i1 %whole, %fits
  %cut = add i64 %from, %piece
  %to = select i1 %last, i64 %end, i64 %cut
  call void %kernel(ptr %args, i64 %from, i64 %to, i64 %chunk)
  br i1 %last, label %leave, label %turn
leave:
  ret void
}
"""


_WORKER = """
define i64 @mace_pool_worker(ptr %pool, i64 %index, i64 %resumed) {
entry:
POOL_WORDS
  %bit = shl i64 1, %index
  %unbit = xor i64 %bit, -1
  %futex.index = and i64 %index, 31
  %futex.bit = shl i64 1, %futex.index
  %odd = and i64 %index, 1
  %from.end = icmp eq i64 %odd, 0
  %claimed = select i1 %from.end, i64 65536, i64 1
  %was.parked = icmp ne i64 %resumed, 0
  br i1 %was.parked, label %unpark, label %fresh

unpark:
  %parked.old = atomicrmw and ptr %parked.at, i64 %unbit seq_cst
  br label %fresh

fresh:                      ; start counting idle time again
  br label %look

look:
  %spins = phi i64 [ 0, %fresh ], [ %spins.next, %idle.soon ], [ %spins.next, %idle.late ], [ %spins, %lost ]
  %since = phi i64 [ 0, %fresh ], [ %since, %idle.soon ], [ %since.now, %idle.late ], [ %since, %lost ]
  %ticket = load atomic i64, ptr %ticket.at acquire, align 8
  %first.left = and i64 %ticket, 65535
  %ticket.shifted = lshr i64 %ticket, 16
  %from.behind = and i64 %ticket.shifted, 65535
  %taken = add i64 %first.left, %from.behind
  %chunks = load atomic i64, ptr %chunks.at acquire, align 8
  %workers = load atomic i64, ptr %workers.at acquire, align 8
  %left = icmp ult i64 %taken, %chunks
  %invited = icmp ult i64 %index, %workers
  %work = and i1 %left, %invited
  br i1 %work, label %claim, label %idle

claim:
  %kernel.word = load atomic i64, ptr %kernel.at acquire, align 8
  %args.word = load atomic i64, ptr %args.at acquire, align 8
  %extent = load atomic i64, ptr %extent.at acquire, align 8
  %piece = load atomic i64, ptr %piece.at acquire, align 8
  %control.word = load atomic i64, ptr %control.at acquire, align 8
  %last = sub i64 %chunks, 1
  %last.left = sub i64 %last, %from.behind
  %chunk = select i1 %from.end, i64 %last.left, i64 %first.left
  %ticket.next = add i64 %ticket, %claimed
  %swap = cmpxchg ptr %ticket.at, i64 %ticket, i64 %ticket.next acq_rel acquire, align 8
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %execute, label %lost

lost:
  br label %look

execute:
  %kernel = inttoptr i64 %kernel.word to ptr
  %args = inttoptr i64 %args.word to ptr
  %control = inttoptr i64 %control.word to ptr
  call void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk, i64 %piece, ptr %control)
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
  %low.again = and i64 %ticket.again, 65535
  %ticket.shifted.again = lshr i64 %ticket.again, 16
  %high.again = and i64 %ticket.shifted.again, 65535
  %taken.again = add i64 %low.again, %high.again
  %left.again = icmp ult i64 %taken.again, %chunks.again
  %invited.again = icmp ult i64 %index, %workers.again
  %work.again = and i1 %left.again, %invited.again
  %stopped.again = icmp ne i64 %stop.again, 0
  %wanted = or i1 %work.again, %stopped.again
  br i1 %wanted, label %unpark, label %rest

rest:
REST
return:
  %running.again = icmp ne i64 %active.again, 0
  br i1 %running.again, label %unpark, label %leave.resting

leave.resting:
  ret i64 1

leave:
  ret i64 0
}
"""

# With a futex the worker sleeps here.  Without, it returns 1 and Python lets it sleep, but only between runs: a run in
# progress could not wake it.
_REST_FUTEX = """
  %in.caller = load i64, ptr %park_in_caller.at
  %in.here = icmp eq i64 %in.caller, 0
  br i1 %in.here, label %doze, label %return

doze:
  call void @sleep(ptr %wake.at, i32 %wake.seen, i64 %futex.bit)
  br label %unpark
"""
_REST_CALLER = """
  br label %return
"""

_REGION = """
define internal void @run_alone(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %piece, ptr %control) {
entry:
  br label %loop
loop:
  %chunk = phi i64 [ 0, %entry ], [ %chunk.next, %loop ]
  call void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk, i64 %piece, ptr %control)
  %chunk.next = add i64 %chunk, 1
  %more = icmp ult i64 %chunk.next, %chunks
  br i1 %more, label %loop, label %end
end:
  ret void
}

define internal void @run_region(
  ptr %pool, ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %threads, i64 %piece, ptr %control
) {
entry:
POOL_WORDS
  %many = icmp ugt i64 %chunks, MOST_CHUNKS
  br i1 %many, label %alone, label %enter

enter:
  %take = cmpxchg ptr %busy.at, i64 0, i64 1 acq_rel monotonic, align 8
  %taken = extractvalue { i64, i1 } %take, 1
  br i1 %taken, label %publish, label %alone

alone:                      ; another run has the workers
  call void @run_alone(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %piece, ptr %control)
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
  store atomic i64 %piece, ptr %piece.at release, align 8
  %control.word = ptrtoint ptr %control to i64
  store atomic i64 %control.word, ptr %control.at release, align 8
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
  %chunk = and i64 %ticket, 65535
  %ticket.shifted = lshr i64 %ticket, 16
  %from.behind = and i64 %ticket.shifted, 65535
  %claimed = add i64 %chunk, %from.behind
  %left = icmp ult i64 %claimed, %chunks
  br i1 %left, label %try, label %join

try:
  %ticket.next = add i64 %ticket, 1
  %swap = cmpxchg ptr %ticket.at, i64 %ticket, i64 %ticket.next acq_rel acquire, align 8
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %execute, label %claim

execute:
  call void @run_chunk(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %chunk, i64 %piece, ptr %control)
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
  %stop = call i64 @poll(ptr %control)  ; whether it is to stop, the worker finds out by itself
  br label %wait

end:
  store atomic i64 0, ptr %busy.at release, align 8
  ret void
}
"""

_STOP = """
define void @mace_pool_stop(ptr %pool) {
POOL_WORDS
  store atomic i64 1, ptr %stop.at seq_cst, align 8
  call void @wake(ptr %wake.at, i64 -1)
  ret void
}
"""


def region_ir() -> str:
    """``@run_region`` and ``@run_alone``, to be put into a module that has `system_ir` and `poll_ir`."""
    region = _REGION.replace("POOL_WORDS", word_addresses(PoolWord, "%pool"))
    return _CHUNK + region.replace("MOST_CHUNKS", str(MOST_CHUNKS))


def threads_ir(target: Target) -> str:
    """``@mace_pool_worker`` and ``@mace_pool_stop``, to be put into a module that has `region_ir`."""
    rest = _REST_FUTEX if has_futex(target) else _REST_CALLER
    worker = _WORKER.replace("POOL_WORDS", word_addresses(PoolWord, "%pool")).replace("REST", rest)
    return worker + _STOP.replace("POOL_WORDS", word_addresses(PoolWord, "%pool"))


def _worker_ir(target: Target) -> str:
    return system_ir(target) + poll_ir(target) + _CHUNK + threads_ir(target)


def _stop_ir(target: Target) -> str:
    return system_ir(target) + _STOP.replace("POOL_WORDS", word_addresses(PoolWord, "%pool"))


_VERSION = source_version(__file__, poll_ir.__code__.co_filename, system_ir.__code__.co_filename)
_IMPORTS = system_imports(host_target())

WORKER = KernelSource("mace_pool_worker", _VERSION, _worker_ir, _IMPORTS | thread_imports(host_target()))
STOP = KernelSource("mace_pool_stop", _VERSION, _stop_ir, _IMPORTS)

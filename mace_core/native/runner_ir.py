"""The plan runner as LLVM IR: ``i64 mace_run_plan(ptr control, i64 start)`` walks the steps of a plan, see
`mace_core.native.poll_ir.Control`.

It answers the number of the next step: all done if that is the number of steps, else it came back to let the caller
look at signals and is to be called again with it; or `CANCELLED`.
"""

from __future__ import annotations

from mace_core.native.poll_ir import Control, poll_ir
from mace_core.native.pool_ir import PoolWord, region_ir
from mace_core.native.source import KernelSource
from mace_core.native.system_ir import source_version, system_imports, system_ir, thread_imports, word_addresses
from mace_core.native.target import Target, host_target

STEP_WORDS = 5
"""A step is five int64: kernel address, index of its first argument word, extent, chunks, piece."""

RELOCATION_WORDS = 3
"""A relocation is three int64: word index, base slot, byte offset."""

CANCELLED = -1

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
  store i64 %deadline, ptr %look_at.at
  store ptr @poll, ptr %poll.at
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
  %first = mul i64 %step, 5
  %kernel.at = getelementptr i64, ptr %steps, i64 %first
  %args.index.at = getelementptr i64, ptr %kernel.at, i64 1
  %extent.at = getelementptr i64, ptr %kernel.at, i64 2
  %chunks.at = getelementptr i64, ptr %kernel.at, i64 3
  %piece.at = getelementptr i64, ptr %kernel.at, i64 4
  %piece = load i64, ptr %piece.at
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
  %one.chunk = icmp ult i64 %chunks, 2
  %one.piece = icmp eq i64 %piece, 0
  %single = and i1 %one.chunk, %one.piece
  br i1 %single, label %run.one, label %run.many

run.one:
  call void %kernel(ptr %args, i64 0, i64 %extent, i64 0)
  br label %ran

run.many:
  %no.help = or i1 %serial, %one.chunk
  br i1 %no.help, label %run.alone, label %run.region

run.alone:
  call void @run_alone(ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %piece, ptr %control)
  br label %ran

run.region:
  call void @run_region(
    ptr %pool, ptr %kernel, ptr %args, i64 %extent, i64 %chunks, i64 %threads, i64 %piece, ptr %control
  )
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

after:                      ; whether a kernel of the step, the last one too, was told to leave its work undone
  %step.next = add i64 %step, 1
  %stop.word = load atomic i64, ptr %stopped.at monotonic, align 8
  %left.undone = icmp ne i64 %stop.word, 0
  br i1 %left.undone, label %stopped, label %walk

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


def _runner_ir(target: Target) -> str:
    run = (
        _RUN.replace("CONTROL_WORDS", word_addresses(Control, "%control"))
        .replace("ACTIVE", str(PoolWord.ACTIVE.value))
        .replace("CANCELLED", str(CANCELLED))
    )
    return system_ir(target) + poll_ir(target) + region_ir() + run


RUNNER = KernelSource(
    "mace_run_plan",
    source_version(__file__, *(function.__code__.co_filename for function in (region_ir, poll_ir, system_ir))),
    _runner_ir,
    system_imports(host_target()) | thread_imports(host_target()),
)

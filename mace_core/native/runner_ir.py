"""The plan runner as LLVM IR: ``i64 mace_run_plan(ptr control, i64 start)`` walks the steps of a plan, see
`mace_core.native.poll_ir.Control`, ``i64 mace_run_turns(ptr turns, i64 start)`` does so again and again, see
`TurnControl`, and ``i64 mace_run_stages(ptr stages, i64 start)`` lets the turns of one plan follow those of another,
see `StagesControl`.

It answers the number of the next step: all done if that is the number of steps, else it came back to let the caller
look at signals and is to be called again with it; or `CANCELLED`.
"""

from __future__ import annotations

from enum import IntEnum

from mace_core.native.poll_ir import Control, poll_ir
from mace_core.native.pool_ir import PoolWord, region_ir
from mace_core.native.source import KernelSource
from mace_core.native.system_ir import source_version, system_imports, system_ir, thread_imports, word_addresses
from mace_core.native.target import Target, host_target

STEP_WORDS = 5
"""A step is five int64: kernel address, index of its first argument word, extent, chunks, piece.
"""

GATE = -1
"""In the place of a kernel's address: the step is a gate.  Its argument is the address of a byte, and its piece says
whether that is to be other than 0; where it is not so, the step numbered by its extent is next, which may be one before
it."""

RELOCATION_WORDS = 3
"""A relocation is three int64: word index, base slot, byte offset."""

CANCELLED = -1

BETWEEN_TURNS = -2
"""Where a call of the turn runner starts, or came back to let the caller look at signals."""


ENTERING = -3
"""Where a call of the runner of stages starts with the next stage."""

STAGES_END = -4
"""What that runner answers when all stages have run, or one came to an end of another kind than `TURNS_DONE`."""

TURNS_DONE = 1
"""What a stage's end is where it ran to completion, see `TurnControl.END`."""


class StagesControl(IntEnum):
    """Indices of 64-bit words in the control block of plans that are run one after the other."""

    ENTER = 0  # a kernel that is called before each stage
    ROWS = 1  # address of two words for each stage: the arguments of that kernel, and a block as in `TurnControl`
    COUNT = 2  # of stages
    CURRENT = 3  # the stage that runs, or is next
    SIZE = 4


class TurnControl(IntEnum):
    """Indices of 64-bit words in the control block of a plan that is run turn by turn."""

    CONTROL = 0  # of a run of the plan
    ADVANCE = 1  # a kernel that is called before each turn
    STATE = 2  # its arguments
    END = 3  # address of an int64 that it sets; not 0: there is no next turn
    ADDRESSES = 4  # of the workspace, the inputs and the outputs, which it sets
    WORKSPACE_COUNT = 5  # of base slots filled with the first of these: 0 or 1
    OTHER_COUNT = 6  # and with the others; the slot between them is that of the constants
    WRITE = 7  # a kernel that computes the sizes of the plan from those of the turn, or 0
    WRITE_ARGUMENTS = 8
    SIZES = 9  # address of the sizes of the turn
    PLAN_SIZES = 10  # where the plan wants them
    SIZE_COUNT = 11
    FAULTS = 12  # address of words that are 0 while all is well
    FAULT_COUNT = 13
    SIZE = 14


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
  %step = phi i64 [ %start, %announced ], [ 0, %patch ], [ %step.next, %after ],
    [ %step.gated, %gate ], [ %step.gated, %turn ]
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
  %is.gate = icmp eq ptr %kernel, inttoptr (i64 GATE to ptr)
  br i1 %is.gate, label %gate, label %kernel.step

gate:
  %byte.at = load ptr, ptr %args
  %byte = load i8, ptr %byte.at
  %holds = icmp ne i8 %byte, 0
  %wanted = icmp ne i64 %piece, 0
  %open = icmp eq i1 %holds, %wanted
  %behind.gate = add i64 %step, 1
  %step.gated = select i1 %open, i64 %behind.gate, i64 %extent
  %is.back = icmp ult i64 %step.gated, %step
  br i1 %is.back, label %turn, label %walk

turn:                       ; of a loop, whose steps need not be among those at which the clock is read
  %turn.now = call i64 @now()
  %turn.late = icmp ugt i64 %turn.now, %deadline
  br i1 %turn.late, label %leave, label %walk

kernel.step:
  br i1 %no.profile, label %choose, label %profile.start

profile.start:
  %start.index = mul i64 %step, 2
  %start.at = getelementptr i64, ptr %profile, i64 %start.index
  %end.before.at = getelementptr i64, ptr %start.at, i64 1
  %start.before = load i64, ptr %start.at
  %end.before = load i64, ptr %end.before.at
  %taken.before = sub i64 %end.before, %start.before   ; in earlier turns of a loop
  %start.now = call i64 @now()
  %start.time = sub i64 %start.now, %taken.before
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
  %answer = phi i64 [ %step, %walk ], [ CANCELLED, %stopped ], [ %step, %time ], [ %step.gated, %turn ]
  br i1 %no.pool, label %return, label %retire

retire:
  %active.last = atomicrmw sub ptr %active.at, i64 1 seq_cst
  br label %return

return:
  ret i64 %answer
}
"""

_TURNS = """
define i64 @mace_run_turns(ptr %turns, i64 %start) {
entry:
TURN_WORDS
  %control = load ptr, ptr %control.at
  %advance = load ptr, ptr %advance.at
  %state = load ptr, ptr %state.at
  %end.word = load ptr, ptr %end.at
  %addresses = load ptr, ptr %addresses.at
  %workspaces = load i64, ptr %workspace_count.at
  %others = load i64, ptr %other_count.at
  %write = load ptr, ptr %write.at
  %write.arguments = load ptr, ptr %write_arguments.at
  %sizes = load ptr, ptr %sizes.at
  %plan.sizes = load ptr, ptr %plan_sizes.at
  %size.count = load i64, ptr %size_count.at
  %faults = load ptr, ptr %faults.at
  %fault.count = load i64, ptr %fault_count.at
  %count.at = getelementptr i64, ptr %control, i64 STEP_COUNT
  %count = load i64, ptr %count.at
  %slice.at = getelementptr i64, ptr %control, i64 SLICE_NS
  %slice = load i64, ptr %slice.at
  %bases.at = getelementptr i64, ptr %control, i64 BASES
  %bases = load ptr, ptr %bases.at
  %bases.others = getelementptr i64, ptr %bases, i64 2
  %addresses.others = getelementptr i64, ptr %addresses, i64 1
  %begun = call i64 @now()
  %deadline = add i64 %begun, %slice
  %between = icmp eq i64 %start, BETWEEN_TURNS
  br i1 %between, label %next, label %run

next:                       ; a turn begins
  call void %advance(ptr %state, i64 0, i64 1, i64 0)
  %end = load i64, ptr %end.word
  %goes.on = icmp eq i64 %end, 0
  br i1 %goes.on, label %sized, label %done

sized:
  %no.write = icmp eq ptr %write, null
  br i1 %no.write, label %bound, label %size

size:
  call void @copy_words(ptr %plan.sizes, ptr %sizes, i64 %size.count)
  call void %write(ptr %write.arguments, i64 0, i64 1, i64 0)
  br label %bound

bound:
  call void @copy_words(ptr %bases, ptr %addresses, i64 %workspaces)
  call void @copy_words(ptr %bases.others, ptr %addresses.others, i64 %others)
  br label %run

run:
  %first = phi i64 [ %start, %entry ], [ 0, %bound ]
  %step = call i64 @mace_run_plan(ptr %control, i64 %first)
  %ran = icmp eq i64 %step, %count
  br i1 %ran, label %check, label %back

back:                       ; stopped, or due for a look at signals
  ret i64 %step

check:
  %fault = phi i64 [ 0, %run ], [ %fault.next, %check.next ]
  %checked = icmp uge i64 %fault, %fault.count
  br i1 %checked, label %time, label %check.one

check.one:
  %fault.at = getelementptr i64, ptr %faults, i64 %fault
  %fault.word = load i64, ptr %fault.at
  %fine = icmp eq i64 %fault.word, 0
  br i1 %fine, label %check.next, label %done

check.next:
  %fault.next = add i64 %fault, 1
  br label %check

time:
  %time.now = call i64 @now()
  %late = icmp ugt i64 %time.now, %deadline
  br i1 %late, label %look, label %next

look:
  ret i64 BETWEEN_TURNS

done:
  ret i64 %count
}

define internal void @copy_words(ptr %target, ptr %source, i64 %count) {
entry:
  br label %head

head:
  %index = phi i64 [ 0, %entry ], [ %index.next, %one ]
  %all = icmp uge i64 %index, %count
  br i1 %all, label %end, label %one

one:
  %from = getelementptr i64, ptr %source, i64 %index
  %to = getelementptr i64, ptr %target, i64 %index
  %word = load i64, ptr %from
  store i64 %word, ptr %to
  %index.next = add i64 %index, 1
  br label %head

end:
  ret void
}
"""

_STAGES = """
define i64 @mace_run_stages(ptr %stages, i64 %start) {
entry:
STAGE_WORDS
  %enter = load ptr, ptr %enter.at
  %rows = load ptr, ptr %rows.at
  %stage.count = load i64, ptr %count.at
  %entering = icmp eq i64 %start, ENTERING
  br i1 %entering, label %next, label %resume

next:
  %next.stage = load i64, ptr %current.at
  %all = icmp uge i64 %next.stage, %stage.count
  br i1 %all, label %over, label %begin

begin:
  %begin.index = mul i64 %next.stage, 2
  %begin.row = getelementptr i64, ptr %rows, i64 %begin.index
  %begin.block.at = getelementptr i64, ptr %begin.row, i64 1
  %arguments = load ptr, ptr %begin.row
  %begin.block = load ptr, ptr %begin.block.at
  call void %enter(ptr %arguments, i64 0, i64 1, i64 0)
  %begin.end.at.at = getelementptr i64, ptr %begin.block, i64 END_WORD
  %begin.end.at = load ptr, ptr %begin.end.at.at
  %begin.end = load i64, ptr %begin.end.at
  %fits = icmp eq i64 %begin.end, 0
  br i1 %fits, label %resume, label %over

resume:
  %first = phi i64 [ %start, %entry ], [ BETWEEN_TURNS, %begin ]
  %stage = load i64, ptr %current.at
  %index = mul i64 %stage, 2
  %row = getelementptr i64, ptr %rows, i64 %index
  %block.at = getelementptr i64, ptr %row, i64 1
  %block = load ptr, ptr %block.at
  %plan.control = load ptr, ptr %block
  %steps.at = getelementptr i64, ptr %plan.control, i64 STEP_COUNT
  %steps = load i64, ptr %steps.at
  %step = call i64 @mace_run_turns(ptr %block, i64 %first)
  %ran = icmp eq i64 %step, %steps
  br i1 %ran, label %check, label %back

back:
  ret i64 %step

check:
  %end.at.at = getelementptr i64, ptr %block, i64 END_WORD
  %end.at = load ptr, ptr %end.at.at
  %end = load i64, ptr %end.at
  %done = icmp eq i64 %end, TURNS_DONE
  br i1 %done, label %advance, label %over

advance:
  %following = add i64 %stage, 1
  store i64 %following, ptr %current.at
  br label %next

over:
  ret i64 STAGES_END
}
"""


def runner_ir(target: Target) -> str:
    """``@mace_run_plan`` and all that it calls: a module of its own."""
    run = (
        _RUN.replace("CONTROL_WORDS", word_addresses(Control, "%control"))
        .replace("ACTIVE", str(PoolWord.ACTIVE.value))
        .replace("CANCELLED", str(CANCELLED))
        .replace("GATE", str(GATE))
    )
    return system_ir(target) + poll_ir(target) + region_ir() + run


def _turns_ir(target: Target) -> str:
    turns = _TURNS.replace("TURN_WORDS", word_addresses(TurnControl, "%turns"))
    for name, value in (
        ("BETWEEN_TURNS", BETWEEN_TURNS),
        ("STEP_COUNT", Control.STEP_COUNT.value),
        ("SLICE_NS", Control.SLICE_NS.value),
        ("BASES", Control.BASES.value),
    ):
        turns = turns.replace(name, str(value))
    return runner_ir(target).replace("define i64 @mace_run_plan", "define internal i64 @mace_run_plan") + turns


def _stages_ir(target: Target) -> str:
    stages = _STAGES.replace("STAGE_WORDS", word_addresses(StagesControl, "%stages"))
    for name, value in (
        ("BETWEEN_TURNS", BETWEEN_TURNS),
        ("ENTERING", ENTERING),
        ("STAGES_END", STAGES_END),
        ("TURNS_DONE", TURNS_DONE),
        ("END_WORD", TurnControl.END.value),
        ("STEP_COUNT", Control.STEP_COUNT.value),
    ):
        stages = stages.replace(name, str(value))
    return _turns_ir(target).replace("define i64 @mace_run_turns", "define internal i64 @mace_run_turns") + stages


RUNNER = KernelSource(
    "mace_run_plan",
    source_version(__file__, *(function.__code__.co_filename for function in (region_ir, poll_ir, system_ir))),
    runner_ir,
    system_imports(host_target()) | thread_imports(host_target()),
)

TURN_RUNNER = KernelSource("mace_run_turns", RUNNER.version, _turns_ir, RUNNER.imports)

STAGES_RUNNER = KernelSource("mace_run_stages", RUNNER.version, _stages_ir, RUNNER.imports)

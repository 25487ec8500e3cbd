"""The functions of a library that C calls but for those about threads, as LLVM IR, see `mace_core.native.library_ir`.

Words in capitals stand for numbers and types that depend on the target.
"""

from __future__ import annotations

# `kernel` calls a function of mace_core.native.library_kernels
COMMON = """
declare i32 @posix_memalign(ptr, SIZE, SIZE)
declare void @free(ptr)
declare i32 @madvise(ptr, SIZE, i32)
declare ptr @memset(ptr, i32, SIZE)
declare i32 @snprintf(ptr, SIZE, ptr, ...)

declare void @LAY_OUT(ptr, i64, i64, i64)
declare void @CHOOSE_PLAN(ptr, i64, i64, i64)
declare void @BIND_RUN(ptr, i64, i64, i64)
declare void @FINISH_RUN(ptr, i64, i64, i64)

define internal i32 @kernel(ptr %function, ptr %instance) {
  %given.at = getelementptr i64, ptr %instance, i64 WORD_GIVEN
  %address = ptrtoint ptr %instance to i64
  store i64 %address, ptr %given.at
  call void %function(ptr %instance, i64 0, i64 1, i64 0)
  %result.at = getelementptr i64, ptr %instance, i64 WORD_RESULT
  %result = load i64, ptr %result.at
  %status = trunc i64 %result to i32
  ret i32 %status
}

define internal void @note(ptr %instance, i64 %message, i64 %value) {
  %message.at = getelementptr i64, ptr %instance, i64 WORD_ERROR
  %value.at = getelementptr i64, ptr %instance, i64 WORD_ERROR_VALUE
  store i64 %message, ptr %message.at
  store i64 %value, ptr %value.at
  ret void
}

define hidden i32 @mace_library_create(ptr %model, ptr %memory, SIZE %bytes, i32 %threads, ptr %answer) {
  store ptr null, ptr %answer
  %own.at = getelementptr MODEL, ptr %model, i32 0, i32 OWN_FIELD
  %own = load ptr, ptr %own.at
  %weights.field = getelementptr OWN, ptr %own, i32 0, i32 1
  %weights = load ptr, ptr %weights.field
  %elsewhere = icmp eq ptr %weights, null
  br i1 %elsewhere, label %missing, label %there

missing:                    ; they are in a file, which the program has to give
  ret i32 WEIGHTS_MISSING

there:
  %status = call i32 @mace_library_create_with(ptr %model, ptr %weights, ptr %memory, SIZE %bytes, i32 %threads,
                                               ptr %answer)
  ret i32 %status
}

define hidden i32 @mace_library_create_with(ptr %model, ptr %weights, ptr %memory, SIZE %bytes, i32 %threads,
                                            ptr %answer) {
entry:
  store ptr null, ptr %answer
  %total.at = getelementptr MODEL, ptr %model, i32 0, i32 INSTANCE_BYTES
  %total = load SIZE, ptr %total.at
  %arena.at = getelementptr MODEL, ptr %model, i32 0, i32 WORKSPACE_BYTES
  %arena = load SIZE, ptr %arena.at
  %whole = add SIZE %total, %arena
  %slot = alloca ptr
  store ptr null, ptr %slot
  %none = icmp eq ptr %memory, null
  br i1 %none, label %allocate, label %given

allocate:
  %failed = call i32 @posix_memalign(ptr %slot, SIZE 64, SIZE %whole)
  %is.bad = icmp ne i32 %failed, 0
  br i1 %is.bad, label %short, label %allocated

allocated:
  %block = load ptr, ptr %slot
  %is.large = icmp uge SIZE %arena, LARGE_BYTES
  br i1 %is.large, label %large, label %made

large:                      ; a walk through megabytes spends much of its time on looking up pages of 4 KiB
  %begin = ptrtoint ptr %block to SIZE
  %past = add SIZE %begin, 4095
  %page = and SIZE %past, -4096
  %page.at = inttoptr SIZE %page to ptr
  %lead = sub SIZE %page, %begin
  %rest = sub SIZE %whole, %lead
  %advised = call i32 @madvise(ptr %page.at, SIZE %rest, i32 HUGE_PAGES)   ; where there are none, nothing changes
  br label %made

given:
  %fits = icmp uge SIZE %bytes, %total
  br i1 %fits, label %align, label %short

align:
  %start = ptrtoint ptr %memory to SIZE
  %raised = add SIZE %start, 63
  %rounded = and SIZE %raised, -64
  %aligned = inttoptr SIZE %rounded to ptr
  br label %made

short:
  ret i32 3

made:
  %instance = phi ptr [ %block, %allocated ], [ %block, %large ], [ %aligned, %align ]
  %owned = phi ptr [ %block, %allocated ], [ %block, %large ], [ null, %align ]
  %room = phi SIZE [ %whole, %allocated ], [ %whole, %large ], [ %bytes, %align ]
  %state = sub SIZE %total, 64   ; the rest is for memory of any alignment
  %cleared = call ptr @memset(ptr %instance, i32 0, SIZE %state)
INSTANCE_WORDS
  store ptr %model, ptr %model.at
  store ptr %owned, ptr %allocated.at
  %own.at = getelementptr MODEL, ptr %model, i32 0, i32 OWN_FIELD
  %own = load ptr, ptr %own.at
  %tables = load ptr, ptr %own
  store ptr %tables, ptr %tables.at
  store ptr %weights, ptr %weights.at
  %has.workspace = icmp uge SIZE %room, %whole
  br i1 %has.workspace, label %workspace, label %laid

workspace:
  %workspace.address = getelementptr i8, ptr %instance, SIZE %state
  store ptr %workspace.address, ptr %workspace.at
  %workspace.wide = zext SIZE %arena to i64
  store i64 %workspace.wide, ptr %workspace_bytes.at
  br label %laid

laid:
  %ignored = call i32 @kernel(ptr @LAY_OUT, ptr %instance)
  %kernels.field = getelementptr OWN, ptr %own, i32 0, i32 2
  %kernels = load ptr, ptr %kernels.field
  %region = load ptr, ptr %kernels.at
  %count.at = getelementptr i64, ptr %tables, i64 MODEL_KERNELS
  %count = load i64, ptr %count.at
  br label %each

each:
  %i = phi i64 [ 0, %laid ], [ %i.next, %one ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %choose

one:
  %kernel.at = getelementptr ptr, ptr %kernels, i64 %i
  %kernel = load ptr, ptr %kernel.at
  %kernel.word = ptrtoint ptr %kernel to i64
  %place = getelementptr i64, ptr %region, i64 %i
  store i64 %kernel.word, ptr %place
  %i.next = add i64 %i, 1
  br label %each

choose:
  %chosen = call i32 @kernel(ptr @CHOOSE_PLAN, ptr %instance)
  %is.chosen = icmp eq i32 %chosen, 0
  br i1 %is.chosen, label %control, label %undo

control:
  %slice.at = getelementptr i64, ptr %control.at, i64 SLICE_NS
  store i64 4611686018427387904, ptr %slice.at   ; nobody has to look at signals
  %flag.at = getelementptr i64, ptr %control.at, i64 CANCEL
  store ptr %cancel.at, ptr %flag.at
  store i64 1, ptr %threads.at
  %started = call i32 @mace_library_set_threads(ptr %instance, i32 %threads)
  %is.started = icmp eq i32 %started, 0
  br i1 %is.started, label %done, label %undo

undo:
  %status = phi i32 [ %chosen, %choose ], [ %started, %control ]
  call void @mace_library_destroy(ptr %instance)
  ret i32 %status

done:
  store ptr %instance, ptr %answer
  ret i32 0
}

define hidden i32 @mace_library_set_shapes(ptr %instance, ptr %shapes) {
entry:
INSTANCE_WORDS
  %none = icmp eq ptr %shapes, null
  br i1 %none, label %missing, label %claim

missing:
  call void @note(ptr %instance, i64 NO_SHAPES, i64 0)
  ret i32 1

claim:
  %claimed = cmpxchg ptr %busy.at, i64 0, i64 1 acq_rel monotonic, align 8
  %free = extractvalue { i64, i1 } %claimed, 1
  br i1 %free, label %go, label %busy

busy:
  ret i32 7

go:
  call void @note(ptr %instance, i64 0, i64 0)
  %tables = load ptr, ptr %tables.at
  %wanted = load ptr, ptr %wanted.at
  %present = load ptr, ptr %shapes.at
  %inputs.at = getelementptr i64, ptr %tables, i64 MODEL_INPUTS
  %inputs = load i64, ptr %inputs.at
  %starts.at = getelementptr i64, ptr %tables, i64 MODEL_STARTS
  %starts.place = load i64, ptr %starts.at
  %starts = getelementptr i64, ptr %tables, i64 %starts.place
  br label %each

each:
  %i = phi i64 [ 0, %go ], [ %i.next, %next ]
  %more = icmp ult i64 %i, %inputs
  br i1 %more, label %one, label %choose

one:
  %shape.at = getelementptr ptr, ptr %shapes, i64 %i
  %shape = load ptr, ptr %shape.at
  %start.at = getelementptr i64, ptr %starts, i64 %i
  %start = load i64, ptr %start.at
  %end.at = getelementptr i64, ptr %start.at, i64 1
  %end = load i64, ptr %end.at
  %kept = icmp eq ptr %shape, null
  %old = getelementptr i64, ptr %present, i64 %start
  %from = select i1 %kept, ptr %old, ptr %shape
  br label %axis

axis:
  %d = phi i64 [ %start, %one ], [ %d.next, %copy ]
  %left = icmp ult i64 %d, %end
  br i1 %left, label %copy, label %next

copy:
  %offset = sub i64 %d, %start
  %size.at = getelementptr i64, ptr %from, i64 %offset
  %size = load i64, ptr %size.at
  %target = getelementptr i64, ptr %wanted, i64 %d
  store i64 %size, ptr %target
  %d.next = add i64 %d, 1
  br label %axis

next:
  %i.next = add i64 %i, 1
  br label %each

choose:
  %status = call i32 @kernel(ptr @CHOOSE_PLAN, ptr %instance)
  store atomic i64 0, ptr %busy.at release, align 8
  ret i32 %status
}

define hidden ptr @mace_library_shape(ptr %instance, i32 %is_output, i32 %index) {
INSTANCE_WORDS
  %tables = load ptr, ptr %tables.at
  %inputs.at = getelementptr i64, ptr %tables, i64 MODEL_INPUTS
  %inputs = load i64, ptr %inputs.at
  %outputs.at = getelementptr i64, ptr %tables, i64 MODEL_OUTPUTS
  %outputs = load i64, ptr %outputs.at
  %starts.at = getelementptr i64, ptr %tables, i64 MODEL_STARTS
  %starts = load i64, ptr %starts.at
  %second = icmp ne i32 %is_output, 0
  %count = select i1 %second, i64 %outputs, i64 %inputs
  %number = zext i32 %index to i64
  %there = icmp ult i64 %number, %count
  br i1 %there, label %found, label %absent

absent:
  ret ptr null

found:
  %before = select i1 %second, i64 %inputs, i64 0
  %tensor = add i64 %before, %number
  %place = add i64 %starts, %tensor
  %start.at = getelementptr i64, ptr %tables, i64 %place
  %start = load i64, ptr %start.at
  %shapes = load ptr, ptr %shapes.at
  %answer = getelementptr i64, ptr %shapes, i64 %start
  ret ptr %answer
}

define internal void @take_addresses(ptr %target, ptr %source, i64 %count) {
entry:
  br label %each
each:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %end
one:
  %from = getelementptr ptr, ptr %source, i64 %i
  %address = load ptr, ptr %from
  %word = ptrtoint ptr %address to i64
  %to = getelementptr i64, ptr %target, i64 %i
  store i64 %word, ptr %to
  %i.next = add i64 %i, 1
  br label %each
end:
  ret void
}

define hidden i32 @mace_library_run(ptr %instance, ptr %inputs, ptr %outputs, ptr %workspace, SIZE %bytes) {
entry:
INSTANCE_WORDS
  %claimed = cmpxchg ptr %busy.at, i64 0, i64 1 acq_rel monotonic, align 8
  %free = extractvalue { i64, i1 } %claimed, 1
  br i1 %free, label %claim, label %busy

busy:                       ; what the other thread is told is in its words
  ret i32 7

claim:
  call void @note(ptr %instance, i64 0, i64 0)
  store atomic i32 0, ptr %cancel.at release, align 4
  %tables = load ptr, ptr %tables.at
  %inputs.at = getelementptr i64, ptr %tables, i64 MODEL_INPUTS
  %input.count = load i64, ptr %inputs.at
  %outputs.at = getelementptr i64, ptr %tables, i64 MODEL_OUTPUTS
  %output.count = load i64, ptr %outputs.at
  %no.inputs = icmp eq ptr %inputs, null
  %some.inputs = icmp ne i64 %input.count, 0
  %bad.inputs = and i1 %no.inputs, %some.inputs
  %no.outputs = icmp eq ptr %outputs, null
  %some.outputs = icmp ne i64 %output.count, 0
  %bad.outputs = and i1 %no.outputs, %some.outputs
  %bad = or i1 %bad.inputs, %bad.outputs
  br i1 %bad, label %no.arrays, label %take

no.arrays:
  call void @note(ptr %instance, i64 NO_ARRAYS, i64 0)
  br label %end

take:
  %addresses = load ptr, ptr %addresses.at
  call void @take_addresses(ptr %addresses, ptr %inputs, i64 %input.count)
  %addresses.out = getelementptr i64, ptr %addresses, i64 %input.count
  call void @take_addresses(ptr %addresses.out, ptr %outputs, i64 %output.count)
  %workspace.word = ptrtoint ptr %workspace to i64
  %workspace.size = ptrtoint ptr %workspace to SIZE
  %most.bytes = sub SIZE -1, %workspace.size   ; what is said to go on behind the last address does not
  %is.endless = icmp ugt SIZE %bytes, %most.bytes
  %some.bytes = select i1 %is.endless, SIZE %most.bytes, SIZE %bytes
  %bytes.word = zext SIZE %some.bytes to i64
  store i64 %workspace.word, ptr %given.at
  store i64 %bytes.word, ptr %given_bytes.at
  call void @BIND_RUN(ptr %instance, i64 0, i64 1, i64 0)
  %bound = load i64, ptr %result.at
  %is.bound = icmp eq i64 %bound, 0
  br i1 %is.bound, label %prepare, label %refused

refused:
  %refusal = trunc i64 %bound to i32
  br label %end

prepare:
  %threads = load i64, ptr %threads.at
  %c.threads = getelementptr i64, ptr %control.at, i64 THREADS
  store i64 %threads, ptr %c.threads
  %many = icmp ugt i64 %threads, 1
  %pool.address = ptrtoint ptr %pool.at to i64
  %pool.word = select i1 %many, i64 %pool.address, i64 0
  %c.pool = getelementptr i64, ptr %control.at, i64 POOL
  store i64 %pool.word, ptr %c.pool
  %c.stopped = getelementptr i64, ptr %control.at, i64 STOPPED
  store i64 0, ptr %c.stopped
  %hook = load ptr, ptr %hook.at
  %unheard = icmp eq ptr %hook, null
  %profile = load ptr, ptr %profile.at
  %step.count = load i64, ptr %step_count.at
  %profile.address = ptrtoint ptr %profile to i64
  %profile.word = select i1 %unheard, i64 0, i64 %profile.address
  %c.profile = getelementptr i64, ptr %control.at, i64 PROFILE
  store i64 %profile.word, ptr %c.profile
  br i1 %unheard, label %walk, label %clear

clear:
  %profile.words = mul i64 %step.count, 16
  %profile.bytes = TRUNC_SIZE %profile.words
  %cleared = call ptr @memset(ptr %profile, i32 0, SIZE %profile.bytes)
  br label %walk

walk:
  %step = call i64 @mace_run_plan(ptr %control.at, i64 0)
  %ran = icmp eq i64 %step, %step.count
  br i1 %ran, label %finish, label %cancelled

cancelled:                  ; what it found wrong until then is no fault of a later run
  %swept = call i32 @kernel(ptr @FINISH_RUN, ptr %instance)
  call void @note(ptr %instance, i64 CANCELLED, i64 0)
  br label %end

finish:
  %finished = call i32 @kernel(ptr @FINISH_RUN, ptr %instance)
  %is.good = icmp eq i32 %finished, 0
  %is.heard = xor i1 %unheard, true
  %tell = and i1 %is.good, %is.heard
  br i1 %tell, label %tell.all, label %end

tell.all:
  %user = load ptr, ptr %user.at
  %own.model = load ptr, ptr %model.at
  %own.at = getelementptr MODEL, ptr %own.model, i32 0, i32 OWN_FIELD
  %own = load ptr, ptr %own.at
  %steps.field = getelementptr OWN, ptr %own, i32 0, i32 4
  %step.infos = load ptr, ptr %steps.field
  %first.step = load i64, ptr %step_names.at
  br label %each

each:
  %i = phi i64 [ 0, %tell.all ], [ %i.next, %next ]
  %more = icmp ult i64 %i, %step.count
  br i1 %more, label %one, label %end

one:
  %pair = mul i64 %i, 2
  %begin.at = getelementptr i64, ptr %profile, i64 %pair
  %end.at = getelementptr i64, ptr %begin.at, i64 1
  %begin.ns = load i64, ptr %begin.at
  %end.ns = load i64, ptr %end.at
  %has.run = icmp ne i64 %end.ns, 0
  br i1 %has.run, label %tell.one, label %next

tell.one:
  %number = add i64 %first.step, %i
  %info = getelementptr { ptr, ptr }, ptr %step.infos, i64 %number
  call void %hook(ptr %user, ptr %info, i64 %begin.ns, i64 %end.ns)
  br label %next

next:
  %i.next = add i64 %i, 1
  br label %each

end:
  %answer = phi i32 [ 1, %no.arrays ], [ %refusal, %refused ], [ 6, %cancelled ], [ %finished, %finish ], [ 0, %each ]
  store atomic i64 0, ptr %busy.at release, align 8
  ret i32 %answer
}

define hidden SIZE @mace_library_needed_workspace(ptr %instance) {
INSTANCE_WORDS
  %needed.word = load i64, ptr %needed.at
  %more = add i64 %needed.word, 64
  %answer = TRUNC_SIZE %more
  ret SIZE %answer
}

define hidden void @mace_library_cancel(ptr %instance) {
INSTANCE_WORDS
  store atomic i32 1, ptr %cancel.at release, align 4
  ret void
}

define hidden void @mace_library_set_profile(ptr %instance, ptr %new, ptr %for) {
INSTANCE_WORDS
  store ptr %new, ptr %hook.at
  store ptr %for, ptr %user.at
  ret void
}

define hidden ptr @mace_library_error(ptr %instance) {
INSTANCE_WORDS
  %number = load i64, ptr %error.at
  %value = load i64, ptr %error_value.at
  %own.model = load ptr, ptr %model.at
  %own.at = getelementptr MODEL, ptr %own.model, i32 0, i32 OWN_FIELD
  %own = load ptr, ptr %own.at
  %messages.field = getelementptr OWN, ptr %own, i32 0, i32 3
  %messages = load ptr, ptr %messages.field
  %format.at = getelementptr ptr, ptr %messages, i64 %number
  %format = load ptr, ptr %format.at
  %written = call i32 (ptr, SIZE, ptr, ...) @snprintf(ptr %text.at, SIZE TEXT_BYTES, ptr %format, i64 %value)
  ret ptr %text.at
}
"""

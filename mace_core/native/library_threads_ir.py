"""The functions of a library that start and end threads, as LLVM IR, see `mace_core.native.library_ir`.

In both texts, words in capitals stand for numbers and types that depend on the target.
"""

from __future__ import annotations

SERIAL = """
define hidden i32 @mace_library_set_threads(ptr %instance, i32 %count) {
INSTANCE_WORDS
  %running = load atomic i64, ptr %busy.at acquire, align 8
  %free = icmp eq i64 %running, 0
  br i1 %free, label %claim, label %busy
busy:
  ret i32 7
claim:
  call void @note(ptr %instance, i64 0, i64 0)
  %bad = icmp slt i32 %count, 0
  br i1 %bad, label %refuse, label %accept
refuse:
  %wide = sext i32 %count to i64
  call void @note(ptr %instance, i64 BAD_THREADS, i64 %wide)
  ret i32 1
accept:                     ; it was built for one thread
  store i64 1, ptr %threads.at
  ret i32 0
}

define hidden void @mace_library_destroy(ptr %instance) {
INSTANCE_WORDS
  %block = load ptr, ptr %allocated.at
  call void @free(ptr %block)
  ret void
}
"""

THREADED = """
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(PTHREAD, ptr)
declare i32 @getpid()

define internal ptr @worker(ptr %row) {
  %pool.at = getelementptr i64, ptr %row, i64 1
  %pool = load ptr, ptr %pool.at
  %index.at = getelementptr i64, ptr %row, i64 2
  %index = load i64, ptr %index.at
  %ended = call i64 @mace_pool_worker(ptr %pool, i64 %index, i64 0)
  ret ptr null
}

define internal i64 @processors() {
entry:
  %bits = alloca [16 x i64]
  %cleared = call ptr @memset(ptr %bits, i32 0, SIZE 128)
  %status = call LONG (LONG, ...) @syscall(LONG AFFINITY, LONG 0, LONG 128, ptr %bits)
  br label %each
each:
  %i = phi i64 [ 0, %entry ], [ %i.next, %each ]
  %sum = phi i64 [ 0, %entry ], [ %sum.next, %each ]
  %word.at = getelementptr i64, ptr %bits, i64 %i
  %word = load i64, ptr %word.at
  %ones = call i64 @llvm.ctpop.i64(i64 %word)
  %sum.next = add i64 %sum, %ones
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, 16
  br i1 %more, label %each, label %end
end:
  %some = call i64 @llvm.umax.i64(i64 %sum.next, i64 1)
  ret i64 %some
}

declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)

define hidden i32 @mace_library_set_threads(ptr %instance, i32 %count) {
entry:
INSTANCE_WORDS
  %claimed = cmpxchg ptr %busy.at, i64 0, i64 1 acq_rel monotonic, align 8
  %free = extractvalue { i64, i1 } %claimed, 1
  br i1 %free, label %claim, label %busy

busy:                       ; a run counts on the threads that it has
  ret i32 7

claim:
  call void @note(ptr %instance, i64 0, i64 0)
  %asked = sext i32 %count to i64
  %bad = icmp slt i32 %count, 0
  br i1 %bad, label %refuse, label %accept

refuse:
  call void @note(ptr %instance, i64 BAD_THREADS, i64 %asked)
  br label %end

accept:
  %process.now = call i32 @getpid()
  %process.word = zext i32 %process.now to i64
  %process.before = load i64, ptr %process.at
  %is.here = icmp eq i64 %process.word, %process.before
  br i1 %is.here, label %choose, label %begin

begin:                      ; there are no threads: none were started, or those of the parent of a fork
  store i64 %process.word, ptr %process.at
  store i64 0, ptr %workers.at
  %cleared = call ptr @memset(ptr %pool.at, i32 0, SIZE WORDS_OF_POOL)
  %idle.at = getelementptr i64, ptr %pool.at, i64 IDLE_WORD
  store i64 IDLE_NS, ptr %idle.at
  %active.at = getelementptr i64, ptr %pool.at, i64 ACTIVE_WORD
  store i64 ACTIVE_NS, ptr %active.at
  br label %choose

choose:
  %all = icmp eq i32 %count, 0
  br i1 %all, label %count.them, label %known

count.them:
  %there = call i64 @processors()
  br label %known

known:
  %wished = phi i64 [ %asked, %choose ], [ %there, %count.them ]
  %tables = load ptr, ptr %tables.at
  %most.at = getelementptr i64, ptr %tables, i64 MODEL_MOST_THREADS
  %most = load i64, ptr %most.at
  %wanted = call i64 @llvm.umin.i64(i64 %wished, i64 %most)
  br label %each

each:
  %have = load i64, ptr %workers.at
  %next.count = add i64 %have, 2
  %enough = icmp ugt i64 %next.count, %wanted
  br i1 %enough, label %done, label %start

start:
  %row.offset = mul i64 %have, 3
  %row = getelementptr i64, ptr %thread_rows.at, i64 %row.offset
  %row.pool = getelementptr i64, ptr %row, i64 1
  store ptr %pool.at, ptr %row.pool
  %row.index = getelementptr i64, ptr %row, i64 2
  store i64 %have, ptr %row.index
  %failed = call i32 @pthread_create(ptr %row, ptr null, ptr @worker, ptr %row)
  %is.bad = icmp ne i32 %failed, 0
  br i1 %is.bad, label %short, label %started

started:
  %now.have = add i64 %have, 1
  store i64 %now.have, ptr %workers.at
  br label %each

short:
  %running = add i64 %have, 1
  call void @note(ptr %instance, i64 STARTED, i64 %running)
  br label %end

done:
  store i64 %wanted, ptr %threads.at
  br label %end

end:
  %answer = phi i32 [ 1, %refuse ], [ 5, %short ], [ 0, %done ]
  store atomic i64 0, ptr %busy.at release, align 8
  ret i32 %answer
}

define hidden void @mace_library_destroy(ptr %instance) {
entry:
INSTANCE_WORDS
  %have = load i64, ptr %workers.at
  %process.now = call i32 @getpid()
  %process.word = zext i32 %process.now to i64
  %process.before = load i64, ptr %process.at
  %is.forked = icmp ne i64 %process.word, %process.before
  %no.workers = icmp eq i64 %have, 0
  %none = or i1 %no.workers, %is.forked   ; the child of a fork has no threads to end
  br i1 %none, label %release, label %stop

stop:
  call void @mace_pool_stop(ptr %pool.at)
  br label %each

each:
  %i = phi i64 [ 0, %stop ], [ %i.next, %each ]
  %row.offset = mul i64 %i, 3
  %row = getelementptr i64, ptr %thread_rows.at, i64 %row.offset
  %thread = load PTHREAD, ptr %row
  %joined = call i32 @pthread_join(PTHREAD %thread, ptr null)
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %have
  br i1 %more, label %each, label %release

release:
  %block = load ptr, ptr %allocated.at
  call void @free(ptr %block)
  ret void
}
"""

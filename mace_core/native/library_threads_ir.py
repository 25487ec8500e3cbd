"""The functions of a library that start and end threads, as LLVM IR, see `mace_core.native.library_ir`.

In both texts, words in capitals stand for numbers and types that depend on the target.
"""

from __future__ import annotations

SERIAL = """
define hidden i32 @mace_library_set_threads(ptr %instance, i32 %count) {
INSTANCE_WORDS
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
  call void @note(ptr %instance, i64 0, i64 0)
  %asked = sext i32 %count to i64
  %bad = icmp slt i32 %count, 0
  br i1 %bad, label %refuse, label %accept

refuse:
  call void @note(ptr %instance, i64 BAD_THREADS, i64 %asked)
  ret i32 1

accept:
  %all = icmp eq i32 %count, 0
  br i1 %all, label %count.them, label %known

count.them:
  %there = call i64 @processors()
  br label %known

known:
  %wished = phi i64 [ %asked, %accept ], [ %there, %count.them ]
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
  ret i32 5

done:
  store i64 %wanted, ptr %threads.at
  ret i32 0
}

define hidden void @mace_library_destroy(ptr %instance) {
entry:
INSTANCE_WORDS
  %have = load i64, ptr %workers.at
  %none = icmp eq i64 %have, 0
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

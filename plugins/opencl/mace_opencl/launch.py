"""Queues a whole list of kernels in one native call; where llvmlite is absent, a Python loop does the same."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mace_core.native.target import Target

_log = logging.getLogger("mace.opencl")

RECORD_WORDS = 8
"""kernel, dimensions, global size (3), local size (3)."""

CANCELLED = 1
"""What the walk leaves in its status where the cancel flag was set; OpenCL's own codes are 0 or negative."""

# args: [enqueue, flush, queue, records, count, cancel flag, events, all events wanted, wait count, wait list,
#        status (out), position (out)].  The last launch always gets an event, in the last element of `events`.
_WALK = """
define void @SYMBOL(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
entry:
LOADS
  %enqueue = inttoptr i64 %a0 to ptr
  %flush = inttoptr i64 %a1 to ptr
  %queue = inttoptr i64 %a2 to ptr
  %records = inttoptr i64 %a3 to ptr
  %cancel = inttoptr i64 %a5 to ptr
  %events = inttoptr i64 %a6 to ptr
  %all = icmp ne i64 %a7, 0
  %wait.count = trunc i64 %a8 to i32
  %wait.list = inttoptr i64 %a9 to ptr
  %final = sub i64 %a4, 1
  %status.at = getelementptr i64, ptr %args, i64 10
  %position.at = getelementptr i64, ptr %args, i64 11
  br label %walk

walk:
  %step = phi i64 [ 0, %entry ], [ %step.next, %queued ]
  %more = icmp ult i64 %step, %a4
  br i1 %more, label %poll, label %finish

poll:
  %flag = load atomic i32, ptr %cancel acquire, align 4
  %cancelled = icmp ne i32 %flag, 0
  br i1 %cancelled, label %leave, label %queue.it

queue.it:
  %first = mul i64 %step, 8
  %record = getelementptr i64, ptr %records, i64 %first
  %dims.at = getelementptr i64, ptr %record, i64 1
  %global = getelementptr i64, ptr %record, i64 2
  %local = getelementptr i64, ptr %record, i64 5
  %kernel = load ptr, ptr %record
  %dims.wide = load i64, ptr %dims.at
  %dims = trunc i64 %dims.wide to i32
  %is.first = icmp eq i64 %step, 0
  %waits = select i1 %is.first, i32 %wait.count, i32 0
  %any.waits = icmp ne i32 %waits, 0
  %list = select i1 %any.waits, ptr %wait.list, ptr null
  %is.last = icmp eq i64 %step, %final
  %event.wanted = or i1 %is.last, %all
  %event.at = getelementptr i64, ptr %events, i64 %step
  %event = select i1 %event.wanted, ptr %event.at, ptr null
  %status = call i32 %enqueue(ptr %queue, ptr %kernel, i32 %dims, ptr null, ptr %global, ptr %local,
                              i32 %waits, ptr %list, ptr %event)
  %failed = icmp ne i32 %status, 0
  br i1 %failed, label %leave, label %queued

queued:
  %step.next = add i64 %step, 1
  br label %walk

finish:
  %flushed = call i32 %flush(ptr %queue)
  br label %leave

leave:
  %answer = phi i32 [ 1, %poll ], [ %status, %queue.it ], [ %flushed, %finish ]
  %answer.wide = sext i32 %answer to i64
  store i64 %answer.wide, ptr %status.at
  store i64 %step, ptr %position.at
  ret void
}
"""

WALK_WORDS = 12

Words = npt.NDArray[np.int64]
Walk = Callable[[Words], None]


def _walk_ir(target: Target) -> str:
    loads = "\n".join(
        f"  %p{i} = getelementptr i64, ptr %args, i64 {i}\n  %a{i} = load i64, ptr %p{i}" for i in range(10)
    )
    return f'target triple = "{target.triple}"\n' + _WALK.replace("SYMBOL", _SYMBOL).replace("LOADS", loads)


_SYMBOL = "mace_opencl_walk"


@functools.cache
def walker() -> tuple[Walk, str]:
    """What queues a list of launches, given its words, and how it does that ("native" or "python")."""
    if importlib.util.find_spec("llvmlite") is None:
        _log.info(
            "mace-opencl: kernels are queued one by one from Python, which is slower: llvmlite is not installed "
            "(pip install llvmlite)"
        )
        return walk_in_python, "python"
    from mace_core.native.kernel import load_kernels
    from mace_core.native.source import KernelSource

    version = hashlib.sha256(_WALK.encode()).hexdigest()[:16]
    address = load_kernels([KernelSource(_SYMBOL, version, _walk_ir)])[_SYMBOL]
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)

    def walk(words: Words) -> None:
        function(words.ctypes.data, 0, 0, 0)

    return walk, "native"


_ENQUEUE = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
_FLUSH = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)


def walk_in_python(words: Words) -> None:
    """The same as the native walk, launch by launch."""
    enqueue_at, flush_at, queue, records, count, cancel, events, everything, waits, wait_list = map(int, words[:10])
    enqueue, flush = _ENQUEUE(enqueue_at), _FLUSH(flush_at)
    flag = ctypes.c_int32.from_address(cancel)
    table = (ctypes.c_int64 * (count * RECORD_WORDS)).from_address(records)
    for step in range(count):
        if flag.value:
            words[10:12] = CANCELLED, step
            return
        first = RECORD_WORDS * step
        at = records + 8 * first
        wanted = everything or step == count - 1
        waiting = waits if step == 0 else 0
        status = enqueue(
            queue,
            table[first],
            table[first + 1],
            None,
            at + 16,
            at + 40,
            waiting,
            wait_list if waiting else None,
            events + 8 * step if wanted else None,
        )
        if status:
            words[10:12] = status, step
            return
    words[10:12] = flush(queue), count

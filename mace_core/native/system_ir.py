"""What the generated runner needs of the operating system, as LLVM IR: a clock, pausing, sleeping and waking."""

from __future__ import annotations

import hashlib
import time
from enum import IntEnum
from pathlib import Path

from mace_core.native.target import Target

_FUTEX_SYSCALL = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "arm": 240}
_CLOCK_GETTIME_ARM = 263
_YIELD_ARM = 158
_FUTEX_WAIT_BITSET_PRIVATE = 9 | 128
_FUTEX_WAKE_BITSET_PRIVATE = 10 | 128


def has_futex(target: Target) -> bool:
    """Whether a worker can sleep inside native code; where not, it goes back to Python to sleep."""
    return "linux" in target.triple and target.architecture in _FUTEX_SYSCALL


def _is_windows(target: Target) -> bool:
    return "windows" in target.triple


def system_ir(target: Target) -> str:
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
    if target.pointer_bits == 32:
        text += (
            _LINUX_32.replace("CLOCK_CALL", str(_CLOCK_GETTIME_ARM))
            .replace("YIELD_CALL", str(_YIELD_ARM))
            .replace("CLOCK", str(_LINUX_MONOTONIC))
        )
    elif _is_windows(target):
        text += _WINDOWS
    else:
        clock = _LINUX_MONOTONIC if "linux" in target.triple else _monotonic_clock()
        text += _POSIX.replace("CLOCK", str(clock))
    if has_futex(target):
        number = _FUTEX_SYSCALL[target.architecture]
        futex = _FUTEX if target.pointer_bits == 64 else _FUTEX_32
        text += (
            futex.replace("NUMBER", str(number))
            .replace("WAIT", str(_FUTEX_WAIT_BITSET_PRIVATE))
            .replace("WAKE", str(_FUTEX_WAKE_BITSET_PRIVATE))
        )
    else:
        text += "define internal void @wake(ptr %word, i64 %workers) alwaysinline {\n  ret void\n}\n"
    return text


_LINUX_MONOTONIC = 1


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

# C libraries of 32-bit systems disagree on how wide their seconds are: the kernel's own call has one answer.  Seconds
# since the start fit into 31 bits.
_LINUX_32 = """
declare i32 @syscall(i32, ...)

define internal i64 @now() {
  %time = alloca [2 x i32]
  %status = call i32 (i32, ...) @syscall(i32 CLOCK_CALL, i32 CLOCK, ptr %time)
  %seconds.low = load i32, ptr %time
  %rest = getelementptr i32, ptr %time, i32 1
  %rest.low = load i32, ptr %rest
  %seconds = zext i32 %seconds.low to i64
  %nanoseconds = zext i32 %rest.low to i64
  %scaled = mul i64 %seconds, 1000000000
  %total = add i64 %scaled, %nanoseconds
  ret i64 %total
}

define internal void @yield() {
  %status = call i32 (i32, ...) @syscall(i32 YIELD_CALL)
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

_FUTEX_32 = _FUTEX.replace("declare i64 @syscall(i64, ...)\n", "").replace(
    "call i64 (i64, ...) @syscall(i64 NUMBER", "call i32 (i32, ...) @syscall(i32 NUMBER"
)


def system_imports(target: Target) -> frozenset[str]:
    """The C library's functions that `system_ir` calls."""
    if _is_windows(target):
        return frozenset(("QueryPerformanceCounter", "QueryPerformanceFrequency", "SwitchToThread"))
    if target.pointer_bits == 32:
        return frozenset(("syscall",))
    return frozenset(("clock_gettime", "sched_yield", "syscall"))


# What threading.get_ident answers.
_THREAD_POSIX = """
declare i64 @pthread_self()
define internal i64 @thread() {
  %self = call i64 @pthread_self()
  ret i64 %self
}
"""
_THREAD_POSIX_32 = """
declare i32 @pthread_self()
define internal i64 @thread() {
  %self = call i32 @pthread_self()
  %wide = zext i32 %self to i64
  ret i64 %wide
}
"""
_THREAD_WINDOWS = """
declare i32 @GetCurrentThreadId()
define internal i64 @thread() {
  %self = call i32 @GetCurrentThreadId()
  %wide = zext i32 %self to i64
  ret i64 %wide
}
"""


def thread_ir(target: Target) -> str:
    """@thread: which thread this is, as ``threading.get_ident`` names it."""
    if target.pointer_bits == 32:
        return _THREAD_POSIX_32
    return _THREAD_WINDOWS if _is_windows(target) else _THREAD_POSIX


def thread_imports(target: Target) -> frozenset[str]:
    """The C library's functions that `thread_ir` calls."""
    return frozenset(("GetCurrentThreadId" if _is_windows(target) else "pthread_self",))


def source_version(*files: str) -> str:
    """A hash of the files that generate code."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:32]


def word_addresses(words: type[IntEnum], base: str) -> str:
    """IR that computes the addresses of the named words as ``%name.at``."""
    return "\n".join(
        f"  %{word.name.lower()}.at = getelementptr i64, ptr {base}, i64 {word.value}"
        for word in words
        if word.name != "SIZE"
    )

"""The functions of a library that C calls, as LLVM IR: those that ``mace_runtime.h`` reaches through a model.

They take and return pointers and integers alone: the conventions for floats differ between systems of 32-bit ARM.
"""

from __future__ import annotations

from typing import NamedTuple

from mace_core.native.library_functions_ir import COMMON
from mace_core.native.library_threads_ir import SERIAL, THREADED
from mace_core.native.library_words import TEXT_BYTES, InstanceWord, Message, ModelWord
from mace_core.native.poll_ir import Control
from mace_core.native.pool import ACTIVE_SPIN_NS, IDLE_SPIN_NS
from mace_core.native.pool_ir import PoolWord, threads_ir
from mace_core.native.runner_ir import runner_ir
from mace_core.native.system_ir import word_addresses
from mace_core.native.target import Target

MAJOR, MINOR = 1, 1
"""Of ``mace_runtime.h``."""

_AFFINITY_SYSCALL = {"x86_64": 204, "aarch64": 123, "riscv64": 123, "arm": 242}

MODEL_TYPE = (
    "{ i32, i32, ptr, ptr, ptr, i32, i32, ptr, ptr, i32, i32, SIZE, SIZE, ptr"
    + ", ptr" * 10
    + ", SIZE, ptr, ptr, i32, i32, ptr }"
)
"""``struct mace_model``."""

_WEIGHTS_MISSING = 9
"""``MACE_ERROR_WEIGHTS``."""

_LARGE_BYTES, _HUGE_PAGES = 4 << 20, 14
"""From how many bytes of workspace on large pages are asked for, as numpy does, and Linux's number for that."""

_FIELDS = {"instance_bytes": 11, "workspace_bytes": 12, "own": 13}

OWN_TYPE = "{ ptr, ptr, ptr, ptr, ptr }"
"""What only the library reads: tables, weights (null: in a file), addresses of kernels, messages, steps."""

FUNCTIONS = (
    "create",
    "destroy",
    "set_shapes",
    "shape",
    "run",
    "needed_workspace",
    "set_threads",
    "cancel",
    "error",
    "set_profile",
)
"""In the order of ``struct mace_model``; in a library their names begin with ``mace_library_``."""

CREATE_WITH = "create_with"
"""The function that came with version 1.1, at the end of the structure."""


class LibraryKernels(NamedTuple):
    """Symbols of the kernels of `mace_core.native.library_kernels`."""

    lay_out: str
    choose_plan: str
    bind_run: str
    finish_run: str


def runtime_ir(target: Target, kernels: LibraryKernels, *, has_threads: bool) -> str:
    """The functions that all models of a library share, ``mace_library_create`` and so on: a module of its own.

    ``has_threads``: whether any model is to run on more than one; else nothing of a library of threads is called.
    """
    runner = runner_ir(target).replace("define i64 @mace_run_plan", "define internal i64 @mace_run_plan")
    text = COMMON + (THREADED if has_threads else SERIAL)
    if has_threads:
        runner += (
            threads_ir(target)
            .replace("define i64", "define internal i64")
            .replace("define void", "define internal void")
        )
    return runner + _filled(text, target, kernels)


def _filled(text: str, target: Target, kernels: LibraryKernels) -> str:
    words = {
        "INSTANCE_WORDS": word_addresses(InstanceWord, "%instance"),
        "TRUNC_SIZE": "add i64 0," if target.pointer_bits == 64 else "TRUNCATE",
    }
    for name, value in words.items():
        text = text.replace(name, value)
    if target.pointer_bits == 32:
        text = text.replace("TRUNCATE %profile.words", "trunc i64 %profile.words to i32")
        text = text.replace("TRUNCATE %more", "trunc i64 %more to i32")
    else:
        text = text.replace("zext SIZE", "add SIZE 0,").replace("add SIZE 0, %arena to i64", "add i64 0, %arena")
        text = text.replace("add SIZE 0, %some.bytes to i64", "add i64 0, %some.bytes")
    numbers: dict[str, object] = {
        "LAY_OUT": kernels.lay_out,
        "CHOOSE_PLAN": kernels.choose_plan,
        "BIND_RUN": kernels.bind_run,
        "FINISH_RUN": kernels.finish_run,
        "LARGE_BYTES": _LARGE_BYTES,
        "HUGE_PAGES": _HUGE_PAGES,
        "WEIGHTS_MISSING": _WEIGHTS_MISSING,
        "WORD_GIVEN": InstanceWord.GIVEN.value,
        "WORD_RESULT": InstanceWord.RESULT.value,
        "WORD_ERROR_VALUE": InstanceWord.ERROR_VALUE.value,
        "WORD_ERROR": InstanceWord.ERROR.value,
        "INSTANCE_BYTES": _FIELDS["instance_bytes"],
        "WORKSPACE_BYTES": _FIELDS["workspace_bytes"],
        "OWN_FIELD": _FIELDS["own"],
        "MODEL_KERNELS": ModelWord.KERNELS.value,
        "MODEL_INPUTS": ModelWord.INPUTS.value,
        "MODEL_OUTPUTS": ModelWord.OUTPUTS.value,
        "MODEL_STARTS": ModelWord.STARTS.value,
        "MODEL_MOST_THREADS": ModelWord.MOST_THREADS.value,
        "SLICE_NS": Control.SLICE_NS.value,
        "WORDS_OF_POOL": 8 * PoolWord.SIZE.value,
        "IDLE_WORD": PoolWord.IDLE_SPIN_NS.value,
        "ACTIVE_WORD": PoolWord.ACTIVE_SPIN_NS.value,
        "IDLE_NS": IDLE_SPIN_NS,
        "ACTIVE_NS": ACTIVE_SPIN_NS,
        "NO_ARRAYS": Message.NO_ARRAYS.value,
        "NO_SHAPES": Message.NO_SHAPES.value,
        "CANCELLED": Message.CANCELLED.value,
        "STARTED": Message.STARTED.value,
        "BAD_THREADS": Message.THREADS.value,
        "THREADS": Control.THREADS.value,
        "CANCEL": Control.CANCEL.value,
        "STOPPED": Control.STOPPED.value,
        "PROFILE": Control.PROFILE.value,
        "POOL": Control.POOL.value,
        "AFFINITY": _AFFINITY_SYSCALL[target.architecture],
        "TEXT_BYTES": TEXT_BYTES,
        "PTHREAD": "i64" if target.pointer_bits == 64 else "i32",
        "LONG": "i64" if target.pointer_bits == 64 else "i32",
        "MODEL": MODEL_TYPE,
        "OWN": OWN_TYPE,
        "SIZE": f"i{target.pointer_bits}",
    }
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    return text

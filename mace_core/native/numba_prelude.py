"""What kernels written in Python are made of: typed pointers from words, and a decorator for their helpers.

    from mace_core.native.numba_prelude import f32, as_float

    def scale() -> Kernel:
        def kernel(args, begin, end, chunk):
            x = f32(args[0])
            y = f32(args[1])
            factor = as_float(args[2])
            for i in range(begin, end):
                y[i] = x[i] * factor
        return kernel

Importing this module imports numba: kernel modules do, nothing else should.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mace_core.native.poll_ir import Control

KERNEL_DEPENDENCIES = ("mace_core.native.poll_ir",)
"""Modules whose code becomes part of every kernel, so that its version depends on them."""

Kernel = Callable[[Any, Any, Any, Any], None]
"""``(args, begin, end, chunk) -> None``; see `mace_core.native.kernel.KernelSource`."""

HELPER_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "_nrt": False,
}
"""How numba compiles what kernels call: no exceptions, no checks of indices, no Python objects, no allocation."""


def helper(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorator for a function that kernels call; compiled so that it can neither raise on division nor allocate."""
    decorate = numba.njit(**{**HELPER_OPTIONS, **options})
    return decorate if function is None else decorate(function)


def _pointer(dtype: types.Type) -> Any:
    pointer_type = types.CPointer(dtype)

    @intrinsic  # type: ignore[untyped-decorator]
    def to_pointer(typing_context: Any, word: Any) -> Any:
        if not isinstance(word, types.Integer):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return pointer_type(types.int64), generate

    return to_pointer


f32 = _pointer(types.float32)
"""The argument word as a pointer to float32."""
f64 = _pointer(types.float64)
"""The argument word as a pointer to float64."""
i8 = _pointer(types.int8)
"""The argument word as a pointer to int8."""
i16 = _pointer(types.int16)
"""The argument word as a pointer to int16."""
i32 = _pointer(types.int32)
"""The argument word as a pointer to int32."""
i64 = _pointer(types.int64)
"""The argument word as a pointer to int64."""
u8 = _pointer(types.uint8)
"""The argument word as a pointer to uint8."""
u16 = _pointer(types.uint16)
"""The argument word as a pointer to uint16."""
u32 = _pointer(types.uint32)
"""The argument word as a pointer to uint32."""
u64 = _pointer(types.uint64)
"""The argument word as a pointer to uint64."""


@intrinsic  # type: ignore[untyped-decorator]
def as_float(typing_context: Any, word: Any) -> Any:
    """The float64 whose bits are ``word``."""
    if not isinstance(word, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def stop_requested(typing_context: Any, args: Any) -> Any:
    """Whether the run is to stop: the kernel, whose arguments are ``args``, then returns at once, its work undone.

    For kernels whose single unit of work may take long; others are stopped between units.  It takes some 30 ns: ask
    every `POLL_WORK` operations or so.  The plan names the word before the first argument as a control word.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, index = ir.IntType(64), ir.IntType(32)
        control = builder.load(builder.gep(arguments[0], [ir.Constant(index, -1)]))
        block = builder.inttoptr(control, word.as_pointer())
        address = builder.load(builder.gep(block, [ir.Constant(index, Control.POLL.value)]))
        poll = builder.inttoptr(address, ir.FunctionType(word, [word.as_pointer()]).as_pointer())
        return builder.icmp_signed("!=", builder.call(poll, [block]), ir.Constant(word, 0))

    return types.boolean(types.CPointer(types.int64)), generate


POLL_WORK = 1 << 20
"""After about so many scalar operations, a millisecond, a kernel polls."""

"""What many kernels use: pointers by type name, memory copies, integer division for non-negative numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mace_core.native.numba_prelude import f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

POINTERS: dict[str, Any] = {
    "float32": f32, "float64": f64,
    "int8": i8, "int16": i16, "int32": i32, "int64": i64,
    "uint8": u8, "uint16": u16, "uint32": u32, "uint64": u64, "bool": u8,
}  # fmt: skip
"""Typed pointers from address words, by the label of the element type."""

SCALARS: dict[str, Any] = {
    "float32": np.float32, "float64": np.float64,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "bool": np.uint8,
}  # fmt: skip
"""Conversions to the element type, usable in kernels."""

WORD_POINTERS: dict[str, Any] = {"1": u8, "2": u16, "4": u32, "8": u64}
"""Pointers for elements that are only moved, by width in bytes."""

WORD_ZEROS: dict[str, Any] = {"1": np.uint8(0), "2": np.uint16(0), "4": np.uint32(0), "8": np.uint64(0)}


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(typing_context: Any, target: Any, source: Any, nbytes: Any) -> Any:
    """memcpy: ``(target address, source address, bytes)``; the two do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte_pointer = ir.IntType(8).as_pointer()
        function = builder.module.declare_intrinsic("llvm.memcpy", [byte_pointer, byte_pointer, ir.IntType(64)])
        target_address, source_address, count = arguments
        builder.call(
            function,
            [
                builder.inttoptr(target_address, byte_pointer),
                builder.inttoptr(source_address, byte_pointer),
                count,
                ir.Constant(ir.IntType(1), 0),
            ],
        )
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def quotient(typing_context: Any, dividend: Any, divisor: Any) -> Any:
    """``dividend // divisor`` of non-negative int64, without the sign handling of Python's operator."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.udiv(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


def _extreme(name: str) -> Any:
    """``(a, b)``: the larger or smaller of two floats; NaN if one of them is (LLVM vectorizes reductions over it)."""

    @intrinsic  # type: ignore[untyped-decorator]
    def extreme(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = arguments[0].type
            function = builder.module.declare_intrinsic(f"llvm.{name}", [kind], ir.FunctionType(kind, [kind, kind]))
            return builder.call(function, arguments)

        return a(a, a), generate

    return extreme


maximum = _extreme("maximum")
minimum = _extreme("minimum")


def _local_array(element: Any, count: int) -> Any:
    """``()``: a pointer to an array of the kernel's own stack, undefined at first; the same one at each call."""
    pointer = types.CPointer(element)

    @intrinsic  # type: ignore[untyped-decorator]
    def local_array(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = cgutils.alloca_once(builder, ir.ArrayType(context.get_value_type(element), count))
            return builder.bitcast(array, context.get_value_type(pointer))

        return pointer(), generate

    return local_array


LOCAL_COUNT = 128
LOCAL_ARRAYS: dict[str, Any] = {
    name: _local_array(getattr(types, name), LOCAL_COUNT)
    for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}
"""Arrays of `LOCAL_COUNT` elements on the stack, by element type."""

LOCAL_SECOND: dict[str, Any] = {name: _local_array(getattr(types, name), LOCAL_COUNT) for name in ("float64", "int64")}
"""A second array for kernels that need two."""

"""Elements of any type as what kernels compute with: float32 for floats, int32 for integers.

One implementation of the narrow types serves these kernels and those of elementwise operators.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mace_cpu.shared.codegen.element_types import bit_width, cast, is_float, load, round_to, store
from mace_cpu.shared.codegen.narrow_floats import NAMES as NARROW_FLOATS

WIDE_FLOATS = ("float32", "float16", "bfloat16")
INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "int4", "uint4", "int2", "uint2")


def _address(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, dtype: str) -> ir.Value:
    nbytes = ir.Constant(ir.IntType(64), bit_width(dtype) // 8)
    pointer = builder.inttoptr(base, ir.IntType(bit_width(dtype)).as_pointer())
    at = builder.gep(builder.bitcast(pointer, ir.IntType(8).as_pointer()), [builder.mul(index, nbytes)])
    return builder.bitcast(at, (ir.FloatType() if dtype == "float32" else ir.IntType(bit_width(dtype))).as_pointer())


def _load(dtype: str) -> Any:
    """``(address of the first element, index)``: the element, as float32 or int32."""
    wide, result = ("float32", types.float32) if is_float(dtype) else ("int32", types.int32)

    @intrinsic  # type: ignore[untyped-decorator]
    def load_element(typing_context: Any, base: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base, index = arguments
            found = load(builder, _address(builder, base, index, dtype), dtype, 0)
            if dtype in ("float16", "bfloat16"):
                return found
            return cast(builder, found, dtype, wide)

        return result(types.int64, types.int64), generate

    return load_element


def _store(dtype: str, saturate: bool) -> Any:
    """``(address of the first element, index, float32 or int32)``: rounds floats, wraps integers."""
    wide, operand = ("float32", types.float32) if is_float(dtype) else ("int32", types.int32)

    @intrinsic  # type: ignore[untyped-decorator]
    def store_element(typing_context: Any, base: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base, index, value = arguments
            if dtype not in ("float16", "bfloat16"):  # storing rounds to these
                value = cast(builder, value, wide, dtype, saturate)
            store(builder, value, _address(builder, base, index, dtype), dtype)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64, operand), generate

    return store_element


_ALL = (*WIDE_FLOATS, *INTEGERS, *sorted(NARROW_FLOATS))

LOADS: dict[str, Any] = {dtype: _load(dtype) for dtype in _ALL}
"""By element type, see `_load`."""

STORES: dict[str, Any] = {dtype: _store(dtype, saturate=True) for dtype in _ALL}
"""By element type, see `_store`."""

UNSATURATED_STORES: dict[str, Any] = {dtype: _store(dtype, saturate=False) for dtype in NARROW_FLOATS}
"""What is too large becomes infinity or NaN."""


def _rounding(dtype: str) -> Any:
    """``(float32)``: the nearest that the narrower type has, as float32."""

    @intrinsic  # type: ignore[untyped-decorator]
    def rounded(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return round_to(builder, arguments[0], dtype)

        return types.float32(types.float32), generate

    return rounded


ROUNDINGS: dict[str, Any] = {dtype: _rounding(dtype) for dtype in WIDE_FLOATS}
"""By element type, see `_rounding`."""

"""Vector code for the BLOCKED layout: one call reduces a window of pixels, a channel block per pixel."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _window(lanes: int, kind: str) -> Any:
    """``(source, target, rows, columns, row step, column step, scale)``: addresses, counts, byte steps.

    Writes ``scale`` times the sum, or the maximum, of the window's pixels to the target.  Kinds: "max" (a NaN wins),
    "sum", and "long_sum", which adds in float64.
    """
    single = ir.VectorType(ir.FloatType(), lanes)
    wide = ir.VectorType(ir.DoubleType(), lanes)
    carried = wide if kind == "long_sum" else single
    start = -math.inf if kind == "max" else 0.0

    @intrinsic  # type: ignore[untyped-decorator]
    def window(
        typing_context: Any,
        source: Any,
        target: Any,
        rows: Any,
        columns: Any,
        row_step: Any,
        column_step: Any,
        scale: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, target, rows, columns, row_step, column_step, scale = arguments
            held = cgutils.alloca_once(builder, carried)
            builder.store(ir.Constant(carried, [start] * lanes), held)
            with cgutils.for_range(builder, rows) as row:
                row_address = builder.add(source, builder.mul(row.index, row_step))
                with cgutils.for_range(builder, columns) as column:
                    address = builder.add(row_address, builder.mul(column.index, column_step))
                    loaded = builder.load(builder.inttoptr(address, single.as_pointer()), align=4)
                    old = builder.load(held)
                    if kind == "max":
                        maximum = builder.module.declare_intrinsic(
                            f"llvm.maximum.v{lanes}f32", (), ir.FunctionType(single, [single, single])
                        )
                        builder.store(builder.call(maximum, [old, loaded]), held)
                    elif kind == "sum":
                        builder.store(builder.fadd(old, loaded), held)
                    else:
                        builder.store(builder.fadd(old, builder.fpext(loaded, wide)), held)
            result = builder.load(held)
            if kind != "max":
                element = ir.DoubleType() if kind == "long_sum" else ir.FloatType()
                factor = scale if kind == "long_sum" else builder.fptrunc(scale, element)
                one = builder.insert_element(ir.Constant(carried, ir.Undefined), factor, ir.Constant(ir.IntType(32), 0))
                mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                result = builder.fmul(result, builder.shuffle_vector(one, ir.Constant(carried, ir.Undefined), mask))
            if kind == "long_sum":
                result = builder.fptrunc(result, single)
            builder.store(result, builder.inttoptr(target, single.as_pointer()), align=4)
            return context.get_dummy_value()

        words = [types.int64] * 6
        return types.none(*words, types.float64), generate

    return window


WINDOWS: dict[tuple[str, str], Any] = {
    (lanes, kind): _window(int(lanes), kind) for lanes in ("8", "16") for kind in ("max", "sum", "long_sum")
}
"""By lanes of the block and kind of reduction; see `_window`."""


def _weighted_pixels(lanes: int) -> Any:
    """``(source, target, indices, weights, taps, pixel step)``: addresses, counts and a step in bytes.

    Writes the sum of ``taps`` pixels, found through int32 indices, times float32 weights.
    """
    vector = ir.VectorType(ir.FloatType(), lanes)
    integer = ir.IntType(32)

    @intrinsic  # type: ignore[untyped-decorator]
    def weighted(
        typing_context: Any, source: Any, target: Any, indices: Any, weights: Any, taps: Any, step: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, target, indices, weights, taps, step = arguments
            undefined = ir.Constant(vector, ir.Undefined)
            held = cgutils.alloca_once(builder, vector)
            builder.store(ir.Constant(vector, [0.0] * lanes), held)
            index_pointer = builder.inttoptr(indices, integer.as_pointer())
            weight_pointer = builder.inttoptr(weights, ir.FloatType().as_pointer())
            with cgutils.for_range(builder, taps) as tap:
                index = builder.sext(builder.load(builder.gep(index_pointer, [tap.index])), ir.IntType(64))
                address = builder.add(source, builder.mul(index, step))
                pixel = builder.load(builder.inttoptr(address, vector.as_pointer()), align=4)
                weight = builder.load(builder.gep(weight_pointer, [tap.index]))
                one = builder.insert_element(undefined, weight, ir.Constant(integer, 0))
                spread = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(integer, lanes), [0] * lanes))
                builder.store(builder.fadd(builder.load(held), builder.fmul(pixel, spread)), held)
            builder.store(builder.load(held), builder.inttoptr(target, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.none(*[types.int64] * 6), generate

    return weighted


WEIGHTED_PIXELS: dict[str, Any] = {lanes: _weighted_pixels(int(lanes)) for lanes in ("8", "16")}
"""By lanes of the block; see `_weighted_pixels`."""


def _copy_lanes(lanes: int) -> Any:
    """``(source, target)``: copies that many float32 from one address to another."""
    vector = ir.VectorType(ir.FloatType(), lanes)

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_lanes(typing_context: Any, source: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            loaded = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()), align=4)
            builder.store(loaded, builder.inttoptr(arguments[1], vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), generate

    return copy_lanes


COPY_LANES: dict[str, Any] = {lanes: _copy_lanes(int(lanes)) for lanes in ("4", "8")}
"""By number of lanes; see `_copy_lanes`."""

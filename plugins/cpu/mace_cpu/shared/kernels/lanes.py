"""Vector code for the BLOCKED layout, where a pixel is a channel block."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


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


def _keep_lanes(lanes: int) -> Any:
    """``(source, target, fill, kept)``: copies the first ``kept`` float32; the others are that at ``fill``."""
    vector = ir.VectorType(ir.FloatType(), lanes)
    integer = ir.IntType(32)
    numbers = ir.VectorType(integer, lanes)

    @intrinsic  # type: ignore[untyped-decorator]
    def keep_lanes(typing_context: Any, source: Any, target: Any, fill: Any, kept: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, target, fill, kept = arguments

            def spread(scalar: Any, wide: Any) -> Any:
                undefined = ir.Constant(wide, ir.Undefined)
                one = builder.insert_element(undefined, scalar, ir.Constant(integer, 0))
                return builder.shuffle_vector(one, undefined, ir.Constant(numbers, [0] * lanes))

            loaded = builder.load(builder.inttoptr(source, vector.as_pointer()), align=4)
            filler = spread(builder.load(builder.inttoptr(fill, ir.FloatType().as_pointer())), vector)
            lane = ir.Constant(numbers, list(range(lanes)))
            is_kept = builder.icmp_signed("<", lane, spread(builder.trunc(kept, integer), numbers))
            chosen = builder.select(is_kept, loaded, filler)
            builder.store(chosen, builder.inttoptr(target, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.none(*[types.int64] * 4), generate

    return keep_lanes


KEEP_LANES: dict[str, Any] = {lanes: _keep_lanes(int(lanes)) for lanes in ("4", "8", "16")}
"""By lanes of the block; see `_keep_lanes`."""

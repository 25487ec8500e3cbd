"""Elements of less than a byte, lowest bits first, to a byte each and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mace_core.native.numba_prelude import Kernel, u8
from mace_cpu.shared.kernels.primitives import quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "unpack": "source target elements unit_groups",
    "pack": "source target elements unit_groups",
}

GROUPS = {"2": (4, 1), "4": (2, 1), "6": (4, 3)}
"""By bits of an element: how many elements begin and end with a byte, and how many bytes these are."""


VECTOR_BYTES = 16
"""Bytes of packed elements that are taken at a time where an element does not straddle bytes."""

_BYTE = ir.IntType(8)


def _splat(count: int, value: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_BYTE, count), [value] * count)


def _shuffle(builder: ir.IRBuilder, left: ir.Value, right: ir.Value, mask: list[int]) -> ir.Value:
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), len(mask)), mask))


def _unpack_vector(bits: int, signed: bool) -> Any:
    """``(source, target)``: addresses; the elements of `VECTOR_BYTES` bytes to a byte each."""

    @intrinsic  # type: ignore[untyped-decorator]
    def unpack_vector(typing_context: Any, source: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(a, ir.VectorType(_BYTE, VECTOR_BYTES).as_pointer()) for a in arguments]
            packed = builder.load(pointers[0], align=1)
            parts = [
                builder.and_(builder.lshr(packed, _splat(VECTOR_BYTES, shift)), _splat(VECTOR_BYTES, (1 << bits) - 1))
                for shift in range(0, 8, bits)
            ]
            while len(parts) > 1:  # neighbors come from parts that are half the number of parts apart
                half, count = len(parts) // 2, parts[0].type.count
                mask = [lane // 2 + (lane % 2) * count for lane in range(2 * count)]
                parts = [_shuffle(builder, parts[i], parts[i + half], mask) for i in range(half)]
            codes = parts[0]
            if signed:
                sign = _splat(codes.type.count, 1 << (bits - 1))
                codes = builder.sub(builder.xor(codes, sign), sign)
            builder.store(codes, builder.bitcast(pointers[1], codes.type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), generate

    return unpack_vector


def _pack_vector(bits: int) -> Any:
    """``(source, target)``: addresses; a byte each to the elements of `VECTOR_BYTES` bytes."""
    per_byte = 8 // bits

    @intrinsic  # type: ignore[untyped-decorator]
    def pack_vector(typing_context: Any, source: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            count = VECTOR_BYTES * per_byte
            source, target = arguments
            raw = builder.load(builder.inttoptr(source, ir.VectorType(_BYTE, count).as_pointer()), align=1)
            codes = builder.and_(raw, _splat(count, (1 << bits) - 1))
            packed = _splat(VECTOR_BYTES, 0)
            for place in range(per_byte):
                part = _shuffle(builder, codes, codes, [lane * per_byte + place for lane in range(VECTOR_BYTES)])
                packed = builder.or_(packed, builder.shl(part, _splat(VECTOR_BYTES, place * bits)))
            builder.store(packed, builder.inttoptr(target, packed.type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), generate

    return pack_vector


@intrinsic  # type: ignore[untyped-decorator]
def _nothing(typing_context: Any, source: Any, target: Any) -> Any:
    """Stands where elements straddle bytes: never called."""
    return types.none(types.int64, types.int64), lambda context, *_: context.get_dummy_value()


def unpack(bits: str, signed: str) -> Kernel:
    """One unit is ``unit_groups`` groups, see `GROUPS`."""
    width = int(bits)
    count, nbytes = GROUPS[bits]
    mask = np.uint8((1 << width) - 1)
    sign = np.uint8(1 << (width - 1) if signed == "1" else 0)
    vector = VECTOR_BYTES if nbytes == 1 else 0
    move = _unpack_vector(width, signed == "1") if vector else _nothing

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = u8(args[0]), u8(args[1])
        packed, codes = args[0], args[1]
        first, last = begin * args[3], min(end * args[3], quotient(args[2], count))
        while vector > 0 and first + vector <= last:
            move(packed + first, codes + first * count)
            first += vector
        for group in range(first, last):
            word = np.uint32(source[group * nbytes])
            for i in range(1, nbytes):
                word |= np.uint32(source[group * nbytes + i]) << np.uint32(8 * i)
            for i in range(count):
                code = np.uint8(word >> np.uint32(width * i)) & mask
                target[group * count + i] = np.uint8((code ^ sign) - sign)
        rest = quotient(args[2], count) * count
        if end * args[3] * count > rest:  # of a last group that is not full
            for i in range(args[2] - rest):
                at = i * width
                byte = quotient(rest, count) * nbytes + (at >> 3)
                word = np.uint32(source[byte])
                if (at & 7) + width > 8:
                    word |= np.uint32(source[byte + 1]) << np.uint32(8)
                code = np.uint8(word >> np.uint32(at & 7)) & mask
                target[rest + i] = np.uint8((code ^ sign) - sign)

    return kernel


def pack(bits: str) -> Kernel:
    """As `unpack`, the other way; spare bits are zero."""
    width = int(bits)
    count, nbytes = GROUPS[bits]
    mask = np.uint8((1 << width) - 1)
    vector = VECTOR_BYTES if nbytes == 1 else 0
    move = _pack_vector(width) if vector else _nothing

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = u8(args[0]), u8(args[1])
        codes, packed = args[0], args[1]
        first, last = begin * args[3], min(end * args[3], quotient(args[2], count))
        while vector > 0 and first + vector <= last:
            move(codes + first * count, packed + first)
            first += vector
        for group in range(first, last):
            word = np.uint32(0)
            for i in range(count):
                word |= np.uint32(source[group * count + i] & mask) << np.uint32(width * i)
            for i in range(nbytes):
                target[group * nbytes + i] = np.uint8(word >> np.uint32(8 * i))
        rest = quotient(args[2], count) * count
        if end * args[3] * count > rest and rest < args[2]:
            word = np.uint32(0)
            for i in range(args[2] - rest):
                word |= np.uint32(source[rest + i] & mask) << np.uint32(width * i)
            for i in range(((args[2] - rest) * width + 7) >> 3):
                target[quotient(rest, count) * nbytes + i] = np.uint8(word >> np.uint32(8 * i))

    return kernel

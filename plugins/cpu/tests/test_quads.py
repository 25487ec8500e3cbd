"""Dot products of bytes in registers: exact in every instruction set, in the instructions made for them."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import aarch64
import numpy as np
import numpy.typing as npt
import pytest
from harness import BYTE_FEATURES, is_here
from llvmlite import ir
from mace_cpu.shared.codegen.body import I8, Body
from mace_cpu.shared.codegen.version import generator_version
from mace_cpu.shared.quads import SIGN, QuadUnit, pack_quads, signed_weights
from mace_cpu.shared.tiles.quad_tile import QuadTile

from mace_core.errors import UsageError
from mace_core.native.compiler import compile_assembly, compile_object
from mace_core.native.kernel import load_kernels
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, foreign_target, host_target, make_target

Array = npt.NDArray[Any]

MASKS = tuple(mask for mask in (*BYTE_FEATURES, "avx512vnni") if "+" not in (mask or "") and is_here(mask))
WITH_DOT = make_target(
    foreign_target("aarch64").triple, "cortex-a76", frozenset({"neon", "fp-armv8", "dotprod"}), "+dotprod"
)
WITH_AVX_VNNI = make_target(
    foreign_target("x86_64").triple,
    "alderlake",
    frozenset({"avx2", "fma", "avxvnni", "sse2"}),
    "+avx2,+fma,+avxvnni",
)

AVX_VNNI_MASK = make_target(
    foreign_target("x86_64").triple, "x86-64-v3", frozenset({"avx2", "fma", "avxvnni", "sse2"}), "+avxvnni"
)


def product_kernel(rows: int, vectors: int, signed: bool, tail: int, unit: QuadUnit | None = None) -> KernelSource:
    """A kernel that multiplies ``rows`` rows with one tile of columns: left, its row bytes, right, result, quads."""
    symbol = f"product_{rows}x{vectors}_{'s' if signed else 'u'}{tail}"

    def build(target: Target) -> str:
        body = Body(symbol, target.vector_bits // 32, target.features)
        left, row_bytes, right, result, quads = (
            body.pointer(0),
            body.word(1),
            body.pointer(2),
            body.pointer(3),
            body.word(4),
        )
        tile = QuadTile(body, rows, vectors, unit or QuadUnit.of(target), left_is_signed=signed)
        with body.loop(body.begin, body.end):
            starts = [body.b.gep(left, [body.mul(row_bytes, r)], inbounds=True, source_etype=I8) for r in range(rows)]
            tile.start([ir.Constant(tile.dot.vector, None)] * vectors)
            tile.run(starts, right, quads, tail)
            for r in range(rows):
                for v in range(vectors):
                    at = body.floats(result, r * tile.columns + v * body.lanes)
                    body.b.store(tile.cell(r, v), at, align=4)
        return body.text()

    return KernelSource(symbol, generator_version("mace_cpu.shared.tiles.quad_tile") + repr(unit), build)


def multiply(left: Array, right: Array, mask: str | None, vectors: int = 2) -> Array:
    """``left @ right`` as the kernel computes it, its change of the left operand made up for."""
    try:
        target = host_target(mask)
    except UsageError as missing:
        pytest.skip(str(missing))
    rows, depth = left.shape
    columns = vectors * target.vector_bits // 32
    signed = left.dtype == np.int8
    source = product_kernel(rows, vectors, signed, depth % 4)
    packed = pack_quads(signed_weights(right), columns)
    assert packed.shape[0] == 1, "one tile"
    result = np.zeros((rows, columns), np.int32)
    words = np.array([left.ctypes.data, depth, packed.ctypes.data, result.ctypes.data, depth // 4], np.int64)
    address = load_kernels([source], target)[source.symbol]
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
    kernel(words.ctypes.data, 0, 1, 0)
    offset = QuadUnit.of(target).left_offset(signed)
    sums = signed_weights(right).astype(np.int32).sum(0)
    zero = SIGN if right.dtype == np.uint8 else 0
    made_up: Array = result[:, : right.shape[1]] - offset * sums + zero * left.astype(np.int32).sum(1, keepdims=True)
    return made_up


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("left", ["uint8", "int8"])
@pytest.mark.parametrize("right", ["uint8", "int8"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 31, 64])
def test_products_are_exact(mask: str | None, left: str, right: str, depth: int) -> None:
    generator = np.random.default_rng(depth)
    a, b = (
        generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        for dtype, shape in ((left, (3, depth)), (right, (depth, 7)))
    )
    np.testing.assert_array_equal(multiply(a, b, mask), a.astype(np.int32) @ b.astype(np.int32))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("left", ["uint8", "int8"])
def test_no_product_saturates(mask: str | None, left: str) -> None:
    for number in (np.iinfo(left).min, np.iinfo(left).max):
        for weight in (-128, 127):
            a, b = np.full((2, 36), number, left), np.full((36, 5), weight, np.int8)
            np.testing.assert_array_equal(multiply(a, b, mask), np.full((2, 5), 36 * number * weight))


def test_a_tile_of_vnni_stays_in_registers() -> None:
    target = make_target(
        foreign_target("x86_64").triple,
        "icelake-server",
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"}),
        "",
    )
    source = product_kernel(14, 2, False, 0)
    parts = re.split(r"\n(?=\.LBB)", compile_assembly(source.build(target), source.symbol, target))
    inner = max(parts, key=lambda part: part.count("vpdpbusd"))
    assert inner.count("vpdpbusd") == 28
    assert not re.search(r"zmm\d+, .*\(%rsp\)", inner), "accumulators are spilled"


@pytest.mark.parametrize(
    ("target", "instruction"),
    [(WITH_DOT, "sdot"), (WITH_AVX_VNNI, "vpdpbusd"), (host_target("baseline"), "pmaddwd")],
    ids=["dotprod", "avx-vnni", "sse2"],
)
def test_each_unit_has_its_instruction(target: Target, instruction: str) -> None:
    for signed in (False, True):
        source = product_kernel(2, 1, signed, 3)
        assert instruction in compile_assembly(source.build(target), source.symbol, target)


def test_avx_vnni_is_its_short_encoding() -> None:
    """Processors with AVX-VNNI need not have AVX512: no mask registers, no zmm, `vpdpbusd` by its VEX form."""
    for target in (WITH_AVX_VNNI, AVX_VNNI_MASK):
        source = product_kernel(4, 2, True, 3)
        assembly = compile_assembly(source.build(target), source.symbol, target)
        products = re.findall(r"\n.*vpdpbusd.*", assembly)
        assert products and all("{vex}" in line and "%ymm" in line for line in products)
        assert not re.search(r"%zmm|%k[0-7]|%ymm(1[6-9]|[23]\d)", assembly)


@pytest.mark.skipif(aarch64.QEMU is None, reason="needs qemu-user for aarch64")
@pytest.mark.parametrize("left", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("target", "processor"), [(WITH_DOT, "max"), (foreign_target("aarch64"), "cortex-a53")], ids=["dotprod", "without"]
)
def test_products_are_exact_on_aarch64(target: Target, processor: str, left: str, tmp_path: Path) -> None:
    rng, depth, signed = np.random.default_rng(1), 35, left == "int8"
    held = np.iinfo(left)
    a, b = rng.integers(held.min, held.max, (3, depth), left, endpoint=True), rng.integers(-128, 128, (depth, 7))
    a[0], b[:, 0] = held.max, -128
    right = b.astype(np.int8)
    source = product_kernel(3, 2, signed, depth % 4)
    words = [a, depth, pack_quads(right, 8), np.full((3, 8), -1, np.int32), depth // 4]
    written = aarch64.run_kernel(source, target, processor, words, tmp_path)
    sums = np.frombuffer(written, np.int32).reshape(3, 8)[:, :7]
    offset = QuadUnit.of(target).left_offset(signed)
    np.testing.assert_array_equal(sums - offset * right.astype(np.int32).sum(0), a.astype(np.int32) @ b)


def test_a_processor_without_any_unit_has_code() -> None:
    target = make_target("riscv64-unknown-linux-gnu", "generic-rv64", frozenset(), "+m,+a,+f,+d,+c")
    assert QuadUnit.of(target) is QuadUnit.LANES
    source = product_kernel(2, 1, True, 1)
    assert len(compile_object(source.build(target), source.symbol, target)) > 500


@pytest.mark.parametrize("mask", [None, "baseline"])
def test_the_plain_way_is_exact_too(mask: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuadUnit, "of", staticmethod(lambda target: QuadUnit.LANES))
    a = np.arange(-128, 127, dtype=np.int8).reshape(3, 85)
    b = np.arange(85 * 6).reshape(85, 6).astype(np.int8)
    np.testing.assert_array_equal(multiply(a, b, mask, vectors=3), a.astype(np.int32) @ b.astype(np.int32))

"""Generated kernels as code: every architecture compiles them, tiles stay in registers, symbols tell them apart."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mace_cpu.conv.depthwise.lower import depthwise_kernel
from mace_cpu.conv.direct.lower import direct_kernel
from mace_cpu.conv.planar.lower import planar_kernel
from mace_cpu.matmul.lower_packed import gemm_kernel
from mace_cpu.pooling.lower import window_pool_kernel
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.layouts.moving import (
    conversion_kernel,
    copy_kernel,
    panels_kernel,
    strided_rows_kernel,
    transpose_kernel,
)
from mace_cpu.shared.pixels.reduce import global_pool_kernel
from mace_cpu.shared.tiles.choose import (
    LONGEST_SEGMENT_TILES,
    ROW_CHOICES,
    choose_rows,
    most_rows,
    segment_tiles,
    split_channels,
    widest_tile,
)

from mace_core.errors import UsageError
from mace_core.native.compiler import compile_assembly, compile_object
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, foreign_target, host_target

RELU = Epilogue((EpilogueOp("relu"),))
SILU = Epilogue((EpilogueOp("silu"),))


def kernels(target: Target) -> list[KernelSource]:
    block = 16 if target.vector_bits >= 512 else 8
    blocks = widest_tile(target, block)
    return [
        direct_kernel(most_rows(target, block, blocks), blocks, block, 1, False, RELU),
        direct_kernel(3, 1, block, 2, True, SILU),
        depthwise_kernel((4, block, 3, 2, 1), RELU, sums=True),
        gemm_kernel(4, 2, target.vector_bits // 32, False, RELU),
        gemm_kernel(2, 1, target.vector_bits // 32, True, SILU),
        planar_kernel(3, 2, target.vector_bits // 32, 1, 0, False, RELU),
        planar_kernel(2, 2, target.vector_bits // 32, 1, 3, False, SILU),
        planar_kernel(4, 1, target.vector_bits // 32, 5, 0, True, RELU),
        window_pool_kernel(block, "max"),
        window_pool_kernel(block, "average"),
        global_pool_kernel(block, "sum"),
        strided_rows_kernel(2, "dense"),
        strided_rows_kernel(8, "strided"),
        transpose_kernel(4),
        transpose_kernel(1),
        panels_kernel(target.vector_bits // 32, True),
        panels_kernel(target.vector_bits // 32, False),
        conversion_kernel(block, True),
        conversion_kernel(block, False),
        copy_kernel(),
    ]


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_architecture_compiles_them(architecture: str) -> None:
    target = foreign_target(architecture)
    for source in kernels(target):
        assert len(compile_object(source.build(target), source.symbol, target)) > 500


@pytest.mark.parametrize("features", ["avx512", "avx2"])
def test_tiles_stay_in_registers(features: str) -> None:
    try:
        target = host_target(features)
    except UsageError as missing:
        pytest.skip(str(missing))
    block = 16 if target.vector_bits >= 512 else 8
    blocks = widest_tile(target, block)
    rows = most_rows(target, block, blocks)
    source = direct_kernel(rows, blocks, block, 1, False, RELU)
    assembly = compile_assembly(source.build(target), source.symbol, target)
    parts = re.split(r"\n(?=\.LBB)", assembly)
    inner = max(parts, key=lambda part: part.count("vfmadd"))
    assert inner.count("vfmadd") == rows * blocks
    assert "rsp" not in inner, "accumulators are spilled"


def test_symbols_tell_variants_apart() -> None:
    sources = [
        direct_kernel(rows, blocks, 16, stride, plain, epilogue)
        for rows in (7, 14)
        for blocks in (1, 2)
        for stride in (1, 2)
        for plain in (False, True)
        for epilogue in (Epilogue(), RELU, SILU)
    ]
    assert len({source.symbol for source in sources}) == len(sources)


@pytest.mark.parametrize("most", [2, 6, 14])
def test_tile_height_never_exceeds_width_or_registers(most: int) -> None:
    for width in range(1, 200):
        rows = choose_rows(width, most, 2)
        assert rows in ROW_CHOICES
        assert rows <= min(width, most)


@pytest.mark.parametrize("widest", [1, 2, 4])
def test_channel_tiles_cover_every_block_once(widest: int) -> None:
    for blocks in range(1, 40):
        covered = [
            split.first + tile * split.blocks + i
            for split in split_channels(blocks, widest)
            for tile in range(split.tiles)
            for i in range(split.blocks)
        ]
        assert covered == list(range(blocks))


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 8))
def test_segments_cover_a_row_and_share_it_out(tiles: int, others: int, threads: int) -> None:
    length = segment_tiles(tiles, others, threads)
    assert 1 <= length <= min(tiles, LONGEST_SEGMENT_TILES)
    segments = -(-tiles // length)
    assert segments * length >= tiles

    def share(length: int) -> float:
        segments = -(-tiles // length)
        return -(-segments * others // threads) * tiles / segments

    assert share(length) <= share(min(tiles, LONGEST_SEGMENT_TILES))


def test_few_segments_are_as_many_as_threads() -> None:
    assert segment_tiles(8, 1, 2) == 4
    assert segment_tiles(8, 1, 1) == 8
    assert segment_tiles(56, 1, 2) == 7

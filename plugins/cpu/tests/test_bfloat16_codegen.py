"""Kernels for bfloat16 as code: the instructions of each unit are there, tiles stay in registers, symbols differ."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mace_cpu.conv.depthwise.lower import depthwise_kernel
from mace_cpu.conv.direct.lower import Pairs, direct_kernel
from mace_cpu.matmul.lower_packed import gemm_kernel
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.layouts.pairs import pair_rows_kernel, pairs_kernel, wide_kernel
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.tiles.choose import choose_matrix_rows

from mace_core.native.compiler import compile_assembly, compile_object
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, foreign_target, make_target

RELU = Epilogue((EpilogueOp("relu"),))
ADD = Epilogue((EpilogueOp("add", "tensor"),))

WITH_ALL = make_target(
    foreign_target("x86_64").triple,
    "sapphirerapids",
    frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "amx-tile", "amx-bf16"}),
    "",
)
"""A processor with every unit; code for it can be generated anywhere."""


def assembly(source: KernelSource) -> str:
    return compile_assembly(source.build(WITH_ALL), source.symbol, WITH_ALL)


def inner_loop(text: str, instruction: str) -> str:
    return max(re.split(r"\n(?=\.LBB)", text), key=lambda part: part.count(instruction))


def convolution(rows: int, unit: PairUnit, stores: str = "floats") -> KernelSource:
    return direct_kernel(rows, 2, 16, 1, False, RELU, Pairs(unit, stores))


def test_avx512_multiplies_pairs_and_keeps_its_tile_in_registers() -> None:
    inner = inner_loop(assembly(convolution(14, PairUnit.AVX512)), "vdpbf16ps")
    assert inner.count("vdpbf16ps") == 28
    assert "vfmadd" not in inner
    assert "rsp" not in inner, "accumulators are spilled"


@pytest.mark.parametrize(("rows", "groups"), [(32, 2), (28, 2), (16, 1), (7, 1)])
def test_amx_multiplies_tiles(rows: int, groups: int) -> None:
    text = assembly(convolution(rows, PairUnit.AMX))
    inner = inner_loop(text, "tdpbf16ps")
    assert inner.count("tdpbf16ps") == 2 * groups
    assert inner.count("tileloadd") == 2 + groups
    assert text.count("ldtilecfg") == 1
    assert text.count("tilerelease") == 1
    assert text.rindex("tilerelease") > text.rindex("tdpbf16ps"), "the tiles are given up at the end"


@pytest.mark.parametrize("unit", [PairUnit.AVX512, PairUnit.AMX])
def test_results_and_operands_are_rounded_by_instruction(unit: PairUnit) -> None:
    for source in (
        convolution(4, unit, "pairs"),
        convolution(4, unit, "both"),
        depthwise_kernel((4, 16, 3, 1, 1), RELU, form=(True, "pairs", unit)),
        pairs_kernel(16, unit),
        pair_rows_kernel(16, unit),
    ):
        assert "vcvtneps2bf16" in assembly(source)


@pytest.mark.parametrize("unit", [PairUnit.AVX512, PairUnit.AMX])
def test_products_use_the_unit(unit: PairUnit) -> None:
    text = assembly(gemm_kernel(4, 2, 16, False, RELU, unit))
    assert ("tdpbf16ps" if unit is PairUnit.AMX else "vdpbf16ps") in text


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_emulation_compiles_everywhere(architecture: str) -> None:
    target: Target = foreign_target(architecture)
    unit = PairUnit.EMULATED
    for source in (
        direct_kernel(4, 1, 8, 2, False, RELU, Pairs(unit, "both")),
        gemm_kernel(2, 1, 4, False, RELU, unit),
        depthwise_kernel((4, 8, 3, 2, 1), RELU, form=(True, "both", unit)),
        pairs_kernel(8, unit),
        wide_kernel(8, unit),
        pair_rows_kernel(8, unit),
    ):
        assert len(compile_object(source.build(target), source.symbol, target)) > 500


def test_symbols_tell_variants_apart() -> None:
    sources = [direct_kernel(4, 2, 16, 1, False, RELU)]
    for unit in (unit for unit in PairUnit if unit.precision == "bfloat16"):
        sources += [convolution(4, unit, stores) for stores in ("floats", "pairs", "both")]
        sources += [direct_kernel(4, 2, 16, 1, False, ADD, Pairs(unit), (narrow,)) for narrow in (False, True)]
        sources += [gemm_kernel(4, 2, 16, False, RELU, unit), pairs_kernel(16, unit), pair_rows_kernel(16, unit)]
        sources += [
            depthwise_kernel((4, 16, 3, 1, 1), RELU, form=(reads, stores, unit))
            for reads in (False, True)
            for stores in ("pairs", "both")
        ]
    assert len({source.symbol for source in sources}) == len(sources)


@given(st.integers(1, 5000))
def test_matrix_tiles_cover_a_row_without_much_waste(width: int) -> None:
    rows = choose_matrix_rows(width)
    assert 1 <= rows <= min(width, 32)
    assert -(-width // rows) == -(-width // 32), "as few steps as tiles of full height take"

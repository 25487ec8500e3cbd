"""The generated kernels that move elements."""

from __future__ import annotations

from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.shared.codegen.generated import generated

TRANSPOSE_BAND = 16
"""Rows of the target per unit of a transpose."""

MOVEMENT = "mace_cpu.shared.layouts.generate_movement"

CONVERSION_WORDS = WordLayout.parse("source target channels pixels unit_pixels block_units")
COPY_WORDS = WordLayout.parse("source target nbytes unit_bytes")
STRIDED_WORDS = WordLayout.parse("source target rank sizes[rank] source_strides[rank] target_strides[rank]")
TRANSPOSE_WORDS = WordLayout.parse(
    "source target columns rows source_step target_step rank sizes[rank] source_strides[rank] target_strides[rank]"
)
WOVEN_WORDS = WordLayout.parse(
    "source target pixels step unit_pixels rank sizes[rank] source_strides[rank] target_strides[rank]"
)
PANEL_WORDS = WordLayout.parse(
    "source target steps columns first_column width panels unit_steps matrix_units starts source_row"
)


def conversion_kernel(block: int, to_blocked: bool) -> KernelSource:
    """The kernel that converts to or from blocks of ``block`` channels."""
    symbol = f"{'to' if to_blocked else 'from'}_blocks_of_{block}"
    generator = "mace_cpu.shared.layouts.generate_transpose"
    return generated(generator, symbol, block, to_blocked, words=lambda: CONVERSION_WORDS)


def copy_kernel() -> KernelSource:
    """The kernel that copies bytes."""
    return generated("mace_cpu.shared.layouts.generate_copy", "copy_bytes", words=lambda: COPY_WORDS)


def strided_rows_kernel(width: int, inner: str) -> KernelSource:
    """The kernel that copies rows of words of ``width`` bytes; ``inner`` says how a row lies."""
    symbol = f"strided_rows_{width}_{inner}"
    return generated(MOVEMENT, symbol, width, inner, words=lambda: STRIDED_WORDS, function="build_strided_rows")


def transpose_kernel(width: int) -> KernelSource:
    """The kernel that swaps two axes of words of ``width`` bytes."""
    symbol, build = f"tiled_transpose_{width}", "build_tiled_transpose"
    return generated(MOVEMENT, symbol, width, TRANSPOSE_BAND, words=lambda: TRANSPOSE_WORDS, function=build)


def woven_kernel(count: int, is_apart: bool) -> KernelSource:
    """The kernel that takes pixels of ``count`` words of four bytes apart into planes, or puts them together."""
    symbol, build = f"{'unweave' if is_apart else 'weave'}_{count}", "build_woven"
    generator = "mace_cpu.shared.layouts.generate_woven"
    return generated(generator, symbol, count, is_apart, words=lambda: WOVEN_WORDS, function=build)


def panels_kernel(lanes: int, is_transposed: bool) -> KernelSource:
    """The kernel that packs the right operand of a matrix product that is computed."""
    symbol = f"pack_panels_{lanes}" + ("_transposed" if is_transposed else "")
    return generated(MOVEMENT, symbol, lanes, is_transposed, words=lambda: PANEL_WORDS, function="build_panels")

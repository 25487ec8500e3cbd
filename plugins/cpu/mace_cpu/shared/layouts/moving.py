"""The generated kernels that move elements, as descriptions that other processes can build too."""

from __future__ import annotations

import functools

from mace_core.native.kernel import KernelSource
from mace_core.native.kernel_words import WordLayout
from mace_core.native.target import Target
from mace_cpu.shared.codegen.version import generator_version

TRANSPOSE_BAND = 16
"""Rows of the target per unit of a transpose."""


@functools.cache
def conversion_kernel(block: int, to_blocked: bool) -> KernelSource:
    """The kernel that converts to or from blocks of ``block`` channels."""
    symbol = f"{'to' if to_blocked else 'from'}_blocks_of_{block}"
    build = functools.partial(_conversion, symbol, block, to_blocked)
    words = WordLayout.parse("source target channels pixels unit_pixels block_units")
    return KernelSource(symbol, generator_version(), build, words=words)


@functools.cache
def copy_kernel() -> KernelSource:
    """The kernel that copies bytes."""
    words = WordLayout.parse("source target nbytes unit_bytes")
    return KernelSource("copy_bytes", generator_version(), _copy, words=words)


@functools.cache
def strided_rows_kernel(width: int, inner: str) -> KernelSource:
    """The kernel that copies rows of words of ``width`` bytes; ``inner`` says how a row lies."""
    symbol = f"strided_rows_{width}_{inner}"
    build = functools.partial(_strided_rows, symbol, width, inner)
    words = WordLayout.parse("source target rank sizes[rank] source_strides[rank] target_strides[rank]")
    return KernelSource(symbol, generator_version(), build, words=words)


@functools.cache
def transpose_kernel(width: int) -> KernelSource:
    """The kernel that swaps two axes of words of ``width`` bytes."""
    symbol = f"tiled_transpose_{width}"
    build = functools.partial(_transpose, symbol, width)
    words = WordLayout.parse(
        "source target columns rows source_step target_step rank sizes[rank] source_strides[rank] target_strides[rank]"
    )
    return KernelSource(symbol, generator_version(), build, words=words)


@functools.cache
def panels_kernel(lanes: int, is_transposed: bool) -> KernelSource:
    """The kernel that packs the right operand of a matrix product that is computed."""
    symbol = f"pack_panels_{lanes}" + ("_transposed" if is_transposed else "")
    build = functools.partial(_panels, symbol, lanes, is_transposed)
    words = WordLayout.parse(
        "source target steps columns first_column width panels unit_steps matrix_units starts source_row"
    )
    return KernelSource(symbol, generator_version(), build, words=words)


def _conversion(symbol: str, block: int, to_blocked: bool, target: Target) -> str:
    from mace_cpu.shared.layouts import generate_transpose as transpose

    return transpose.build(symbol, block=block, to_blocked=to_blocked)


def _copy(target: Target) -> str:
    from mace_cpu.shared.layouts import generate_copy as copy

    return copy.build("copy_bytes")


def _strided_rows(symbol: str, width: int, inner: str, target: Target) -> str:
    from mace_cpu.shared.layouts import generate_movement as movement

    return movement.build_strided_rows(symbol, width, inner)


def _transpose(symbol: str, width: int, target: Target) -> str:
    from mace_cpu.shared.layouts import generate_movement as movement

    return movement.build_tiled_transpose(symbol, width, target.vector_bits // 32, TRANSPOSE_BAND)


def _panels(symbol: str, lanes: int, is_transposed: bool, target: Target) -> str:
    from mace_cpu.shared.layouts import generate_movement as movement

    return movement.build_panels(symbol, lanes, is_transposed)

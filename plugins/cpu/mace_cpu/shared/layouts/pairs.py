"""Layouts of 16-bit floats: how constants are brought into them, and steps between them and float32."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.parts.steps import Steps
from mace_cpu.shared.precision import PairUnit

Floats = npt.NDArray[np.float32]

GENERATOR = "mace_cpu.shared.layouts.generate_pairs"
PIXELS_PER_UNIT = 512

ROW_WORDS = WordLayout.parse("source target elements groups")

PLANE_WORDS = WordLayout.parse("source target channels pixels unit_pixels plane_units")
"""Of kernels between the layouts of channels; a plane is a block of channels, or a pair of them."""


def emit_pairs(facts: Facts, steps: Steps, unit: PairUnit, value: Value, source: Buf) -> Buf:
    """A buffer with ``value`` in the PAIRS layout, from ``source``, which holds it in the BLOCKED one."""
    n, c, *_ = facts.shape(value)
    target = Buf.scratch(facts.narrow_nbytes(value, Layout.PAIRS))
    pairs = -(-c // (2 * facts.block))
    _emit_planes(facts, steps, pairs_kernel(facts.block, unit), value, source, target, n * pairs, _to(unit))
    return target


def emit_wide(facts: Facts, steps: Steps, unit: PairUnit, value: Value, source: Buf) -> Buf:
    """A buffer with ``value`` in the BLOCKED layout, from ``source``, which holds it in the PAIRS one."""
    n, c, *_ = facts.shape(value)
    target = Buf.scratch(facts.blocked_nbytes(value))
    blocks = -(-c // facts.block)
    _emit_planes(
        facts,
        steps,
        wide_kernel(facts.block, unit),
        value,
        source,
        target,
        n * blocks,
        f"From{unit.precision.capitalize()}",
    )
    return target


def emit_pair_rows(facts: Facts, steps: Steps, unit: PairUnit, value: Value, source: Buf) -> Buf:
    """A buffer with ``value`` in the PAIR_ROWS layout, from ``source``, which holds it in the PLAIN one."""
    *outer, elements = facts.shape(value)
    target = Buf.scratch(facts.narrow_nbytes(value, Layout.PAIR_ROWS))
    steps.emit(
        pair_rows_kernel(facts.block, unit),
        {
            "source": source,
            "target": target,
            "elements": elements,
            "groups": -(-elements // (2 * facts.block)),
        },
        extent=math.prod(outer),
        work=facts.size(value),
        name=_to(unit),
    )
    return target


def _emit_planes(
    facts: Facts, steps: Steps, kernel: KernelSource, value: Value, source: Buf, target: Buf, planes: int, name: str
) -> None:
    n, c, *spatial = facts.shape(value)
    pixels = math.prod(spatial)
    parts = max(-(-pixels // PIXELS_PER_UNIT), 1)
    steps.emit(
        kernel,
        {
            "source": source,
            "target": target,
            "channels": c,
            "pixels": pixels,
            "unit_pixels": PIXELS_PER_UNIT,
            "plane_units": parts,
        },
        extent=planes * parts if n * c * pixels else 0,
        work=n * c * pixels,
        name=name,
    )


def pairs_kernel(block: int, unit: PairUnit) -> KernelSource:
    """The kernel from the BLOCKED to the PAIRS layout."""
    symbol = f"to_pairs_of_{block}_{unit.tag}"
    return generated(GENERATOR, symbol, block, unit, words=lambda: PLANE_WORDS, function="build_pairs")


def wide_kernel(block: int, unit: PairUnit) -> KernelSource:
    """The kernel from the PAIRS to the BLOCKED layout."""
    symbol = f"from_pairs_of_{block}" + ("_fp16" if unit.precision == "float16" else "")
    return generated(GENERATOR, symbol, block, unit, words=lambda: PLANE_WORDS, function="build_wide")


def pair_rows_kernel(lanes: int, unit: PairUnit) -> KernelSource:
    """The kernel from rows of float32 to rows of pairs."""
    symbol = f"to_pair_rows_of_{lanes}_{unit.tag}"
    return generated(GENERATOR, symbol, lanes, unit, words=lambda: ROW_WORDS, function="build_pair_rows")


def _to(unit: PairUnit) -> str:
    return f"To{unit.precision.capitalize()}"


def pair_weights(weights: Floats, axis: int, unit: PairUnit = PairUnit.EMULATED) -> Floats:
    """Pairs of neighbors along ``axis``, rounded, as words that pass for float32; an odd one out pairs with zero.

    Args:
        unit: whose numbers they become.
    """
    halves = np.moveaxis(halves_of(weights) if unit.precision == "float16" else rounded(weights), axis, -1)
    if halves.shape[-1] % 2:
        halves = np.concatenate([halves, np.zeros((*halves.shape[:-1], 1), np.uint16)], axis=-1)
    words = np.ascontiguousarray(halves).view("<u4").view(np.float32)
    return np.moveaxis(words, -1, axis)


def rounded(values: Floats) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 to each float32, of two as near the even one; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet, upper).astype(np.uint16)


def columns_apart(words: Floats) -> Floats:
    """(..., columns) words of pairs, of a multiple of 8 columns: of each 8 all even elements, then all odd ones."""
    halves = np.ascontiguousarray(words, np.float32).view(np.uint16).reshape(*words.shape[:-1], -1, 8, 2)
    return np.ascontiguousarray(np.swapaxes(halves, -1, -2)).view(np.float32).reshape(words.shape)


def halves_of(values: Floats) -> npt.NDArray[np.uint16]:
    """The nearest float16 to each float32, of two as near the even one; from 65520 on infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16).view(np.uint16)

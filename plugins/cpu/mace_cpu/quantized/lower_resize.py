"""Resize of quantized numbers by interpolation, linear or cubic.

``round((sum of weights * numbers - zero) * (scale / result scale))``, plus the zero point of the result.  This is
within one step of quantizing the float result, whose axes are interpolated one after the other.
"""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType
from mace_cpu.quantized.checks import numbers_with_one_scale
from mace_cpu.quantized.integer_form import BYTES, INTEGERS, RESIZE_INPUTS
from mace_cpu.quantized.numbers import limits
from mace_cpu.quantized.resizing import WORDS, Interpolation
from mace_cpu.resize.lower import check_resize, resized_axes, sampling_of, weights_of
from mace_cpu.resize.tables import ResizedAxis, Sampling, taps_of
from mace_cpu.shared.checks import dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

MOST_TAPS = 16
"""They are unrolled; a cubic interpolation of two axes has so many."""

MOST_VECTORS = 4
"""Of floats that belong to a vector of bytes."""


def _check(view: GraphView, node: Node) -> str | None:
    x_scale, x_zero, scale, zero = range(RESIZE_INPUTS, RESIZE_INPUTS + 4)
    reason = check_resize(view, node) or numbers_with_one_scale(view, node, (0,), (x_scale, scale), (x_zero, zero))
    for value in (node.input(0), node.output(0)):
        reason = reason or dtype_in(view, value, BYTES)
    if reason is not None:
        return reason
    shape, sampling, axes = view.shape(need(node.input(0))), sampling_of(view, node), resized_axes(view, node)
    if sampling.coordinates == "tf_crop_and_resize":
        return "a region of bytes is not resized"
    if not 3 <= len(shape) <= 4 or any(axis.axis < 2 for axis in axes):
        return "it interpolates between batches or channels, or along more than two axes"
    if math.prod(taps_of(axis, sampling) for axis in axes) > MOST_TAPS:
        return f"its results are made of more than {MOST_TAPS} numbers each"
    known = [view.constant(node.input(index)) for index in (x_scale, scale)]
    with np.errstate(all="ignore"):
        quotients = [found.numpy().reshape(-1)[0] for found in known if found is not None]
        is_finite = np.isfinite(np.float32(quotients[0]) / np.float32(quotients[1]))
    return None if is_finite else "its scales are so far apart that their quotient is not finite"


@lowers("QLinearResize", check=_check, domain=INTEGERS)
def lower_resize(program: Program, node: Node) -> None:
    facts, source, target = program.facts, need(node.input(0)), need(node.output(0))
    if facts.size(target) == 0:
        program.values.write(target)
        return
    sampling = sampling_of(facts.view, node)
    resized = {axis.axis: axis for axis in resized_axes(facts.view, node)}
    batch, channels, *sizes = facts.shape(source)
    _, _, *results = facts.shape(target)
    first = [1] * (2 - len(sizes))
    in_rows, in_width = (*first, *sizes)
    out_rows, out_width = (*first, *results)
    axes = [None] * len(first) + [resized.get(2 + i) for i in range(len(sizes))]
    tables = [_table(program, axis, size, sampling) for axis, size in zip(axes, (out_rows, out_width), strict=True)]
    x_scale, x_zero, scale, zero = (
        np.asarray(facts.constant_of(node.input(RESIZE_INPUTS + i))).reshape(-1)[0] for i in range(4)
    )
    low, high = limits(program, node)
    held = np.iinfo(facts.dtype(target).numpy)
    bounded = (low, high) != (held.min, held.max)
    lanes = program.settings.target.vector_bits // 32
    variant = Interpolation(
        facts.dtype(source).label,
        (tables[0][2], tables[1][2]),
        max(min(-(-channels // lanes), MOST_VECTORS), 1),
        Requantization(facts.dtype(target).label, bounded=bounded, far=True),
    )
    program.steps.emit(
        generated("mace_cpu.quantized.generate_resize", f"bytes_resize_{variant.tag}", variant, words=lambda: WORDS),
        {
            "source": program.values.read(source, Layout.CHANNELS_LAST),
            "target": program.values.write(target, Layout.CHANNELS_LAST),
            "rows": tables[0][0],
            "row_weights": tables[0][1],
            "columns": tables[1][0],
            "column_weights": tables[1][1],
            "channels": channels,
            "in_rows": in_rows,
            "in_width": in_width,
            "out_rows": out_rows,
            "out_width": out_width,
            "zero": float(x_zero),
            "ratio": float(np.float32(x_scale) / np.float32(scale)),
            "result_zero": int(zero),
            "low": low,
            "high": high,
        },
        extent=batch * out_rows,
        work=facts.size(target) * math.prod(variant.taps) / 4,
    )


def _table(program: Program, axis: ResizedAxis | None, length: int, sampling: Sampling) -> tuple[Buf, Buf, int]:
    """Indices and weights of an axis, and how many there are for each result; of one that stays, itself."""
    if axis is not None:
        taps = taps_of(axis, sampling)
        return (*weights_of(program, axis, sampling, taps, DType.FLOAT32), taps)
    if not is_symbolic(length):
        each = np.arange(length, dtype=np.int32)
        return program.constants.put(each), program.constants.put(np.ones(length, np.float32)), 1
    stays = ResizedAxis(0, length, length, 1.0)
    plain = Sampling("linear", "asymmetric", "floor", 0.0, False, False)
    return (*weights_of(program, stays, plain, taps_of(stays, plain), DType.FLOAT32), taps_of(stays, plain))

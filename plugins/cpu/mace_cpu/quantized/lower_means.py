"""Means of quantized numbers: average pools, global ones, ReduceMean, and Softmax.

Sums are exact; a mean is ``round((sum - n * zero) * (scale / result scale / n))``, plus the result's zero point.  This
is within one step of quantizing the float result, as is Softmax, which of columns takes its exponentials from a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.graph import GraphView, Node
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_same
from mace_cpu.pooling.bytes import BytePool
from mace_cpu.pooling.lower import MOST_SPATIAL_AXES, emit_byte_pool, windows_of
from mace_cpu.quantized.checks import numbers_with_one_scale
from mace_cpu.quantized.integer_form import INTEGERS
from mace_cpu.quantized.numbers import Result, Scaled, result_of, scaled
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.quantized.kernels_means"

MOST_SUMMED = {8: 1 << 23, 16: 1 << 15}
"""So many numbers, by their bits, have a sum that an int32 holds."""

ONE_AXIS_SINCE = 13
"""The opset since which Softmax is along one axis."""

PIXEL_WORDS = WordLayout.parse("source target channels pixels parts x_zero ratio zero low high")
SOFTMAX_WORDS = WordLayout.parse("source target length step inverse zero low high")

COLUMNS = 256
"""Channels of one unit of work, where they come last."""


def _check_single(view: GraphView, node: Node) -> str | None:
    reason = numbers_with_one_scale(view, node, (0,), (1, 3), (2, 4))
    if reason is not None:
        return reason
    x, result = (view.constant(node.input(index)) for index in (1, 3))
    assert x is not None
    assert result is not None
    with np.errstate(all="ignore"):
        numbers = [np.float32(1), x.numpy().reshape(-1)[0]] / result.numpy().reshape(-1)[0]
    return None if np.isfinite(numbers).all() else "its scales are so far apart that their quotient is not finite"


def _numbers(program: Program, factor: np.float32, x: Scaled, result: Result) -> Buf:
    content = [factor, x.zero, result.zero, result.low, result.high]
    return program.constants.put(np.array(content, np.float32))


def _types(program: Program, node: Node) -> dict[str, str]:
    values = {"source": need(node.input(0)), "target": need(node.output(0))}
    return {name: program.facts.dtype(value).label for name, value in values.items()}


# --- means over neighboring axes --------------------------------------------------------------------------------------


def _check_mean(view: GraphView, node: Node) -> str | None:
    reason = _check_single(view, node)
    if reason is not None:
        return reason
    shape = view.shape(need(node.input(0)))
    axes = _axes(node, len(shape))
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        return "the axes of the mean are not neighbors"
    count = math.prod(shape[axis] for axis in axes)
    if not 0 < count <= MOST_SUMMED[_bits(view, node)]:
        return f"the mean is of {count!s} numbers"
    return None


def _bits(view: GraphView, node: Node) -> int:
    found = view.tensor_type(need(node.input(0)))
    assert found is not None
    return found.dtype.bits


def _axes(node: Node, rank: int) -> list[int]:
    if node.op_type == "QLinearGlobalAveragePool":
        return list(range(2, rank))
    return sorted(normal_axis(int(axis), rank) for axis in node.attr("axes", ()))


@lowers("QLinearGlobalAveragePool", "QLinearReduceMean", check=_check_mean, domain=INTEGERS)
def lower_mean(program: Program, node: Node) -> None:
    x, result = scaled(program, node, 0), result_of(program, node, 3)
    shape = program.facts.shape(x.value)
    axes = _axes(node, len(shape))
    outer, inner = math.prod(shape[: axes[0]]), math.prod(shape[axes[-1] + 1 :])
    length = math.prod(shape[axis] for axis in axes)
    if axes == list(range(2, len(shape))) and program.values.prefers_channels_last(x.value):
        _emit_mean_of_pixels(program, x, result, shape, length)
        return
    source, target = program.values.read(x.value), program.values.write(result.value)
    numbers = _numbers(program, x.scale / result.scale, x, result)
    words: dict[str, Word | Sequence[Word]] = {"source": source, "target": target, "length": length, "numbers": numbers}
    types = _types(program, node)
    work = program.facts.size(x.value) / 4
    if is_same(inner, 1):
        program.steps.emit(numba_source(KERNELS, "mean_rows", **types), words, extent=outer, work=work)
        return
    parts = -(-inner // COLUMNS)
    words |= {"sums": Buf.scratch(4 * outer * inner), "columns": inner, "part": COLUMNS, "parts": parts}
    program.steps.emit(numba_source(KERNELS, "mean_columns", **types), words, extent=outer * parts, work=work)


def _emit_mean_of_pixels(program: Program, x: Scaled, result: Result, shape: Sequence[int], pixels: int) -> None:
    source, spec = program.facts.dtype(x.value).label, _requantization(program, result)
    parts = -(-shape[1] // (program.settings.target.vector_bits // 8))  # as many numbers as bytes in a vector
    program.steps.emit(
        generated(
            "mace_cpu.quantized.generate_means",
            f"mean_of_{source}_pixels_{spec.tag}",
            source,
            spec,
            words=lambda: PIXEL_WORDS,
        ),
        {
            "source": program.values.read(x.value, Layout.CHANNELS_LAST),
            "target": program.values.write(result.value),
            "channels": shape[1],
            "pixels": pixels,
            "parts": parts,
            **_byte_words(x, result),
        },
        extent=0 if is_same(program.facts.size(result.value), 0) else shape[0] * parts,
        work=program.facts.size(x.value) / 8,
    )


# --- means over windows -----------------------------------------------------------------------------------------------


def _check_windows(view: GraphView, node: Node) -> str | None:
    reason = _check_single(view, node)
    spatial = 0 if reason is not None else len(view.shape(need(node.input(0)))) - 2
    if reason is None and not 1 <= spatial <= MOST_SPATIAL_AXES:
        return f"pooling over {spatial} spatial axes; the kernels take one to {MOST_SPATIAL_AXES}"
    return reason


@lowers("QLinearAveragePool", check=_check_windows, domain=INTEGERS)
def lower_average_pool(program: Program, node: Node) -> None:
    x, result = scaled(program, node, 0), result_of(program, node, 3)
    shape, target = program.facts.shape(x.value), program.facts.shape(result.value)
    windows = windows_of(node, shape, target)
    size = program.facts.size(result.value)
    if program.values.prefers_channels_last(x.value):
        mean = _requantization(program, result)
        words = {"counts_padding": int(node.attr("count_include_pad", 0)), **_byte_words(x, result)}
        emit_byte_pool(program, BytePool(_types(program, node)["source"], mean), x.value, result.value, windows, words)
        return
    program.steps.emit(
        numba_source(KERNELS, "window_means", **_types(program, node)),
        {
            "source": program.values.read(x.value),
            "target": program.values.write(result.value),
            "numbers": _numbers(program, x.scale / result.scale, x, result),
            "inputs": windows.inputs,
            "outputs": windows.outputs,
            "taps": windows.taps,
            "strides": windows.strides,
            "begins": windows.begins,
            "dilations": windows.dilations,
            "ends": windows.ends,
            "counts_padding": int(node.attr("count_include_pad", 0)),
        },
        extent=0 if is_same(size, 0) else shape[0] * shape[1] * windows.outputs[0] * windows.outputs[1],
        work=size * math.prod(windows.taps),
    )


def _requantization(program: Program, result: Result) -> Requantization:
    held = program.facts.dtype(result.value)
    limits = np.iinfo(held.numpy)
    return Requantization(held.label, bounded=(result.low, result.high) != (limits.min, limits.max), far=True)


def _byte_words(x: Scaled, result: Result) -> dict[str, Word]:
    return {
        "x_zero": x.zero,
        "ratio": float(x.scale / result.scale),
        "zero": result.zero,
        "low": result.low,
        "high": result.high,
    }


# --- Softmax ----------------------------------------------------------------------------------------------------------


def _check_softmax(view: GraphView, node: Node) -> str | None:
    reason = _check_single(view, node)
    if reason is not None:
        return reason
    shape = view.shape(need(node.input(0)))
    if not shape:
        return "Softmax of a scalar"
    if _bits(view, node) > 8 and not is_same(math.prod(shape[softmax_axes(view.opset(), node, len(shape))[1] :]), 1):
        return "Softmax of 16 bits along another axis than the last"
    return None


@lowers("QLinearSoftmax", check=_check_softmax, domain=INTEGERS)
def lower_softmax(program: Program, node: Node) -> None:
    x, result = scaled(program, node, 0), result_of(program, node, 3)
    shape = program.facts.shape(x.value)
    first, last = softmax_axes(program.facts.view.opset(), node, len(shape))
    outer, length, inner = (math.prod(shape[part]) for part in (slice(first), slice(first, last), slice(last, None)))
    size = program.facts.size(x.value)
    if is_same(inner, 1):
        _emit_softmax_of_rows(program, x, result, outer, length)
        return
    table = np.exp(-np.arange(256, dtype=np.float64) * float(x.scale)).astype(np.float32)
    program.steps.emit(
        numba_source(KERNELS, "softmax", **_types(program, node)),
        {
            "source": program.values.read(x.value),
            "target": program.values.write(result.value),
            "exponentials": program.constants.put(table),
            "numbers": _numbers(program, np.float32(1) / result.scale, x, result),
            "length": length,
            "inner": inner,
        },
        extent=0 if is_same(size, 0) else outer * inner,
        work=size * 4,
    )


def _emit_softmax_of_rows(program: Program, x: Scaled, result: Result, rows: int, length: int) -> None:
    size = program.facts.size(x.value)
    source = program.facts.dtype(x.value).label
    spec = _requantization(program, result)
    program.steps.emit(
        generated(
            "mace_cpu.quantized.generate_softmax",
            f"softmax_of_{source}_{spec.tag}",
            source,
            spec,
            words=lambda: SOFTMAX_WORDS,
        ),
        {
            "source": program.values.read(x.value),
            "target": program.values.write(result.value),
            "length": length,
            "step": float(x.scale),
            "inverse": float(np.float32(1) / result.scale),
            "zero": result.zero,
            "low": result.low,
            "high": result.high,
        },
        extent=0 if is_same(size, 0) else rows,
        work=size * 2,
    )


def softmax_axes(opset: int, node: Node, rank: int) -> tuple[int, int]:
    """The axes, from the first to the one behind the last, that are normalized together: until opset 13 all from the
    given one on."""
    if opset < ONE_AXIS_SINCE:
        return normal_axis(int(node.attr("axis", 1)), rank), rank
    axis = normal_axis(int(node.attr("axis", -1)), rank)
    return axis, axis + 1

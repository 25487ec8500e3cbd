"""Quantized operators: QuantizeLinear, DequantizeLinear, and products and convolutions of integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import hint
from mace_core.tensor import DType
from mace_cpu.quantized.border import emit_border
from mace_cpu.quantized.chains import begins_chain
from mace_cpu.quantized.float_ops import encoding_of_border, joins_product, leave
from mace_cpu.quantized.lower_whole import emit_whole_product, output_cast, takes_whole_product
from mace_cpu.quantized.products.bytes import emit_integer_product, emit_quantized_product
from mace_cpu.shared.checks import FLOAT32, NARROW_FLOATS, SHORT_INTEGERS, all_concrete, dtype_in
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.nodes import even_rows, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.quantized.kernels"
BYTES = frozenset({DType.INT8, DType.UINT8})
SHORTS = BYTES | {DType.INT16, DType.UINT16}
INT32 = frozenset({DType.INT32})
REALS = frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16})
SCALES = REALS | {DType.FLOAT8E8M0}
STORED = SHORTS | SHORT_INTEGERS | (NARROW_FLOATS - {DType.FLOAT8E8M0})


# --- between floats and quantized numbers -----------------------------------------------------------------------------


def _check_quantize(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), REALS | INT32)
    reason = reason or dtype_in(view, node.input(1), SCALES) or dtype_in(view, node.output(0), STORED)
    if reason is None and node.attr("precision", 0):
        asked = DType(node.attr("precision"))
        if asked not in REALS:
            return f"there is no dividing in {asked.label}"
    return reason or _check_granularity(view, node)


def _check_dequantize(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), STORED | INT32)
    reason = reason or dtype_in(view, node.input(1), SCALES) or dtype_in(view, node.output(0), REALS)
    return reason or _check_granularity(view, node)


def _check_granularity(view: GraphView, node: Node) -> str | None:
    """A reason if the scale is neither one number, nor one per entry of the axis, nor one per block."""
    data, scale, zero = need(node.input(0)), need(node.input(1)), node.input(2)
    shape, scales = view.shape(data), view.shape(scale)
    if zero is not None and math.prod(view.shape(zero)) != math.prod(scales):
        return f"'{zero.name}' has not as many elements as the scale"
    if math.prod(scales) == 1 and not node.attr("block_size", 0):
        return None
    axis = normal_axis(int(node.attr("axis", 1)), len(shape))
    block = int(node.attr("block_size", 0))
    if block and scales != (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]):
        return f"the scales' shape {list(scales)} does not fit blocks of {block}"
    if not block and math.prod(scales) != shape[axis]:
        return f"there are {math.prod(scales)} scales for {shape[axis]} entries of axis {axis}"
    return None


@lowers("QuantizeLinear", check=_check_quantize)
def lower_quantize(program: Program, node: Node) -> None:
    if emit_border(program, node):
        return
    data, scale, target = (program.facts.dtype(need(value)) for value in (node.input(0), node.input(1), node.output(0)))
    types = {"target": target.label, "scale": scale.label, "precision": _precision(node, data, scale).label}
    if target in NARROW_FLOATS:
        _emit_linear(program, node, "quantize_float", **types, saturate=str(int(node.attr("saturate", 1))))
    else:
        _emit_linear(program, node, "quantize", **types)


def _precision(node: Node, data: DType, scale: DType) -> DType:
    """The type that is divided in: what numpy's rules make of the two where the node does not say."""
    asked = int(node.attr("precision", 0))
    if asked:
        return DType(asked)
    return data if data is scale and data in REALS else DType.FLOAT32


@lowers("DequantizeLinear", check=_check_dequantize)
def lower_dequantize(program: Program, node: Node) -> None:
    target = need(node.output(0))
    content = _known_reals(program, node)
    if content is not None:
        program.facts.know(target, content)
        return
    readers = program.facts.view.users(target)
    is_left = encoding_of_border(program, node) is not None and not program.facts.view.is_output(target)
    if is_left and any(joins_product(program, user, target) or begins_chain(program, user, target) for user in readers):
        leave(program, node, lambda: _emit_dequantize(program, node))
        return
    _emit_dequantize(program, node)


def _emit_dequantize(program: Program, node: Node) -> None:
    if emit_border(program, node):
        return
    scale, target = program.facts.dtype(need(node.input(1))).label, need(node.output(0))
    _emit_linear(program, node, "dequantize", scale=scale, target=program.facts.dtype(target).label)


def _known_reals(program: Program, node: Node) -> npt.NDArray[Any] | None:
    """What weights stand for, computed once; None where something is not known before the run."""
    given = [program.facts.constant_of(value) for value in node.inputs if value is not None]
    if any(array is None for array in given):
        return None
    data, scale, *zeros = (array for array in given if array is not None)
    dtype = program.facts.dtype(need(node.output(0))).numpy
    block = int(node.attr("block_size", 0))
    if scale.size > 1 or block:
        axis = normal_axis(int(node.attr("axis", 1)), data.ndim)
        if block:
            rows = np.arange(data.shape[axis]) // block
            scale, zeros = scale.take(rows, axis), [zero.reshape(scale.shape).take(rows, axis) for zero in zeros]
        else:
            lane = [-1 if i == axis else 1 for i in range(data.ndim)]
            scale, zeros = scale.reshape(lane), [zero.reshape(lane) for zero in zeros]
    kind = np.float32 if program.facts.dtype(need(node.input(0))) in NARROW_FLOATS else np.int32
    whole = data.astype(kind)
    for zero in zeros:
        whole = whole - zero.astype(kind)
    content: npt.NDArray[Any] = (whole.astype(np.float32) * scale.astype(np.float32)).astype(dtype)
    return np.ascontiguousarray(content.reshape(data.shape))


def _emit_linear(program: Program, node: Node, kernel: str, **types: str) -> None:
    data, scale, zero = need(node.input(0)), need(node.input(1)), node.input(2)
    shape = program.facts.shape(data)
    block = int(node.attr("block_size", 0))
    size, inner, rows = 0, program.facts.size(data), 1
    if block or program.facts.size(scale) > 1:
        axis = normal_axis(int(node.attr("axis", 1)), len(shape))
        size, inner, rows = shape[axis], math.prod(shape[axis + 1 :]), math.prod(shape[: axis + 1])
    elif hint(inner) > 4096:
        rows, inner = even_rows(shape)
    program.steps.emit(
        numba_source(KERNELS, kernel, source=program.facts.dtype(data).label, **types),
        {
            "source": program.values.read(data),
            "scale": program.values.read(scale),
            "zero": 0 if zero is None else program.values.read(zero),
            "target": program.values.write(need(node.output(0))),
            "size": size,
            "inner": inner,
            "block": block,
        },
        extent=rows if program.facts.size(data) else 0,
        work=program.facts.size(data) * 4,
    )


# --- products ---------------------------------------------------------------------------------------------------------


def _check_integer_product(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index in range(4):
        reason = reason or dtype_in(view, node.input(index), BYTES)
    return reason or _check_zero_points(view, node, 0, 1, 2, 3)


def _check_zero_points(view: GraphView, node: Node, a: int, b: int, a_zero: int, b_zero: int) -> str | None:
    """A reason if zero points are neither one for all nor one per row or column of a single matrix."""
    left, right = view.shape(need(node.input(a))), view.shape(need(node.input(b)))
    for index, size in ((a_zero, left[-2] if len(left) > 1 else 1), (b_zero, right[-1])):
        value = node.input(index)
        count = 1 if value is None else math.prod(view.shape(value))
        if count not in (1, size):
            return f"{count} zero points or scales do not fit {size} rows or columns"
    return None


def _emit_product(program: Program, a: Value, b: Value, zeros: Sequence[Value | None], target: Buf) -> None:
    """int32 products of all rows into ``target``."""
    if takes_whole_product(program, a, b, zeros):
        emit_whole_product(program, a, b, zeros, target)
        return
    left, right = program.facts.shape(a), program.facts.shape(b)
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    rows, depth, columns = left[-2], left[-1], right[-1]
    rank = max(len(left), len(right)) - 2
    batches = [(1,) * (rank + 2 - len(shape)) + tuple(shape[:-2]) for shape in (left, right)]
    sizes = [max(pair) if min(pair) else 0 for pair in zip(*batches, strict=True)]
    a_strides, b_strides = (
        [0 if size == 1 else unit * step for size, step in zip(batch, strides_of(batch), strict=True)]
        for batch, unit in zip(batches, (rows * depth, depth * columns), strict=True)
    )
    a_zeros, b_zeros = zeros
    extent = math.prod(sizes) * rows
    program.steps.emit(
        numba_source(KERNELS, "integer_matmul", left=program.facts.dtype(a).label, right=program.facts.dtype(b).label),
        {
            "a": program.values.read(a),
            "b": program.values.read(b),
            "a_zeros": 0 if a_zeros is None else program.values.read(a_zeros),
            "b_zeros": 0 if b_zeros is None else program.values.read(b_zeros),
            "target": target,
            "rows": rows,
            "columns": columns,
            "depth": depth,
            "a_zeros_count": 1 if a_zeros is None else program.facts.size(a_zeros),
            "b_zeros_count": 1 if b_zeros is None else program.facts.size(b_zeros),
            "rank": rank,
            "sizes": sizes,
            "a_strides": a_strides,
            "b_strides": b_strides,
        },
        extent=extent if columns else 0,
        work=extent * columns * depth,
    )


@lowers("MatMulInteger", check=_check_integer_product)
def lower_integer_product(program: Program, node: Node) -> None:
    if emit_integer_product(program, node):
        return
    a, b, zeros = need(node.input(0)), need(node.input(1)), [node.input(2), node.input(3)]
    if takes_whole_product(program, a, b, zeros):
        converted = output_cast(program, node)
        target = program.values.write(need(node.output(0)) if converted is None else converted)
        emit_whole_product(program, a, b, zeros, target, as_float=converted is not None)
    else:
        _emit_product(program, a, b, zeros, program.values.write(need(node.output(0))))


def _check_quantized_product(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index in (0, 2, 3, 5, 7):
        reason = reason or dtype_in(view, node.input(index), BYTES)
    for index in (1, 4, 6):
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    reason = reason or _check_zero_points(view, node, 0, 3, 2, 5) or _check_zero_points(view, node, 0, 3, 1, 4)
    if reason is None and any(math.prod(view.shape(need(node.input(i)))) != 1 for i in (6, 7)):
        return "the result has more than one scale or zero point"
    return reason


@lowers("QLinearMatMul", check=_check_quantized_product)
def lower_quantized_product(program: Program, node: Node) -> None:
    if emit_quantized_product(program, node):
        return
    a, b, target = need(node.input(0)), need(node.input(3)), need(node.output(0))
    sums = Buf.scratch(4 * program.facts.size(target))
    _emit_product(program, a, b, [node.input(2), node.input(5)], sums)
    columns = program.facts.shape(b)[-1] if len(program.facts.shape(b)) > 1 else 1
    emit_requantize(program, node, sums, None, (1, 4, 6, 7), columns, 1)


def emit_requantize(
    program: Program, node: Node, sums: Buf, bias: Value | None, scales: Sequence[int], channels: int, inner: int
) -> None:
    """Emit what makes the result of ``node`` of its sums, within the bounds that it may have as attributes.

    Args:
        bias: one number per channel: int32, or float32 in steps of 1.
        scales: inputs with the row, channel and target scales, and the target's zero point.
    """
    target = need(node.output(0))
    row, channel, out, zero = (node.input(index) for index in scales)
    held = np.iinfo(program.facts.dtype(target).numpy)
    is_float = bias is not None and program.facts.dtype(bias) is DType.FLOAT32
    offset = 0 if bias is None else program.values.read(bias)
    program.steps.emit(
        numba_source(KERNELS, "requantize", target=program.facts.dtype(target).label),
        {
            "sums": sums,
            "bias": 0 if is_float else offset,
            "float_bias": offset if is_float else 0,
            "row_scales": program.values.read(need(row)),
            "row_scales_count": program.facts.size(need(row)),
            "channel_scales": program.values.read(need(channel)),
            "channel_scales_count": program.facts.size(need(channel)),
            "target_scale": program.values.read(need(out)),
            "zero": 0 if zero is None else program.values.read(zero),
            "target": program.values.write(target),
            "channels": channels,
            "inner": inner,
            "low": int(node.attr("minimum", held.min)),
            "high": int(node.attr("maximum", held.max)),
        },
        extent=program.facts.size(target) // inner if inner else 0,
        work=program.facts.size(target) * 4,
    )

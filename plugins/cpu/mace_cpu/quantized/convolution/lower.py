"""Convolutions of integers: ConvInteger and QLinearConv.

Known weights on a result of up to two axes go through the kernels for bytes (`dense`); everything else through floats
that hold whole numbers exactly, or a plain kernel.  Sums are exact.  ``round(sum * (sx * sw / sy))``, to nearest even,
is what onnxruntime's QLinearConv computes, bit by bit; a result of DequantizeLinear, Conv and QuantizeLinear is within
one step of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node, Value, sliding_window
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.quantized.convolution.bytes import (
    check_wide,
    emit_integer_bytes,
    emit_quantized_bytes,
    emit_transposed_bytes,
)
from mace_cpu.quantized.convolution.checks import check_real_conv
from mace_cpu.quantized.convolution.transposed import check_transposed
from mace_cpu.quantized.integer_form import INTEGERS, NUMBERS
from mace_cpu.quantized.lower import BYTES, INT32, KERNELS, emit_requantize
from mace_cpu.quantized.lower_whole import emit_whole_conv, output_cast, takes_whole_conv
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


def _check_integer_conv(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index in range(4):
        reason = reason or dtype_in(view, node.input(index), BYTES)
    return reason or _check_conv(view, node, 0, 1, (2,), 3)


def _check_conv(
    view: GraphView, node: Node, data: int, weight: int, single: Sequence[int], per_channel: int
) -> str | None:
    shape, weights = view.shape(need(node.input(data))), view.shape(need(node.input(weight)))
    if not 3 <= len(shape) <= 5:
        return f"convolutions have 1 to 3 spatial dimensions, not {len(shape) - 2}"
    for index in single:
        value = node.input(index)
        if value is not None and math.prod(view.shape(value)) != 1:
            return f"'{value.name}' is not one number"
    zeros = node.input(per_channel)
    if zeros is not None and math.prod(view.shape(zeros)) not in (1, weights[0]):
        return f"'{zeros.name}' has neither one element nor one per output channel"
    return None


def _emit_conv(
    program: Program, node: Node, data: Value, weight: Value, zeros: Sequence[Value | None], out: Buf
) -> None:
    if takes_whole_conv(program, node, data, weight, zeros):
        emit_whole_conv(program, node, data, weight, zeros, out)
        return
    shape, weights, results = (
        program.facts.shape(data),
        program.facts.shape(weight),
        program.facts.shape(need(node.output(0))),
    )
    rank = len(shape) - 2
    window = sliding_window(node, shape[2:], weights[2:])
    x_zero, w_zeros = zeros
    fill = [1] * (3 - rank)
    program.steps.emit(
        numba_source(
            KERNELS, "integer_conv", data=program.facts.dtype(data).label, weight=program.facts.dtype(weight).label
        ),
        {
            "x": program.values.read(data),
            "w": program.values.read(weight),
            "x_zero": 0 if x_zero is None else program.values.read(x_zero),
            "w_zeros": 0 if w_zeros is None else program.values.read(w_zeros),
            "target": out,
            "w_zeros_count": 1 if w_zeros is None else program.facts.size(w_zeros),
            "out_channels": weights[0],
            "in_channels": shape[1],
            "groups": int(node.attr("group", 1)),
            "sizes": [*fill, *shape[2:]],
            "results": [*fill, *results[2:]],
            "kernel": [*fill, *window.kernel],
            "strides": [*fill, *window.strides],
            "dilations": [*fill, *window.dilations],
            "pads": [*([0] * len(fill)), *window.begins],
        },
        extent=results[0] * results[1],
        work=math.prod(results) * math.prod(weights[1:]),
    )


@lowers("ConvInteger", check=_check_integer_conv)
def lower_integer_conv(program: Program, node: Node) -> None:
    if emit_integer_bytes(program, node):
        return
    x, w, zeros = need(node.input(0)), need(node.input(1)), [node.input(2), node.input(3)]
    if takes_whole_conv(program, node, x, w, zeros):
        converted = output_cast(program, node)
        target = program.values.write(need(node.output(0)) if converted is None else converted)
        emit_whole_conv(program, node, x, w, zeros, target, as_float=converted is not None)
    else:
        _emit_conv(program, node, x, w, zeros, program.values.write(need(node.output(0))))


def _check_quantized_conv(view: GraphView, node: Node) -> str | None:
    reason = _check_types(view, node, NUMBERS if node.domain == INTEGERS else BYTES)
    reason = reason or dtype_in(view, node.input(8), INT32 | FLOAT32 if node.domain == INTEGERS else INT32)
    reason = reason or _check_conv(view, node, 0, 3, (1, 2, 6, 7), 5) or _check_conv(view, node, 0, 3, (), 4)
    reason = reason or (check_real_conv(view, node) if node.input(6) is None else None)
    return reason or check_wide(view, node)


def _check_types(view: GraphView, node: Node, allowed: frozenset[DType]) -> str | None:
    """A reason if input, zero points and result are of none of the ``allowed`` types, or weights not of 8 bits."""
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), allowed | FLOAT32)
    for index in (0, 2, 7):
        reason = reason or dtype_in(view, node.input(index), allowed)
    for index in (3, 5):
        reason = reason or dtype_in(view, node.input(index), BYTES)
    for index in (1, 4, 6):
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    return reason


@lowers("QLinearConv", check=_check_quantized_conv)
@lowers("QLinearConv", check=_check_quantized_conv, domain=INTEGERS)
def lower_quantized_conv(program: Program, node: Node) -> None:
    if emit_quantized_bytes(program, node):
        return
    target = need(node.output(0))
    results = program.facts.shape(target)
    sums = Buf.scratch(4 * program.facts.size(target))
    _emit_conv(program, node, need(node.input(0)), need(node.input(3)), [node.input(2), node.input(5)], sums)
    emit_requantize(program, node, sums, node.input(8), (1, 4, 6, 7), results[1], math.prod(results[2:]))


def _check_quantized_transpose(view: GraphView, node: Node) -> str | None:
    reason = _check_types(view, node, NUMBERS) or dtype_in(view, node.input(8), INT32 | FLOAT32)
    single = [value for index in (1, 2, 6, 7) if (value := node.input(index)) is not None]
    if reason is None and any(math.prod(view.shape(value)) != 1 for value in single):
        return "input or result has more than one scale or zero point"
    return reason or check_transposed(view, node)


@lowers("QLinearConvTranspose", check=_check_quantized_transpose, domain=INTEGERS)
def lower_quantized_transpose(program: Program, node: Node) -> None:
    emit_transposed_bytes(program, node)

"""Nodes that multiply bytes, through the kernels made for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_same, is_symbolic
from mace_core.tensor import DType
from mace_cpu.quantized.convolution.following import follow
from mace_cpu.quantized.float_ops import Ending, end_of
from mace_cpu.quantized.products.emit import (
    KERNELS,
    Factors,
    Finish,
    emit_bytes_product,
    padded_columns,
    per_column,
    shape_of,
)
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program

LARGEST_WHOLE = 1 << 30
"""Sums times their scales beyond it might leave int32 when they are rounded."""

BYTES = frozenset({DType.INT8, DType.UINT8})
LARGEST_PRODUCT = 255 * 255


def emit_integer_product(program: Program, node: Node) -> bool:
    """Emit a MatMulInteger; False, and nothing emitted, where the kernels do not cover it.

    A Cast to float32 behind it and what is done to the floats, scales that the run brings first of all, are fused.
    """
    inputs = [node.input(index) for index in range(4)]
    factors = _factors(program, need(inputs[0]), need(inputs[1]), inputs[2], inputs[3])
    if factors is None:
        return False
    result = need(node.output(0))
    if is_same(program.facts.size(result), 0):
        program.values.write(result)
        return True
    cast = program.fusion.sole_user(result)
    if cast is None or cast.domain or cast.op_type != "Cast" or len(program.facts.shape(result)) < 2:
        emit_bytes_product(program, factors, Finish(Requantization("int32"), program.values.write(result)))
        return True
    value = need(cast.output(0))
    if program.facts.dtype(value) is not DType.FLOAT32:
        emit_bytes_product(program, factors, Finish(Requantization("int32"), program.values.write(result)))
        return True
    program.fusion.fuse(cast)
    value, scales = _scaled(program, factors, value)
    epilogue, final = match_epilogue(program, value, channel_axis=-1)
    tensors = [program.values.read(tensor) for tensor in epilogue.tensors]
    then = Epilogue(epilogue.ops, epilogue.channels)
    target = program.values.write(final)
    emit_bytes_product(
        program, factors, Finish(Requantization("float32"), target, scales=scales, epilogue=then, tensors=tensors)
    )
    return True


def emit_quantized_product(program: Program, node: Node) -> bool:
    """Emit a QLinearMatMul, with a bias and bounds where it has them, as `emit_integer_product`."""
    return _emit_requantized(program, node, bias=8, result=(6, 7), transposed=False)


def emit_quantized_gemm(program: Program, node: Node) -> bool:
    """Emit a QGemm, as `emit_quantized_product`."""
    if node.attr("transA", 0) or node.attr("alpha", 1.0) != 1:
        return False
    return _emit_requantized(program, node, bias=6, result=(7, 8), transposed=bool(node.attr("transB", 0)))


def _emit_requantized(program: Program, node: Node, *, bias: int, result: tuple[int, int], transposed: bool) -> bool:
    facts = program.facts
    left, right = need(node.input(0)), need(node.input(3))
    if transposed and facts.constant_of(right) is None:
        return False
    factors = _factors(program, left, right, node.input(2), node.input(5), transposed=transposed)
    given = [facts.constant_of(node.input(index)) for index in (1, 4, *result)]
    is_real = node.input(result[0]) is None
    if is_real:
        given[2:] = [np.ones(1, np.float32), np.zeros(1, np.int8)]
    if factors is None or any(array is None for array in given):
        return False
    left_scale, right_scale, scale, zero = (np.asarray(array).reshape(-1) for array in given)
    columns = shape_of(program, factors).columns
    if left_scale.size != 1 or scale.size != 1 or zero.size != 1 or right_scale.size not in (1, columns):
        return False
    offset = facts.constant_of(node.input(bias))
    if node.input(bias) is not None and (offset is None or offset.size not in (1, columns)):
        return False
    with np.errstate(all="ignore"):
        scales = (left_scale * right_scale / scale).astype(np.float32)
    float_bias: npt.NDArray[Any] | None = None
    whole_bias: npt.NDArray[Any] | None = None
    if offset is not None and offset.dtype == np.float32:
        float_bias = (offset.reshape(-1) / scale).astype(np.float32)
    elif offset is not None:
        whole_bias = np.broadcast_to(offset.reshape(-1).astype(np.int64), (columns,))
    if not np.isfinite(scales).all() or (float_bias is not None and not np.isfinite(float_bias).all()):
        return False
    final = need(node.output(0))
    if is_same(facts.size(final), 0):
        program.values.write(final)
        return True
    numbers = _Numbers(scales, float_bias, whole_bias)
    end = _real_end(program, node, numbers) if is_real else _end(program, node, factors, numbers, int(zero[0]))
    padded = padded_columns(program, shape_of(program, factors))
    width = None if is_symbolic(columns) else padded
    spec, value, following = end.spec, end.value, []
    if spec.is_quantized:
        followers = follow(program, value, end.zero, Layout.PLAIN, width)
        spec, value = replace(spec, following=tuple(followers.operations)), followers.result
        following = followers.words
    floats = [] if end.operands is None else end.operands.words(lambda array: per_column(program, array, padded))
    finish = Finish(
        spec,
        program.values.write(value),
        bias=whole_bias,
        scales=scales,
        float_bias=float_bias,
        words=[end.zero, end.low, end.high, *floats, *following],
    )
    emit_bytes_product(program, factors, finish)
    return True


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What sums are multiplied by, and what is added to them, in float or before."""

    scales: npt.NDArray[Any]
    float_bias: npt.NDArray[Any] | None
    whole_bias: npt.NDArray[Any] | None


def _real_end(program: Program, node: Node, numbers: _Numbers) -> Ending:
    spec = Requantization("float32", float_bias=numbers.float_bias is not None)
    return end_of(program, node, spec, Layout.PLAIN, -1)


def _end(program: Program, node: Node, factors: Factors, numbers: _Numbers, zero: int) -> Ending:
    value = need(node.output(0))
    steps = shape_of(program, factors).steps
    reach = math.inf if is_symbolic(steps) else float(LARGEST_PRODUCT * steps)
    reach += 0.0 if numbers.whole_bias is None else float(np.abs(numbers.whole_bias).max())
    reach *= float(np.abs(numbers.scales).max())
    reach += 0.0 if numbers.float_bias is None else float(np.abs(numbers.float_bias).max())
    dtype = program.facts.dtype(value)
    held = np.iinfo(dtype.numpy)
    low, high = int(node.attr("minimum", held.min)), int(node.attr("maximum", held.max))
    spec = Requantization(
        dtype.label,
        bounded=(low, high) != (held.min, held.max),
        float_bias=numbers.float_bias is not None,
        far=reach > LARGEST_WHOLE,
    )
    return Ending(spec, None, value, zero, low, high)


def _factors(
    program: Program,
    left: Value,
    right: Value,
    left_zero: Value | None,
    right_zero: Value | None,
    *,
    transposed: bool = False,
) -> Factors | None:
    """The operands where the kernels take them: some numbers to multiply, one zero point on the left."""
    facts = program.facts
    factors = Factors(left, right, left_zero, right_zero, transposed)
    if any(facts.dtype(value) not in BYTES for value in (left, right)):
        return None
    if left_zero is not None and not is_same(facts.size(left_zero), 1):
        return None
    columns = shape_of(program, factors).columns
    if right_zero is not None:
        count = facts.size(right_zero)
        if not is_same(count, 1) and not is_same(count, columns):
            return None
        if not is_same(count, 1) and len(facts.shape(right_zero)) != 1:
            return None
    return factors


def _scaled(program: Program, factors: Factors, value: Value) -> tuple[Value, npt.NDArray[Any] | Buf]:
    """The product of ``value`` with scales that the run brings, or 1 where there are none: (it, the scales)."""
    ones = np.ones(1, np.float32)
    user = program.fusion.sole_user(value)
    if user is None or user.domain or user.op_type != "Mul":
        return value, ones
    other = need(user.input(1) if user.input(0) is value else user.input(0))
    pair, made = [other], None
    if not program.values.is_ready(other):
        made = next((node for node in program.facts.view.nodes if other in node.outputs), None)
        if made is None or made.domain or made.op_type != "Mul" or not program.fusion.is_free(made):
            return value, ones
        if program.fusion.sole_user(other) is not user:
            return value, ones
        pair = [need(made.input(0)), need(made.input(1))]
    if program.facts.constant_of(other) is not None or not _fit(program, factors, pair):
        return value, ones
    product = need(user.output(0))
    if not program.facts.have_one_shape(product, value):
        return value, ones
    pair.sort(key=program.facts.size)
    if len(pair) == 2 and program.facts.size(pair[0]) != 1:
        return value, ones
    if made is not None:
        program.fusion.fuse(made)
    program.fusion.fuse(user)
    sizes = shape_of(program, factors)
    columns = padded_columns(program, sizes)
    target = Buf.scratch(4 * columns)
    program.steps.emit(
        numba_source(KERNELS, "factors"),
        {
            "left": program.values.read(pair[0]) if len(pair) == 2 else 0,
            "right": program.values.read(pair[-1]),
            "target": target,
            "count": program.facts.size(pair[-1]),
            "columns": sizes.columns,
            "padded": columns,
        },
        extent=1,
        work=columns,
        name="Scales",
    )
    return product, target


def _fit(program: Program, factors: Factors, scales: list[Value]) -> bool:
    """Whether these are float32, ready, and one number, or one per column along the last axis."""
    columns = shape_of(program, factors).columns
    for value in scales:
        if not program.values.is_ready(value) or program.facts.dtype(value) is not DType.FLOAT32:
            return False
        shape = program.facts.shape(value)
        count = math.prod(shape)
        if not is_same(count, 1) and not (is_same(count, columns) and is_same(shape[-1], columns)):
            return False
    return True

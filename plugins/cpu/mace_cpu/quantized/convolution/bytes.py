"""Convolutions of bytes with known weights through the kernels made for them."""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import Node, Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.conv.geometry import Geometry, conv_geometry
from mace_cpu.quantized.convolution.dense import Key, Requantized, emit_dense
from mace_cpu.quantized.convolution.depthwise import emit_depthwise, fits_depthwise
from mace_cpu.quantized.convolution.following import follow
from mace_cpu.quantized.convolution.weights import Weights, signed_weights_of
from mace_cpu.quantized.lower_whole import output_cast
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.program import Program

LARGEST_WHOLE = 1 << 30
"""Sums times their scales beyond it might leave int32 when they are rounded."""


def emit_quantized_bytes(program: Program, node: Node) -> bool:
    """Emit a QLinearConv of bytes with known weights; False, and nothing emitted, where the kernels do not cover it."""
    found = _operands(program, node, data=0, weight=3, zeros=(2, 5))
    given = [program.facts.constant_of(node.input(index)) for index in (1, 4, 6, 7)]
    if found is None or any(array is None for array in given):
        return False
    geometry, weights, zero = found
    x_scale, w_scale, y_scale, y_zero = (np.asarray(array).reshape(-1) for array in given)
    bias = node.input(8)
    offset = program.facts.constant_of(bias)
    if (bias is not None and offset is None) or y_scale.size != 1 or y_zero.size != 1:
        return False
    with np.errstate(all="ignore"):
        scales = np.broadcast_to(x_scale * w_scale / y_scale, (geometry.out_channels,)).astype(np.float32)
    float_bias = whole_bias = None
    if offset is not None and offset.dtype == np.float32:
        float_bias = offset.reshape(-1) / y_scale
    elif offset is not None:
        whole_bias = offset.reshape(-1).astype(np.int64)
    if not np.isfinite(scales).all() or (float_bias is not None and not np.isfinite(float_bias).all()):
        return False
    largest = weights.largest + (0 if whole_bias is None else int(np.abs(whole_bias).max()))
    reach = float(largest) * float(np.abs(scales).max())
    reach += 0.0 if float_bias is None else float(np.abs(float_bias).max())
    result = need(node.output(0))
    held = np.iinfo(program.facts.dtype(result).numpy)
    low, high = int(node.attr("minimum", held.min)), int(node.attr("maximum", held.max))
    followers = follow(program, result, int(y_zero[0]))
    spec = Requantization(
        program.facts.dtype(result).label,
        bounded=(low, high) != (held.min, held.max),
        float_bias=float_bias is not None,
        far=reach > LARGEST_WHOLE,
        following=tuple(followers.operations),
    )
    requantized = Requantized(
        spec,
        np.zeros(geometry.out_channels, np.int64) if whole_bias is None else whole_bias,
        scales,
        float_bias,
        int(y_zero[0]),
        low,
        high,
        followers.words,
    )
    target = program.values.write(followers.result, Layout.CHANNELS_LAST)
    _emit(program, geometry, need(node.input(0)), weights, _key(program, node, 3, 5), requantized, target, zero)
    return True


def emit_integer_bytes(program: Program, node: Node) -> bool:
    """Emit a ConvInteger, as `emit_quantized_bytes`; a Cast to float32 after it is taken."""
    found = _operands(program, node, data=0, weight=1, zeros=(2, 3))
    if found is None:
        return False
    geometry, weights, zero = found
    converted = output_cast(program, node)
    result = need(node.output(0)) if converted is None else converted
    spec = Requantization("int32" if converted is None else "float32")
    ones = np.ones(geometry.out_channels, np.float32)
    requantized = Requantized(spec, np.zeros(geometry.out_channels, np.int64), ones, None, 0, 0, 0)
    shape = program.facts.shape(result)
    target = Buf.scratch(4 * program.facts.size(result))
    _emit(program, geometry, need(node.input(0)), weights, _key(program, node, 1, 3), requantized, target, zero)
    pixel = [shape[1] * math.prod(shape[axis + 1 :]) for axis in range(2, len(shape))]
    strides = (math.prod(shape[1:]), 1, *pixel)
    program.values.show(result, Strided(target, 0, tuple(shape), strides), node)
    return True


def _operands(
    program: Program, node: Node, *, data: int, weight: int, zeros: tuple[int, int]
) -> tuple[Geometry, Weights, int] | None:
    """The convolution, its weights and the zero point of its input; None where the kernels do not cover it."""
    facts = program.facts
    x, w, y = need(node.input(data)), need(node.input(weight)), need(node.output(0))
    known = facts.constant_of(w)
    x_zero, w_zero = (facts.constant_of(node.input(index)) for index in zeros)
    is_missing = any(
        node.input(index) is not None and found is None for index, found in zip(zeros, (x_zero, w_zero), strict=True)
    )
    if known is None or is_missing or facts.is_constant(x) or not 3 <= len(facts.shape(x)) <= 4:
        return None
    if known.dtype.itemsize != 1 or (x_zero is not None and x_zero.size != 1):
        return None
    if any(is_same(size, 0) for value in (x, w, y) for size in facts.shape(value)):
        return None
    if facts.dtype(x) not in (DType.INT8, DType.UINT8):
        return None
    geometry = conv_geometry(node, facts.shape(x), known.shape, facts.shape(y))
    if not geometry.is_generated:
        return None
    weights = signed_weights_of(known, w_zero)
    if weights.zeros is not None and geometry.groups > 1:
        return None
    return geometry, weights, 0 if x_zero is None else int(x_zero.reshape(-1)[0])


def _key(program: Program, node: Node, weight: int, zeros: int) -> Key:
    """Under what packed weights are kept."""
    array = program.facts.constant_of(need(node.input(weight)))
    zero = program.facts.constant_of(node.input(zeros))
    assert array is not None
    return array, ("bytes", node.attr("group", 1), b"" if zero is None else zero.tobytes())


def _emit(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Weights,
    key: Key,
    result: Requantized,
    target: Buf,
    zero: int,
) -> None:
    emit = emit_depthwise if result.spec.is_bytes and fits_depthwise(geometry) else emit_dense
    emit(program, geometry, x, weights, key, result, target, zero)

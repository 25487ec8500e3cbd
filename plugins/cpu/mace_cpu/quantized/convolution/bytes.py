"""Convolutions of bytes and of wide numbers (16 bits) with known weights through the kernels made for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import is_same
from mace_cpu.conv.geometry import Geometry, conv_geometry, transpose_geometry
from mace_cpu.conv.transposed.lower import as_convolution
from mace_cpu.quantized.convolution.dense import Key, Requantized, emit_dense
from mace_cpu.quantized.convolution.depthwise import emit_depthwise, fits_depthwise, for_words
from mace_cpu.quantized.convolution.following import follow
from mace_cpu.quantized.convolution.opened import Opened
from mace_cpu.quantized.convolution.scaling import scaling_of
from mace_cpu.quantized.convolution.transposed import emit_phases
from mace_cpu.quantized.convolution.weights import DEEPEST, Weights, signed_weights_of
from mace_cpu.quantized.float_ops import end_of, show_channels_last
from mace_cpu.quantized.integer_form import NUMBERS, WORDS
from mace_cpu.shared.checks import dtype_in
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.program import Program

LARGEST_WHOLE = 1 << 30
"""Sums times their scales beyond it might leave int32 when they are rounded."""

WORD_STEPS = 65535 / 255
"""How much farther a wide number may be from its zero point than a byte."""


def emit_quantized_bytes(program: Program, node: Node) -> bool:
    """Emit a QLinearConv of bytes with known weights; False, and nothing emitted, where the kernels do not cover it."""
    found = _operands(program, node, data=0, weight=3, zeros=(2, 5))
    numbers = None if found is None else requantization_of(program, node, found[0].out_channels, found[1].largest)
    if found is None or numbers is None:
        return False
    geometry, weights, zero = found
    assert zero is not None
    result, value, target = result_of_sums(program, node, numbers)
    _emit(program, geometry, need(node.input(0)), weights, _key(program, node, 3, 5), result, target, zero)
    show_channels_last(program, node, value, target)
    return True


def result_of_sums(
    program: Program,
    node: Node,
    numbers: Requantized,
    layout: Layout = Layout.CHANNELS_LAST,
    channel_axis: int = 1,
    real: Value | None = None,
) -> tuple[Requantized, Value, Buf]:
    """What becomes of the sums with all that is done behind ``node``; the value that is stored, and where it goes.

    ``real``: the float32 that is computed so far, where it is not the result of ``node``.
    """
    value, operations = need(node.output(0)), numbers
    if not numbers.spec.is_quantized:
        end = end_of(program, node, numbers.spec, layout, channel_axis, real=real)
        value = end.value
        operations = replace(numbers, spec=end.spec, floats=end.operands, zero=end.zero, low=end.low, high=end.high)
    if not operations.spec.is_quantized:
        is_plain = layout is Layout.PLAIN
        target = program.values.write(value) if is_plain else Buf.scratch(4 * program.facts.size(value))
        return operations, value, target
    followers = follow(program, value, operations.zero, layout)
    target = program.values.write(followers.result, layout)
    return operations.followed_by(followers.operations, followers.words), followers.result, target


def emit_transposed_bytes(program: Program, node: Node) -> None:
    """Emit a QLinearConvTranspose whose numbers are known and which `fits_transposed`."""
    facts = program.facts
    x, w, y = need(node.input(0)), need(node.input(3)), need(node.output(0))
    geometry = transpose_geometry(node, facts.shape(x), facts.shape(w), facts.shape(y)).with_rank(2)
    array, w_zero, x_zero = (facts.constant_of(node.input(index)) for index in (3, 5, 2))
    assert array is not None
    assert x_zero is not None
    taps = as_convolution(array.reshape(*array.shape[:2], *geometry.kernel), geometry)
    weights = signed_weights_of(taps, w_zero)
    numbers = requantization_of(program, node, geometry.out_channels, weights.largest)
    assert numbers is not None
    result, value, target = result_of_sums(program, node, numbers)
    key = _key(program, node, 3, 5)
    emit_phases(program, geometry, x, weights, key, result, target, int(x_zero.reshape(-1)[0]))
    show_channels_last(program, node, value, target)


def requantization_of(
    program: Program, node: Node, channels: int, largest: int, scales_at: Sequence[int] = (1, 4, 6, 7), bias_at: int = 8
) -> Requantized | None:
    """What becomes of the sums of a QLinearConv of so many channels; None where its numbers are not known or sound.

    Args:
        largest: what a sum of bytes can reach without the bias.
        scales_at: inputs with the scales of the operands and the result, and the result's zero point; a result without
            a scale is of float32.
        bias_at: the input with the bias.
    """
    given = [program.facts.constant_of(node.input(index)) for index in scales_at]
    is_real = node.input(scales_at[2]) is None
    if is_real:
        given[2:] = [np.ones(1, np.float32), np.zeros(1, np.int8)]
    bias = node.input(bias_at)
    offset = program.facts.constant_of(bias)
    if any(array is None for array in given) or (bias is not None and offset is None):
        return None
    x_scale, w_scale, y_scale, y_zero = (np.asarray(array).reshape(-1) for array in given)
    if y_scale.size != 1 or y_zero.size != 1:
        return None
    dtype = program.facts.dtype(need(node.output(0)))
    is_wide = program.facts.dtype(need(node.input(0))) in WORDS
    factors = [x_scale, w_scale, y_scale]
    if is_wide or dtype in WORDS:  # rounded once, as all of its bits count
        factors = [factor.astype(np.float64) for factor in factors]
    with np.errstate(all="ignore"):
        scales = np.broadcast_to(factors[0] * factors[1] / factors[2], (channels,)).astype(np.float32)
    float_bias, whole_bias = None, np.zeros(channels, np.int64)
    if offset is not None and offset.dtype == np.float32:
        float_bias = np.broadcast_to(offset.reshape(-1) / y_scale, (channels,))
    elif offset is not None:
        whole_bias = np.broadcast_to(offset.reshape(-1).astype(np.int64), (channels,))
    if not np.isfinite(scales).all() or (float_bias is not None and not np.isfinite(float_bias).all()):
        return None
    if is_real:
        spec = Requantization("float32", float_bias=float_bias is not None)
        return Requantized(spec, whole_bias, scales, float_bias, 0, 0, 0)
    reach = largest * (WORD_STEPS if is_wide else 1.0) + float(np.abs(whole_bias).max(initial=0))
    reach *= float(np.abs(scales).max(initial=0))
    reach += 0.0 if float_bias is None else float(np.abs(float_bias).max(initial=0))
    held = np.iinfo(dtype.numpy)
    low, high = int(node.attr("minimum", held.min)), int(node.attr("maximum", held.max))
    spec = Requantization(
        dtype.label,
        bounded=(low, high) != (held.min, held.max),
        float_bias=float_bias is not None,
        far=reach > LARGEST_WHOLE,
    )
    return Requantized(spec, whole_bias, scales, float_bias, int(y_zero[0]), low, high)


def emit_integer_bytes(program: Program, node: Node) -> bool:
    """Emit a ConvInteger, as `emit_quantized_bytes`; a Cast to float32 after it is taken, and what scales that.

    The zero point of its input and one of the scales may be what the run brings.
    """
    found = _operands(program, node, data=0, weight=1, zeros=(2, 3), opened=True)
    if found is None:
        return False
    geometry, weights, zero = found
    scaling = scaling_of(program, node, geometry.out_channels)
    kind = "float32" if scaling.is_float else "int32"
    spec = Requantization(kind, float_bias=scaling.bias is not None, step=scaling.order)
    none = np.zeros(geometry.out_channels, np.int64)
    requantized = Requantized(spec, none, scaling.scales, scaling.bias, 0, 0, 0, step=scaling.step)
    x = need(node.input(0))
    own_zero = zero if scaling.scale is None and zero is not None else _opened(program, node, zero, scaling.scale)
    if scaling.is_float:
        requantized, result, target = result_of_sums(program, node, requantized, real=scaling.result)
    else:
        result, target = scaling.result, Buf.scratch(4 * program.facts.size(scaling.result))
    _emit(program, geometry, x, weights, _key(program, node, 1, 3), requantized, target, own_zero)
    show_channels_last(program, node, result, target)
    return True


def _opened(program: Program, node: Node, zero: int | None, scale: Buf | None) -> Opened:
    """What only the run tells of the input of a ConvInteger; a zero point that is known is a constant there."""
    dtype = program.facts.dtype(need(node.input(0)))
    if zero is None:
        at = program.values.read(need(node.input(2)))
    else:
        at = program.constants.put(np.array([zero], dtype.numpy))
    return Opened(at, dtype.label, scale)


def _operands(
    program: Program, node: Node, *, data: int, weight: int, zeros: tuple[int, int], opened: bool = False
) -> tuple[Geometry, Weights, int | None] | None:
    """The convolution, its weights and the zero point of its input; None where the kernels do not cover it.

    ``opened``: the zero point of the input may be what the run brings; it is None then.
    """
    facts = program.facts
    x, w, y = need(node.input(data)), need(node.input(weight)), need(node.output(0))
    known = facts.constant_of(w)
    x_zero, w_zero = (facts.constant_of(node.input(index)) for index in zeros)
    is_open = node.input(zeros[0]) is not None and x_zero is None
    is_missing = node.input(zeros[1]) is not None and w_zero is None
    if (
        known is None
        or is_missing
        or (is_open and not opened)
        or facts.is_constant(x)
        or not 3 <= len(facts.shape(x)) <= 4
    ):
        return None
    if known.dtype.itemsize != 1 or (x_zero is not None and x_zero.size != 1):
        return None
    if any(is_same(size, 0) for value in (x, w, y) for size in facts.shape(value)):
        return None
    if facts.dtype(x) not in NUMBERS:
        return None
    geometry = conv_geometry(node, facts.shape(x), known.shape, facts.shape(y))
    if not geometry.is_generated:
        return None
    weights = signed_weights_of(known, w_zero)
    if weights.zeros is not None and geometry.groups > 1:
        return None
    if is_open:
        return geometry, weights, None
    return geometry, weights, 0 if x_zero is None else int(x_zero.reshape(-1)[0])


def check_wide(view: GraphView, node: Node) -> str | None:
    """A reason if a QLinearConv of wide numbers, or with a wide result, is none that the kernels compute."""
    x, w, y = need(node.input(0)), need(node.input(3)), need(node.output(0))
    if all(dtype_in(view, value, WORDS) is not None for value in (x, y)):
        return None
    for index in range(1, 9):
        value = node.input(index)
        if value is not None and view.constant(value) is None:
            return f"'{value.name}' is not known before the run"
    if view.constant(x) is not None or any(is_same(size, 0) for value in (x, w, y) for size in view.shape(value)):
        return "its input is known, or it has no elements"
    if not 3 <= len(view.shape(x)) <= 4:
        return f"convolutions of 16 bits have 1 or 2 spatial dimensions, not {len(view.shape(x)) - 2}"
    if math.prod(view.shape(w)[1:]) > DEEPEST:
        return f"its sums have more than {DEEPEST} terms"
    if not conv_geometry(node, view.shape(x), view.shape(w), view.shape(y)).is_generated:
        return "its window is none that the kernels take"
    if int(node.attr("group", 1)) > 1:
        found, zeros = view.constant(w), view.constant(node.input(5))
        assert found is not None
        if signed_weights_of(found.numpy(), None if zeros is None else zeros.numpy()).zeros is not None:
            return "its weights less their zero points are no signed bytes"
    return None


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
    zero: int | Opened,
) -> None:
    if result.spec.result != "int32" and fits_depthwise(geometry):
        fitting = for_words(weights, result) if program.facts.dtype(x) in WORDS else result
        if fitting is not None:
            emit_depthwise(program, geometry, x, weights, key, fitting, target, zero)
            return
    emit_dense(program, geometry, x, weights, key, result, target, zero)

"""Conv and ConvTranspose: which of the kernels computes one, and what is folded into it."""

from __future__ import annotations

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_cpu.conv.choose import Kernel, by_sizes, choose, choose_transpose
from mace_cpu.conv.depthwise.lower import emit_depthwise
from mace_cpu.conv.direct.given import can_be_given
from mace_cpu.conv.direct.lower import Floats, emit_direct, fits_direct
from mace_cpu.conv.general.lower import RANK, emit_general
from mace_cpu.conv.geometry import Geometry, conv_geometry, transpose_geometry
from mace_cpu.conv.lower_pairs import emit_in_pairs, why_float32, write_forms
from mace_cpu.conv.planar.lower import emit_planar, emit_planar_transpose
from mace_cpu.conv.scaled.lower import ScaledInput
from mace_cpu.conv.transposed.lower import emit_phases, emit_shuffle
from mace_cpu.conv.winograd.lower import emit_winograd
from mace_cpu.shared.checks import inputs_in
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.pixels.means import emit_mean, find_mean
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

LONGEST_SUMMED_ROW = 1024
"""The pixels of a row are summed up in float32; what a longer one would lose matters."""

_floats = inputs_in({DType.FLOAT32, DType.FLOAT64})


def _check(view: GraphView, node: Node) -> str | None:
    reason = _floats(view, node)
    if reason is None:
        assert node.inputs[0] is not None
        rank = len(view.shape(node.inputs[0])) - 2
        if not 1 <= rank <= RANK:
            return f"convolution over {rank} spatial axes is not supported; 1 to {RANK} are"
    return reason


@lowers("Conv", check=_check)
def conv(program: Program, node: Node) -> None:
    """y[n, o] = bias[o] + sum over the group's channels and taps of weight * x, zeros around x."""
    x, w, y = _operands(node)
    geometry = conv_geometry(node, program.facts.shape(x), program.facts.shape(w), program.facts.shape(y))
    operands = constant_operands(program, node, geometry.out_channels)
    scaled = program.fusion.take(x, ScaledInput)
    if scaled is not None:
        x = scaled.source
    has_general_sizes = by_sizes(program, geometry) is Kernel.GENERAL
    if has_general_sizes or not _has_generated_kernel(program, x, y):
        emit_general(program, node, geometry)
        return
    if operands is None:
        _emit_given(program, node, geometry)
        return
    weights, bias = operands
    epilogue, result = match_epilogue(program, y)
    scale, shift, epilogue = epilogue.split_affine(geometry.out_channels)
    weights, bias = folded(weights, bias, scale, shift)
    program.steps.remark(why_float32(program, geometry))
    choice = choose(program, geometry, x, weights, result, scaled=scaled is not None)
    match choice.kernel:
        case Kernel.PAIRS:
            emit_in_pairs(program, geometry, x, weights, bias, epilogue, result)
        case Kernel.DEPTHWISE:
            _emit_depthwise(program, geometry, x, weights, bias, epilogue, result)
        case Kernel.PLANAR:
            emit_planar(program, geometry, x, weights, bias, epilogue, program.values.write(result))
        case _:
            target = program.values.write(result, Layout.BLOCKED)
            if choice.winograd is not None:
                emit_winograd(program, geometry, choice.winograd, x, weights, bias, epilogue, target)
                return
            emit_direct(
                program,
                geometry,
                x,
                weights,
                bias,
                epilogue,
                target,
                plain_input=choice.plain_input,
                input_scale=None if scaled is None else scaled.scale,
                sparse=choice.sparse,
            )


def _emit_given(program: Program, node: Node, geometry: Geometry) -> None:
    """Emit a convolution whose weights or bias a run computes."""
    x, w, y = _operands(node)
    if not (fits_direct(geometry, program.settings.block) and can_be_given(geometry)):
        emit_general(program, node, geometry)
        return
    weights: Floats | Value | None = program.facts.constant_of(w)
    given = node.input(2)
    bias: Floats | Value | None = np.zeros(geometry.out_channels, np.float32)
    if given is not None:
        bias = program.facts.constant_of(given)
    epilogue, result = match_epilogue(program, y)
    target = program.values.write(result, Layout.BLOCKED)
    weights = w if weights is None else weights
    bias = given if bias is None else bias
    assert bias is not None
    emit_direct(program, geometry, x, weights, bias, epilogue, target)


def _emit_depthwise(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, result: Value
) -> None:
    """Emit a depthwise convolution, and with it the mean over all pixels of its result where somebody takes that."""
    pooled = find_mean(program, result)
    if pooled is not None and any(size > LONGEST_SUMMED_ROW for size in geometry.output):
        pooled = None
    places = write_forms(program, geometry, result)
    sums = emit_depthwise(program, geometry, x, weights, bias, epilogue, places, row_sums=pooled is not None)
    if sums is not None and pooled is not None:
        emit_mean(program, result, pooled, sums.buf, sums.rows)


@lowers("ConvTranspose", check=_check)
def conv_transpose(program: Program, node: Node) -> None:
    """The adjoint of a Conv: every input pixel adds its kernel, scaled, to the result."""
    x, w, y = _operands(node)
    geometry = transpose_geometry(node, program.facts.shape(x), program.facts.shape(w), program.facts.shape(y))
    operands = constant_operands(program, node, geometry.out_channels)
    if operands is None or not _has_generated_kernel(program, x, y):
        emit_general(program, node, geometry, transposed=True)
        return
    kernel = choose_transpose(program, geometry, x)
    if kernel is Kernel.GENERAL:
        emit_general(program, node, geometry, transposed=True)
        return
    weights, bias = operands
    epilogue, result = match_epilogue(program, y) if kernel is Kernel.PHASES else match_epilogue(program, y, tensors=0)
    scale, shift, epilogue = epilogue.split_affine(geometry.out_channels)
    if (scale != 1).any():
        grouped = weights.reshape(geometry.groups, -1, geometry.group_out, *geometry.kernel)
        factors = scale.reshape(geometry.groups, 1, geometry.group_out, *(1 for _ in geometry.kernel))
        weights = (grouped * factors).reshape(weights.shape)
    bias = bias * scale + shift
    if kernel is Kernel.PLANAR:
        emit_planar_transpose(program, geometry, x, weights, bias, epilogue, program.values.write(result))
    elif kernel is Kernel.SHUFFLE:
        emit_shuffle(program, geometry, x, weights, bias, epilogue, program.values.write(result))
    else:
        emit_phases(program, geometry, x, weights, bias, epilogue, program.values.write(result, Layout.BLOCKED))


def _operands(node: Node) -> tuple[Value, Value, Value]:
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None and w is not None and y is not None
    return x, w, y


def _has_generated_kernel(program: Program, x: Value, y: Value) -> bool:
    """Whether type and sizes are such as the generated kernels take; constants are not there in blocks."""
    is_float = program.facts.dtype(y) is DType.FLOAT32
    return is_float and program.facts.size(y) > 0 and program.facts.size(x) > 0 and program.facts.constant_of(x) is None


def constant_operands(program: Program, node: Node, out_channels: int) -> tuple[Floats, Floats] | None:
    """Weights and bias (zeros where there is none) if both are known now."""
    weights = program.facts.constant_of(node.inputs[1])
    given = node.input(2)
    bias = np.zeros(out_channels, np.float32) if given is None else program.facts.constant_of(given)
    return None if weights is None or bias is None else (weights, bias)


def folded(weights: Floats, bias: Floats, scale: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Weights (O, ...) and bias such that the result is what it was, times ``scale`` plus ``shift`` per channel."""
    if (scale != 1).any():
        weights = weights * scale.reshape(-1, *(1 for _ in weights.shape[1:]))
    return weights, bias * scale + shift

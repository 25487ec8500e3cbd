"""Normalization over rows, channels, groups and batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.tensor import DType, Tensor, TensorType
from mace_cpu.elementwise.lower_chain import Chain, elementwise
from mace_cpu.elementwise.operands import aligned
from mace_cpu.normalization.rows import RowNorm
from mace_cpu.shared.checks import all_concrete, dtype_in, inputs_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.normalization.kernels"

RESPONSE_WORDS = WordLayout.parse("source result channels inner before after alpha bias beta")
"""``inner`` elements per channel, of a window the channels before and after; ``alpha`` is divided by the window's size.
The last three are float64 bits."""
REAL = frozenset({DType.FLOAT32, DType.FLOAT64})
ROW_WORK = 6
MEAN_VARIANCE_EPSILON = 1e-9


def emit_row_norm(
    program: Program,
    variant: RowNorm,
    source: Buf,
    result: Buf,
    optional: Mapping[str, Buf],
    *,
    rows: int,
    parts: int,
    inner: int,
    period: int,
    epsilon: float,
) -> None:
    """Emit the row normalization kernel; ``optional`` are the buffers its variant has, by name."""
    length = parts * inner
    program.steps.emit(
        row_norm_kernel(variant),
        {
            "source": source,
            "result": result,
            "parts": parts,
            "inner": inner,
            "period": period,
            "epsilon": float(epsilon),
            **optional,
        },
        extent=rows if length else 0,
        work=rows * length * ROW_WORK,
    )


# --- LayerNormalization and RMSNormalization --------------------------------------------------------------------------


def normalized_shape(view: GraphView, node: Node) -> tuple[int, ...]:
    """The dimensions LayerNormalization and RMSNormalization reduce over."""
    shape = view.shape(need(node.inputs[0]))
    return shape[normal_axis(node.attr("axis", -1), len(shape)) :]


def row_parameters_fit(view: GraphView, node: Node) -> str | None:
    """A reason if scale or shift are neither one number per element of a row nor constants that broadcast to it."""
    reason = inputs_in(REAL)(view, node)
    if reason is not None:
        return reason
    row = normalized_shape(view, node)
    for value in node.inputs[1:]:
        if value is None:
            continue
        shape = view.shape(value)
        size_matches = math.prod(shape) == math.prod(row) and broadcasts(shape, row)
        if not size_matches and (view.constant(value) is None or not broadcasts(shape, row)):
            return f"'{value.name}' of shape {list(shape)} is not one number per normalized element {list(row)}"
    return None


def broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether ``shape``, leading ones aside, broadcasts to ``target``."""
    extra = len(shape) - len(target)
    if extra > 0 and any(dim != 1 for dim in shape[:extra]):
        return False
    kept = aligned(shape[max(extra, 0) :], len(target))
    return all(a in (1, b) for a, b in zip(kept, target, strict=True))


def row_parameter(program: Program, value: Value, row: Sequence[int]) -> Buf:
    """Scale or shift as one number per element of a row."""
    constant = program.facts.constant_of(value)
    if constant is None or constant.size == math.prod(row):
        return program.values.read(value)
    without_ones = constant.reshape(constant.shape[max(constant.ndim - len(row), 0) :])
    return program.constants.put(np.ascontiguousarray(np.broadcast_to(without_ones, row)))


@lowers("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", check=row_parameters_fit)
def layer_normalization(program: Program, node: Node) -> None:
    x = need(node.inputs[0])
    row = normalized_shape(program.facts.view, node)
    length = math.prod(row)
    centered = node.op_type == "LayerNormalization"
    parameters = present(scale=node.input(1), shift=node.input(2))
    statistics = present(mean=node.output(1), inverse=node.output(2)) if centered else present(inverse=node.output(1))
    dtype = program.facts.dtype(x).label
    variant = RowNorm(
        dtype,
        centered=centered,
        scale="scale" in parameters,
        shift="shift" in parameters,
        mean="mean" in statistics,
        inverse="inverse" in statistics,
        # rows of float64 may ask for statistics in float32, and the other way round
        statistics=next(
            (kind for value in statistics.values() if (kind := program.facts.dtype(value).label) != dtype), ""
        ),
    )
    read = {name: row_parameter(program, value, row) for name, value in parameters.items()}
    source, result = program.values.read(x), program.values.write(need(node.outputs[0]))
    emit_row_norm(
        program,
        variant,
        source,
        result,
        {**read, **{name: program.values.write(value) for name, value in statistics.items()}},
        rows=program.facts.size(x) // length if length else 0,
        parts=1,
        inner=length,
        period=1,
        epsilon=node.attr("epsilon", 1e-5),
    )


def present(**values: Value | None) -> dict[str, Value]:
    """Those that there are."""
    return {name: value for name, value in values.items() if value is not None}


# --- InstanceNormalization and GroupNormalization ---------------------------------------------------------------------


@lowers("InstanceNormalization", "GroupNormalization", check=inputs_in(REAL))
def channel_group_normalization(program: Program, node: Node) -> None:
    x, scale, shift = (need(value) for value in node.inputs[:3])
    n, c, *spatial = program.facts.shape(x)
    inner = math.prod(spatial)
    if program.facts.size(x) == 0:
        program.values.alias(
            need(node.outputs[0]), program.constants.put(np.zeros(program.facts.shape(x), program.facts.dtype(x).numpy))
        )
        return
    groups = node.attr("num_groups", 1) if node.op_type == "GroupNormalization" else c
    per_channel = program.facts.size(scale) == c
    # until opset 20 GroupNormalization has one scale per group: a group is then one part
    parts = c // groups if per_channel else 1
    emit_row_norm(
        program,
        RowNorm(program.facts.dtype(x).label, per_part=True),
        program.values.read(x),
        program.values.write(need(node.outputs[0])),
        {"scale": program.values.read(scale), "shift": program.values.read(shift)},
        rows=n * groups,
        parts=parts,
        inner=inner * (c // groups) // parts,
        period=groups,
        epsilon=node.attr("epsilon", 1e-5),
    )


# --- BatchNormalization -----------------------------------------------------------------------------------------------


def is_inference(view: GraphView, node: Node) -> str | None:
    """A reason if batch statistics are to be computed."""
    reason = all_concrete(view, node)
    for value in node.inputs:
        reason = reason or dtype_in(view, value, REAL)
    if reason is not None:
        return reason
    if node.attr("training_mode", 0) or any(value is not None for value in node.outputs[1:]):
        return "BatchNormalization in training mode is not supported"
    if view.opset() < 7 and not node.attr("is_test", 0):
        return "BatchNormalization in training mode is not supported"
    if not node.attr("spatial", 1):
        return "BatchNormalization with statistics per element (spatial=0) is not supported"
    if len(view.shape(need(node.inputs[0]))) < 2:
        return "BatchNormalization needs at least two dimensions"
    return None


def batch_norm_operands(program: Program, node: Node) -> list[Value]:
    """What a kernel reads: the parameters count as (1, C, 1, ...) unless they are constants, which are packed."""
    x, *given = (need(value) for value in node.inputs[:5])
    if all(program.facts.constant_of(value) is not None for value in given):
        return [x]
    if all(program.values.is_ready(value) for value in given):
        return [x, *(_per_channel_view(program, x, value) for value in given)]
    return [x, *given]


@elementwise("BatchNormalization", check=is_inference, operands=batch_norm_operands)
def batch_normalization(chain: Chain, node: Node) -> int:
    program = chain.program
    x, *given = (need(value) for value in node.inputs[:5])
    dtype = program.facts.dtype(x)
    epsilon = float(node.attr("epsilon", 1e-5))
    constants = [program.facts.constant_of(value) for value in given]
    known = [c.astype(np.float64) for c in constants if c is not None]
    result = chain.read(x)
    if len(known) == 4:
        scale, bias, mean, variance = known
        factor = scale / np.sqrt(variance + epsilon)
        result = chain.apply("mul", result, chain.read(_per_channel_constant(program, x, factor, "factor")))
        shift = bias - mean * factor
        return chain.apply("add", result, chain.read(_per_channel_constant(program, x, shift, "shift")))
    scale_, bias_, mean_, variance_ = (
        chain.cast(chain.read(_per_channel_view(program, x, value)), dtype.label) for value in given
    )
    deviation = chain.apply("sqrt", chain.apply("add_number", variance_, parameters=(epsilon,)))
    centered = chain.apply("sub", result, mean_)
    scaled = chain.apply("mul", centered, chain.apply("div", scale_, deviation))
    return chain.apply("add", scaled, bias_)


def _per_channel_shape(program: Program, x: Value) -> tuple[int, ...]:
    shape = program.facts.shape(x)
    return (1, shape[1]) + (1,) * (len(shape) - 2)


def _per_channel_constant(program: Program, x: Value, numbers: npt.NDArray[Any], name: str) -> Value:
    """A constant with one number per channel, to be broadcast against ``x``."""
    array = numbers.astype(program.facts.dtype(x).numpy).reshape(_per_channel_shape(program, x))
    return Value(f"{x.name}/{name}", constant=Tensor.from_numpy(array))


def _per_channel_view(program: Program, x: Value, value: Value) -> Value:
    """``value`` (C,) as it broadcasts against ``x`` along the channels."""
    view = Value(f"{value.name}/channels", TensorType(program.facts.dtype(value), _per_channel_shape(program, x)))
    program.values.alias(view, program.values.read(value))
    return view


# --- the rest ---------------------------------------------------------------------------------------------------------


def at_least_channels(view: GraphView, node: Node) -> str | None:
    reason = inputs_in(REAL)(view, node)
    if reason is None and len(view.shape(need(node.inputs[0]))) < 2:
        return "LRN needs at least two dimensions"
    return reason


@lowers("LRN", check=at_least_channels)
def local_response_normalization(program: Program, node: Node) -> None:
    x = need(node.inputs[0])
    n, c, *spatial = program.facts.shape(x)
    inner = math.prod(spatial)
    size = int(node.attr("size"))
    before = (size - 1) // 2
    alpha, beta, bias = (float(node.attr(k, d)) for k, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    program.steps.emit(
        response_norm_kernel(program.facts.dtype(x).label),
        {
            "source": program.values.read(x),
            "result": program.values.write(need(node.outputs[0])),
            "channels": c,
            "inner": inner,
            "before": before,
            "after": size - 1 - before,
            "alpha": alpha / size,
            "bias": bias,
            "beta": beta,
        },
        extent=n * c if inner else 0,
        work=n * c * inner * (30 + size),
    )


@lowers("LpNormalization", check=inputs_in(REAL))
def lp_normalization(program: Program, node: Node) -> None:
    x = need(node.inputs[0])
    shape = program.facts.shape(x)
    axis = normal_axis(node.attr("axis", -1), len(shape))
    outer, length, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    program.steps.emit(
        numba_source(KERNELS, "lp_normalization", dtype=program.facts.dtype(x).label),
        {
            "source": program.values.read(x),
            "result": program.values.write(need(node.outputs[0])),
            "length": length,
            "inner": inner,
            "p": int(node.attr("p", 2)),
        },
        extent=outer * inner if length else 0,
        work=4 * outer * length * inner,
    )


@lowers("MeanVarianceNormalization", check=inputs_in(REAL))
def mean_variance_normalization(program: Program, node: Node) -> None:
    x = need(node.inputs[0])
    shape = program.facts.shape(x)
    axes = {normal_axis(axis, len(shape)) for axis in node.attr("axes", (0, 2, 3))}
    reduced = [i for i, dim in enumerate(shape) if i in axes and dim != 1]
    kept = [i for i, dim in enumerate(shape) if i not in axes and dim != 1]
    count = math.prod(shape[i] for i in axes)
    groups = program.facts.size(x) // count if count else 0
    source, result = program.values.read(x), program.values.write(need(node.outputs[0]))
    dtype = program.facts.dtype(x).label
    if not reduced or not kept or max(kept) < min(reduced):
        emit_row_norm(
            program,
            RowNorm(dtype, scale=False, shift=False, deviation_epsilon=True),
            source,
            result,
            {},
            rows=groups,
            parts=1,
            inner=count,
            period=1,
            epsilon=MEAN_VARIANCE_EPSILON,
        )
        return
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    program.steps.emit(
        numba_source(KERNELS, "mean_variance", dtype=dtype),
        {
            "source": source,
            "result": result,
            "epsilon": MEAN_VARIANCE_EPSILON,
            "kept": len(kept),
            "reduced": len(reduced),
            "count": count,
            "kept_sizes": [shape[i] for i in kept],
            "kept_strides": [steps[i] for i in kept],
            "reduced_sizes": [shape[i] for i in reduced],
            "reduced_strides": [steps[i] for i in reduced],
        },
        extent=groups,
        work=groups * count * 40,
    )


def response_norm_kernel(dtype: str) -> KernelSource:
    """The kernel of LRN for float32 or float64."""
    generator = "mace_cpu.normalization.generate_response"
    return generated(generator, f"response_norm_{dtype}", dtype, words=lambda: RESPONSE_WORDS)


def row_norm_kernel(variant: RowNorm) -> KernelSource:
    """The kernel of one variant."""
    generator = "mace_cpu.normalization.generate_rows"
    return generated(generator, variant.symbol, variant, words=lambda: variant.words)

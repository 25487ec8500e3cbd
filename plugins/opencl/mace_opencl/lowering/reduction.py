"""Reductions, global pooling, softmax and normalization over rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node
from mace_opencl.kernels.copy import flat_groups, merge_axes, row_major
from mace_opencl.kernels.rows import REDUCERS, ROW_THRESHOLD, normalize_kernel, reduce_kernel, softmax_kernel
from mace_opencl.lowering.builder import Argument, Builder
from mace_opencl.lowering.checks import FLOAT, constant_reason, dtype_reason, outputs_reason
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator

_GLOBAL = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


def _reduce_reason(view: GraphView, node: Node) -> str | None:
    found = dtype_reason(view, node, FLOAT, only=(0,)) or constant_reason(view, node, 1)
    if found is not None:
        return found
    x = node.inputs[0]
    assert x is not None
    if 0 in view.shape(x):
        return f"'{x.name}' is empty; {node.op_type} of nothing is not computed here"
    return None


def _axes(builder: Builder, node: Node) -> tuple[int, ...] | None:
    """Axes to reduce, counted from the front; None where nothing is reduced."""
    rank = len(builder.shape(node.inputs[0]))
    if node.op_type in _GLOBAL:
        return tuple(range(2, rank))
    given = builder.constant(node.input(1))
    axes: Sequence[int] = node.attr("axes", ()) if given is None else given.reshape(-1).tolist()
    if not axes:
        return None if node.attr("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({axis % rank for axis in axes}))


def _lower_reduce(builder: Builder, node: Node, group: Group | None) -> None:
    shape = builder.shape(node.inputs[0])
    axes = _axes(builder, node)
    reducer = REDUCERS[_GLOBAL.get(node.op_type, node.op_type)]
    if axes is None:  # each element is reduced alone, which still squares, takes magnitudes or logarithms
        axes = ()
    strides = row_major(shape)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    kept_shape, (kept_strides,) = merge_axes([shape[a] for a in kept], [strides[a] for a in kept])
    reduced_shape, (reduced_strides,) = merge_axes([shape[a] for a in axes], [strides[a] for a in axes])
    count, extent = math.prod(kept_shape), math.prod(reduced_shape)
    shared = extent >= ROW_THRESHOLD
    kernel = reduce_kernel(reducer, len(kept_shape), len(reduced_shape), shared)
    scalars = (count, extent, *kept_shape, *kept_strides, *reduced_shape, *reduced_strides)
    groups = (count, 1, 1) if shared else flat_groups(count)
    builder.emit(kernel, [builder.read(node.inputs[0]), builder.write(node.outputs[0]), *scalars], groups, [node])


def _softmax_reason(view: GraphView, node: Node) -> str | None:
    return dtype_reason(view, node, FLOAT)


def _lower_softmax(builder: Builder, node: Node, group: Group | None) -> None:
    shape = builder.shape(node.inputs[0])
    modern = builder.view.opset() >= 13
    axis = node.attr("axis", -1 if modern else 1)
    axis += len(shape) if axis < 0 else 0
    # before opset 13 everything from the axis on was one row
    extent = shape[axis] if modern else math.prod(shape[axis:])
    inner = math.prod(shape[axis + 1 :]) if modern else 1
    rows = math.prod(shape[:axis]) * inner
    kernel = softmax_kernel(node.op_type == "LogSoftmax")
    arguments = [builder.read(node.inputs[0]), builder.write(node.outputs[0]), extent, inner]
    builder.emit(kernel, arguments, (rows if extent else 0, 1, 1), [node])


def _normalize_reason(view: GraphView, node: Node) -> str | None:
    found = dtype_reason(view, node, FLOAT) or outputs_reason(node)
    if found is not None or node.op_type != "LayerNormalization":
        return found
    x = node.inputs[0]
    assert x is not None
    shape = view.shape(x)
    normalized = shape[node.attr("axis", -1) % len(shape) :]
    for value in node.inputs[1:]:
        if value is not None and math.prod(view.shape(value)) != math.prod(normalized):
            return f"'{value.name}' is broadcast over the normalized axes, which the kernel does not do"
    return None


def _lower_layer_norm(builder: Builder, node: Node, group: Group | None) -> None:
    shape = builder.shape(node.inputs[0])
    axis = node.attr("axis", -1) % len(shape)
    _normalize(builder, node, math.prod(shape[:axis]), math.prod(shape[axis:]), 1, "e")


def _lower_instance_norm(builder: Builder, node: Node, group: Group | None) -> None:
    shape = builder.shape(node.inputs[0])
    _normalize(builder, node, shape[0] * shape[1], math.prod(shape[2:]), shape[1], "row % channels")


def _normalize(builder: Builder, node: Node, rows: int, extent: int, channels: int, position: str) -> None:
    scale, shift = node.input(1), node.input(2)
    kernel = normalize_kernel(position if scale is not None else "", position if shift is not None else "")
    factors = [builder.read(value) for value in (scale, shift) if value is not None]
    scalars: list[int | float] = [extent, channels, float(node.attr("epsilon", 1e-5))]
    arguments: list[Argument] = [builder.read(node.inputs[0]), *factors, builder.write(node.outputs[0]), *scalars]
    builder.emit(kernel, arguments, (rows if extent else 0, 1, 1), [node])


OPERATORS.add(
    {
        **{name: Operator(_reduce_reason, _lower_reduce) for name in (*REDUCERS, *_GLOBAL)},
        "Softmax": Operator(_softmax_reason, _lower_softmax),
        "LogSoftmax": Operator(_softmax_reason, _lower_softmax),
        "LayerNormalization": Operator(_normalize_reason, _lower_layer_norm),
        "InstanceNormalization": Operator(_normalize_reason, _lower_instance_norm),
    }
)

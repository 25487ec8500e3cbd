"""MatMul and Gemm."""

from __future__ import annotations

import math

from mace_core.graph import GraphView, Node
from mace_opencl.kernels.copy import broadcast_strides, merge_axes
from mace_opencl.kernels.gemm import choose_tile, gemm_kernel, strided_operand
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import FLOAT, dtype_reason
from mace_opencl.lowering.epilogue import make_tail
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator


def _reason(view: GraphView, node: Node) -> str | None:
    for value in node.inputs[:2]:
        if value is not None and 0 in view.shape(value):
            return f"'{value.name}' has no elements, and no kernel multiplies empty matrices"
    return dtype_reason(view, node, FLOAT)


def _gemm_axes(view: GraphView, node: Node) -> tuple[int, int]:
    return (0, 1)


def _matmul_axes(view: GraphView, node: Node) -> tuple[int, int]:
    """Rows and columns are the last two axes, or rows all but the last; a vector operand has none of its own."""
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert a is not None
    assert b is not None
    assert y is not None
    rank = len(view.shape(y))
    columns = rank - (0 if len(view.shape(b)) == 1 else 1)
    rows = columns - (0 if len(view.shape(a)) == 1 else 1)
    return (0, columns) if _is_joined(view.shape(b)) else (rows, columns)


def _is_joined(right: tuple[int, ...]) -> bool:
    """Whether all rows of all matrices on the left are multiplied by the same matrix: one product."""
    return math.prod(right[:-2]) == 1


def _lower_gemm(builder: Builder, node: Node, group: Group | None) -> None:
    a_shape, b_shape = builder.shape(node.inputs[0]), builder.shape(node.inputs[1])
    trans_a, trans_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    rows, depth = reversed(a_shape) if trans_a else a_shape
    columns = b_shape[0] if trans_b else b_shape[1]
    bias = node.input(2)
    tail = make_tail(
        builder,
        node,
        group,
        (0, 1),
        bias=bias,
        bias_shape=builder.shape(bias) if bias is not None else (),
        alpha=float(node.attr("alpha", 1.0)),
        beta=float(node.attr("beta", 1.0)),
    )
    tile = choose_tile(rows, columns, 1, builder.compute_units)
    a = strided_operand("a", "row", k_is_inner=not trans_a, batches=0)
    b = strided_operand("b", "column", k_is_inner=trans_b, batches=0)
    kernel = gemm_kernel("gemm", tile, a, b, 0, tail.parameters, tail.statements, tail.result, tail.result_type)
    a_scalars = (1, rows) if trans_a else (depth, 1)
    b_scalars = (depth, 1) if trans_b else (1, columns)
    arguments = [
        builder.read(node.inputs[0]), *a_scalars, builder.read(node.inputs[1]), *b_scalars,
        *tail.arguments, tail.target,
        rows, columns, depth, rows * columns, columns,
    ]  # fmt: skip
    builder.emit(kernel, arguments, tile.groups(rows, columns, 1), tail.nodes)


def _lower_matmul(builder: Builder, node: Node, group: Group | None) -> None:
    a_shape, b_shape = builder.shape(node.inputs[0]), builder.shape(node.inputs[1])
    a_shape = (1, *a_shape) if len(a_shape) == 1 else a_shape
    b_shape = (*b_shape, 1) if len(b_shape) == 1 else b_shape
    rows, depth, columns = a_shape[-2], a_shape[-1], b_shape[-1]
    tail = make_tail(builder, node, group, _matmul_axes(builder.view, node))
    sizes = _broadcast(a_shape[:-2], b_shape[:-2])
    a_steps = [step * rows * depth for step in broadcast_strides(a_shape[:-2], sizes)]
    b_steps = [step * depth * columns for step in broadcast_strides(b_shape[:-2], sizes)]
    if _is_joined(builder.shape(node.inputs[1])):
        rows, sizes, a_steps, b_steps = rows * math.prod(sizes), (), [], []
    batch, (a_walk, b_walk) = merge_axes(sizes, a_steps, b_steps)
    axes = len(batch)
    tile = choose_tile(rows, columns, math.prod(batch), builder.compute_units)
    a = strided_operand("a", "row", k_is_inner=True, batches=axes)
    b = strided_operand("b", "column", k_is_inner=False, batches=axes)
    kernel = gemm_kernel("matmul", tile, a, b, axes, tail.parameters, tail.statements, tail.result, tail.result_type)
    arguments = [
        builder.read(node.inputs[0]), depth, 1, *a_walk, builder.read(node.inputs[1]), 1, columns, *b_walk,
        *tail.arguments, tail.target, rows, columns, depth, *batch, rows * columns, columns,
    ]  # fmt: skip
    builder.emit(kernel, arguments, tile.groups(rows, columns, math.prod(batch)), tail.nodes)


def _broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


OPERATORS.add(
    {
        "MatMul": Operator(_reason, _lower_matmul, _matmul_axes),
        "Gemm": Operator(_reason, _lower_gemm, _gemm_axes),
    }
)

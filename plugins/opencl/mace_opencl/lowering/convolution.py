"""Conv and ConvTranspose in one and two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import GraphView, Node, sliding_window, transposed_window
from mace_opencl.kernels.convolution import direct_kernel, patches_operand, transposed_kernel
from mace_opencl.kernels.copy import LOCAL
from mace_opencl.kernels.gemm import choose_tile, gemm_kernel, strided_operand
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import FLOAT, dtype_reason
from mace_opencl.lowering.epilogue import Tail, make_tail
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator
from mace_opencl.program import Kernel

DIRECT_DEPTH = 16
"""Up to so many multiplications per output element and group, or so few output channels, tiles do not pay."""

AXES = (1, 2)
"""A result (N, C, H, W) is seen as batch N, rows C, columns H * W."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution in two dimensions; one-dimensional ones have height 1."""

    batch: int
    channels: int
    filters: int
    groups: int
    size: tuple[int, int]
    result: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]

    @property
    def columns(self) -> int:
        return self.result[0] * self.result[1]


def _pair(values: Sequence[int], fill: int) -> tuple[int, int]:
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def geometry(view: GraphView, node: Node) -> Geometry:
    """Read attributes and shapes of Conv or ConvTranspose."""
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None
    assert w is not None
    assert y is not None
    size, weights, result = view.shape(x), view.shape(w), view.shape(y)
    if node.op_type == "ConvTranspose":
        window = transposed_window(node, size[2:], result[2:], weights[2:])
    else:
        window = sliding_window(node, size[2:], weights[2:])
    return Geometry(
        batch=size[0],
        channels=size[1],
        filters=result[1],
        groups=node.attr("group", 1),
        size=_pair(size[2:], 1),
        result=_pair(result[2:], 1),
        kernel=_pair(window.kernel, 1),
        strides=_pair(window.strides, 1),
        dilations=_pair(window.dilations, 1),
        pads=_pair(window.begins, 0),
    )


def _reason(view: GraphView, node: Node) -> str | None:
    found = dtype_reason(view, node, FLOAT)
    if found is not None:
        return found
    x = node.inputs[0]
    assert x is not None
    rank = len(view.shape(x)) - 2
    if rank not in (1, 2):
        return f"{node.op_type} over {rank} spatial dimensions; there are kernels for one and two"
    return None


def _axes(view: GraphView, node: Node) -> tuple[int, int]:
    return AXES


def _lower_conv(builder: Builder, node: Node, group: Group | None) -> None:
    shape = geometry(builder.view, node)
    tail = _tail(builder, node, group, shape)
    depth = shape.channels // shape.groups
    rows = shape.filters // shape.groups
    work = depth * math.prod(shape.kernel)
    if depth == 1 or rows < 4 or (shape.groups > 1 and work <= DIRECT_DEPTH):
        _direct(builder, node, shape, tail, direct_kernel(
            "depthwise" if depth == rows == 1 else "conv", shape.kernel, shape.strides, shape.dilations,
            tail.parameters, tail.statements, tail.result, tail.result_type,
        ))  # fmt: skip
        return
    _product(builder, node, shape, tail)


def _tail(builder: Builder, node: Node, group: Group | None, shape: Geometry) -> Tail:
    result = node.outputs[0]
    spatial = len(builder.shape(result)) - 2
    bias_shape = (shape.filters, *(1,) * spatial)
    return make_tail(builder, node, group, AXES, bias=node.input(2), bias_shape=bias_shape)


def _direct(builder: Builder, node: Node, shape: Geometry, tail: Tail, kernel: Kernel) -> None:
    depth, rows = shape.channels // shape.groups, shape.filters // shape.groups
    scalars = [shape.columns, shape.filters, depth, rows, *shape.size, shape.result[1], *shape.pads]
    arguments = [builder.read(node.inputs[0]), builder.read(node.inputs[1]), *tail.arguments, tail.target, *scalars]
    groups = (-(-shape.columns // LOCAL), shape.filters, shape.batch)
    builder.emit(kernel, arguments, groups, tail.nodes)


def _product(builder: Builder, node: Node, shape: Geometry, tail: Tail) -> None:
    """A product of the weights with the image (1x1) or its patches, per image and group."""
    depth, rows = shape.channels // shape.groups, shape.filters // shape.groups
    work = depth * math.prod(shape.kernel)
    pixels = math.prod(shape.size)
    per_image, per_group = shape.channels * pixels, depth * pixels
    a = strided_operand("a", "row", k_is_inner=True, batches=2)
    a_scalars = [work, 1, 0, rows * work]
    plain = shape.kernel == shape.strides == (1, 1) and shape.pads == (0, 0) and shape.size == shape.result
    if plain:
        b = strided_operand("b", "column", k_is_inner=False, batches=2)
        b_scalars = [1, pixels, per_image, per_group]
    else:
        b = patches_operand(shape.kernel, shape.strides, shape.dilations)
        b_scalars = [*shape.size, shape.result[1], *shape.pads, per_image, per_group]
    batch = shape.batch * shape.groups
    tile = choose_tile(rows, shape.columns, batch, builder.compute_units)
    kernel = gemm_kernel(
        "conv1x1" if plain else "conv_patches",
        tile,
        a,
        b,
        2,
        tail.parameters,
        tail.statements,
        tail.result,
        tail.result_type,
        e_batch="batch0",
        e_row="batch1 * rows + row",
    )
    arguments = [
        builder.read(node.inputs[1]), *a_scalars, builder.read(node.inputs[0]), *b_scalars,
        *tail.arguments, tail.target,
        rows, shape.columns, work, shape.batch, shape.groups, rows * shape.columns, shape.columns,
    ]  # fmt: skip
    builder.emit(kernel, arguments, tile.groups(rows, shape.columns, batch), tail.nodes)


def _lower_transposed(builder: Builder, node: Node, group: Group | None) -> None:
    shape = geometry(builder.view, node)
    tail = _tail(builder, node, group, shape)
    kernel = transposed_kernel(
        shape.kernel, shape.strides, shape.dilations, tail.parameters, tail.statements, tail.result, tail.result_type
    )
    _direct(builder, node, shape, tail, kernel)


OPERATORS.add(
    {
        "Conv": Operator(_reason, _lower_conv, _axes),
        "ConvTranspose": Operator(_reason, _lower_transposed, _axes),
    }
)

"""Elementwise groups as kernels of their own, or as what a product or convolution does before it stores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node
from mace_opencl.kernels.copy import LOCAL, broadcast_strides, decompose, flat_groups, merge_axes, row_major
from mace_opencl.kernels.formulas import C_TYPES
from mace_opencl.lowering.builder import Argument, Builder
from mace_opencl.lowering.expression import Expression
from mace_opencl.lowering.fusion import Group
from mace_opencl.program import make_kernel


def emit_group(builder: Builder, group: Group) -> None:
    """One kernel, one work-item per element of the result."""
    expression = Expression(builder)
    for node in group.nodes:
        expression.add(node)
    shape = builder.shape(group.result)
    strides = [broadcast_strides(leaf.shape, shape) for leaf in expression.leaves]
    merged, (_, *walks) = merge_axes(shape, row_major(shape), *strides)
    rank = len(merged)
    parameters = [*expression.parameters(), (f"{C_TYPES[builder.dtype(group.result)]}*=", "y"), ("int", "count")]
    scalars: list[Argument] = [math.prod(shape)]
    if rank > 1:
        parameters += [("int", f"n{axis}") for axis in range(rank)]
        scalars += merged
    positions = []
    for number, walk in enumerate(walks):
        terms = []
        for axis, stride in enumerate(walk):
            if stride == 0:
                continue
            if stride == 1:
                terms.append(f"c{axis}")
                continue
            terms.append(f"c{axis} * s{number}_{axis}")
            parameters.append(("int", f"s{number}_{axis}"))
            scalars.append(stride)
        positions.append(" + ".join(terms) or "0")
    body = (
        "  int i = get_global_id(0);\n  if (i >= count) return;\n"
        + decompose(rank)
        + expression.loads(positions)
        + "".join(expression.statements)
        + f"  y[i] = {expression.names[group.result]};\n"
    )
    kernel = make_kernel("elementwise", parameters, body, (LOCAL, 1, 1))
    arguments = [*expression.arguments(), builder.write(group.result), *scalars]
    builder.emit(kernel, arguments, flat_groups(math.prod(shape)), group.nodes)


def epilogue_strides(shape: Sequence[int], leaf: Sequence[int], axes: Epilogue) -> tuple[int, int, int] | None:
    """Strides of a broadcast ``leaf`` over (batch, row, column) of a result of ``shape``; None if there are none.

    ``axes`` are the numbers of leading dimensions that make up batch and batch with rows.
    """
    strides = broadcast_strides(leaf, shape)
    found = []
    for begin, end in ((0, axes[0]), (axes[0], axes[1]), (axes[1], len(shape))):
        sizes, (steps,) = merge_axes(shape[begin:end], strides[begin:end])
        if len(sizes) > 1:
            return None
        found.append(steps[0] if sizes[0] > 1 else 0)
    return found[0], found[1], found[2]


Epilogue = tuple[int, int]
"""How a result's dimensions are seen as (batch, row, column): where rows begin, where columns begin."""


def can_ride(view: GraphView, anchor: Node, group: Group, axes: Epilogue) -> bool:
    """Whether all tensors that ``group`` reads can be addressed by (batch, row, column) of the anchor's result."""
    result = anchor.outputs[0]
    assert result is not None
    shape = view.shape(result)
    inside = {value for node in (anchor, *group.nodes) for value in node.outputs}
    for node in group.nodes:
        if node.op_type == "BatchNormalization":
            if epilogue_strides(shape, (shape[1], *(1 for _ in shape[2:])), axes) is None:
                return False
            continue
        for value in node.inputs:
            if value is not None and value not in inside and epilogue_strides(shape, view.shape(value), axes) is None:
                return False
    return True

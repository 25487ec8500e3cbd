"""What a product or convolution does with each sum before it stores it: bias, then the group that rides on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import Node, Value
from mace_opencl.kernels.formulas import C_TYPES, literal
from mace_opencl.lowering.builder import Builder, Read, Write
from mace_opencl.lowering.elementwise import epilogue_strides
from mace_opencl.lowering.expression import Expression
from mace_opencl.lowering.fusion import Group


@dataclass(slots=True)
class Tail:
    """The end of a kernel.

    Attributes:
        parameters: kernel parameters it adds.
        arguments: their values.
        statements: C, from ``acc`` on; they use ``e_batch``, ``e_row`` and ``column``.
        result: the C variable to store.
        target: where to.
        nodes: all nodes that the kernel stands for.
    """

    parameters: list[tuple[str, str]]
    arguments: list[Read | int | float]
    statements: str
    result: str
    target: Write
    result_type: str
    nodes: tuple[Node, ...]


def make_tail(
    builder: Builder,
    node: Node,
    group: Group | None,
    axes: tuple[int, int],
    *,
    bias: Value | None = None,
    bias_shape: Sequence[int] = (),
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Tail:
    """``alpha * acc + beta * bias``, then ``group``.

    Args:
        axes: where rows and where columns begin in the shape of the node's result.
        bias_shape: what ``bias`` is broadcast from.
    """
    anchored = node.outputs[0]
    assert anchored is not None
    shape = builder.shape(anchored)
    expression = Expression(builder)
    start = "acc"
    if alpha != 1.0:
        start = f"{literal(alpha)} * {start}"
    if bias is not None:
        name = expression.tensor(builder.read(bias), "float", bias_shape)
        start += f" + {name}" if beta == 1.0 else f" + {literal(beta)} * {name}"
    expression.statements.append(f"  float t0 = {start};\n")
    expression.names[anchored] = "t0"
    nodes = [node]
    result = anchored
    if group is not None:
        for member in group.nodes:
            expression.add(member)
        nodes += group.nodes
        result = group.result
    positions, strides, values = [], [], []
    for number, leaf in enumerate(expression.leaves):
        found = epilogue_strides(shape, leaf.shape, axes)
        assert found is not None, "checked before the group was given this anchor"
        terms = []
        for letter, coordinate, stride in zip("brc", ("e_batch", "e_row", "column"), found, strict=True):
            if stride == 0:
                continue
            if stride == 1:
                terms.append(coordinate)
                continue
            terms.append(f"(long){coordinate} * e{number}{letter}")
            strides.append(("int", f"e{number}{letter}"))
            values.append(stride)
        positions.append(" + ".join(terms) or "0")
    return Tail(
        parameters=[*expression.parameters(), *strides],
        arguments=[*expression.arguments(), *values],
        statements=expression.loads(positions) + "".join(expression.statements),
        result=expression.names[result],
        target=builder.write(result),
        result_type=C_TYPES[builder.dtype(result)],
        nodes=tuple(nodes),
    )

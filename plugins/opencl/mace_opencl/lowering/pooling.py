"""MaxPool and AveragePool in one and two dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import GraphView, Node
from mace_opencl.kernels.copy import flat_groups
from mace_opencl.kernels.pooling import pool_kernel
from mace_opencl.lowering.builder import Argument, Builder
from mace_opencl.lowering.checks import FLOAT, dtype_reason, outputs_reason
from mace_opencl.lowering.convolution import same_pads
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator


def _reason(view: GraphView, node: Node) -> str | None:
    found = outputs_reason(node) or dtype_reason(view, node, FLOAT)
    if found is not None:
        return found
    x = node.inputs[0]
    assert x is not None
    rank = len(view.shape(x)) - 2
    if rank not in (1, 2):
        return f"{node.op_type} over {rank} spatial dimensions; there are kernels for one and two"
    return None


def _lower(builder: Builder, node: Node, group: Group | None) -> None:
    size, result = builder.shape(node.inputs[0])[2:], builder.shape(node.outputs[0])[2:]
    rank = len(size)
    window = list(node.attr("kernel_shape"))
    strides = list(node.attr("strides", (1,) * rank))
    dilations = list(node.attr("dilations", (1,) * rank))
    auto = node.attr("auto_pad", "NOTSET")
    given = list(node.attr("pads", (0,) * (2 * rank))) if auto == "NOTSET" else [0] * (2 * rank)
    before, behind = given[:rank], given[rank:]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
        before = same_pads(node, size, result, reach, strides)
        behind = [max((result[a] - 1) * strides[a] + reach[a] - size[a], 0) - before[a] for a in range(rank)]
    maximum = node.op_type == "MaxPool"
    kernel = pool_kernel(maximum, bool(node.attr("count_include_pad", 0)))
    count = builder.size(node.outputs[0])
    scalars: list[Argument] = [count]
    for values, fill in ((size, 1), (result, 1), (window, 1), (strides, 1), (dilations, 1), (before, 0), (behind, 0)):
        scalars += _two(values, fill)
    arguments: list[Argument] = [builder.read(node.inputs[0]), builder.write(node.outputs[0]), *scalars]
    builder.emit(kernel, arguments, flat_groups(count), [node])


def _two(values: Sequence[int], fill: int) -> list[int]:
    return [fill, values[0]] if len(values) == 1 else list(values)


OPERATORS.add({name: Operator(_reason, _lower) for name in ("MaxPool", "AveragePool")})

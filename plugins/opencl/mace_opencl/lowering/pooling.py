"""MaxPool and AveragePool in one and two dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import GraphView, Node, sliding_window
from mace_opencl.kernels.copy import flat_groups
from mace_opencl.kernels.pooling import pool_kernel
from mace_opencl.lowering.builder import Argument, Builder
from mace_opencl.lowering.checks import FLOAT, dtype_reason, outputs_reason
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
    window = sliding_window(node, size, node.attr("kernel_shape"))
    maximum = node.op_type == "MaxPool"
    kernel = pool_kernel(maximum, bool(node.attr("count_include_pad", 0)))
    count = builder.size(node.outputs[0])
    scalars: list[Argument] = [count]
    for values in (size, result, window.kernel, window.strides, window.dilations):
        scalars += _two(values, 1)
    scalars += [*_two(window.begins, 0), *_two(window.ends, 0)]
    arguments: list[Argument] = [builder.read(node.inputs[0]), builder.write(node.outputs[0]), *scalars]
    builder.emit(kernel, arguments, flat_groups(count), [node])


def _two(values: Sequence[int], fill: int) -> list[int]:
    return [fill, values[0]] if len(values) == 1 else list(values)


OPERATORS.add({name: Operator(_reason, _lower) for name in ("MaxPool", "AveragePool")})

"""Gather and Pad."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_opencl.kernels.copy import flat_groups, row_major
from mace_opencl.kernels.selection import gather_kernel, lookup_kernel
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import MOVABLE, constant_reason, dtype_of, dtype_reason
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator

_INDEX_TYPES = {DType.INT32: "int", DType.INT64: "long"}


def _gather_reason(view: GraphView, node: Node) -> str | None:
    found = dtype_reason(view, node, MOVABLE, only=(0,))
    if found is not None:
        return found
    data, indices = node.inputs[0], node.inputs[1]
    assert data is not None
    assert indices is not None
    if dtype_of(view, indices) not in _INDEX_TYPES:
        return f"'{indices.name}' is {dtype_of(view, indices).label}; indices are int32 or int64"
    shape = view.shape(data)
    extent = shape[node.attr("axis", 0) % len(shape)]
    if extent == 0:
        return f"'{data.name}' is empty along the axis that is gathered from"
    known = view.constant(indices)
    if known is None:
        return (
            f"'{indices.name}' is computed during the run, and a kernel cannot report an index out of range; "
            "Gather takes constant indices here"
        )
    numbers = known.numpy()
    if numbers.size and not -extent <= int(numbers.min()) <= int(numbers.max()) < extent:
        return f"'{indices.name}' holds an index outside the {extent} elements of the axis"
    return None


def _gather(builder: Builder, node: Node, group: Group | None) -> None:
    shape = builder.shape(node.inputs[0])
    axis = node.attr("axis", 0) % len(shape)
    indices = node.inputs[1]
    assert indices is not None
    data = builder.read(node.inputs[0])
    kernel = gather_kernel(data.itemsize, _INDEX_TYPES[builder.dtype(indices)])
    count = builder.size(node.outputs[0])
    scalars = (count, shape[axis], builder.size(indices), math.prod(shape[axis + 1 :]))
    arguments = [data, builder.read(indices), builder.write(node.outputs[0]), *scalars]
    builder.emit(kernel, arguments, flat_groups(count), [node])


def emit_lookup(
    builder: Builder, node: Node, tables: Sequence[npt.NDArray[np.int32]], fill: Value | npt.NDArray[np.uint8] | None
) -> None:
    """``y[c0, c1, …] = x[tables[0][c0], tables[1][c1], …]``, or ``fill`` where a table says -1."""
    shape, result = builder.shape(node.inputs[0]), builder.shape(node.outputs[0])
    data = builder.read(node.inputs[0])
    kernel = lookup_kernel(data.itemsize, len(shape), fill is not None)
    starts = np.cumsum([0, *(len(table) for table in tables[:-1])]).tolist()
    arguments = [data, builder.data(np.concatenate(tables).astype(np.int32))]
    if fill is not None:
        arguments.append(builder.data(fill) if isinstance(fill, np.ndarray) else builder.read(fill))
    scalars = (math.prod(result), *result, *starts, *row_major(shape))
    builder.emit(kernel, [*arguments, builder.write(node.outputs[0]), *scalars], flat_groups(math.prod(result)), [node])


def _pad_reason(view: GraphView, node: Node) -> str | None:
    found = dtype_reason(view, node, MOVABLE, only=(0,)) or constant_reason(view, node, 1, 3)
    if found is not None:
        return found
    mode = node.attr("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        return f"the padding mode '{mode}' is not known here"
    x = node.inputs[0]
    assert x is not None
    shape = view.shape(x)
    if len(shape) == 0:
        return "a scalar cannot be padded"
    if 0 in shape and mode != "constant":
        return f"'{x.name}' is empty; padding it from its own edge is not possible"
    return None


def _pad(builder: Builder, node: Node, group: Group | None) -> None:
    x = node.inputs[0]
    assert x is not None
    shape = builder.shape(x)
    rank = len(shape)
    given = builder.constant(node.input(1))
    pads = [int(p) for p in (given.reshape(-1) if given is not None else node.attr("pads", node.attr("paddings", ())))]
    chosen = builder.constant(node.input(3))
    axes = [int(a) % rank for a in chosen.reshape(-1)] if chosen is not None else list(range(rank))
    before, behind = [0] * rank, [0] * rank
    for number, axis in enumerate(axes):
        before[axis], behind[axis] = pads[number], pads[number + len(axes)]
    mode = node.attr("mode", "constant")
    tables = [_pad_table(size, before[axis], behind[axis], mode) for axis, size in enumerate(shape)]
    fill: Value | npt.NDArray[np.uint8] | None = None
    if mode == "constant":
        value = node.input(2)
        fill = value
        if value is None:
            fill = np.array([float(node.attr("value", 0.0))], builder.dtype(x).numpy)
    emit_lookup(builder, node, tables, fill)


def _pad_table(size: int, before: int, behind: int, mode: str) -> npt.NDArray[np.int32]:
    """The source coordinate of each coordinate of the padded axis; -1 outside for constant padding."""
    at = np.arange(-before, size + behind)
    if mode == "constant":
        found = np.where((at >= 0) & (at < size), at, -1)
    elif mode == "edge":
        found = np.clip(at, 0, size - 1)
    elif mode == "wrap":
        found = at % size
    else:
        period = max(2 * (size - 1), 1)
        folded = at % period
        found = np.where(folded < size, folded, period - folded)
    return found.astype(np.int32)


OPERATORS.add(
    {
        "Gather": Operator(_gather_reason, _gather),
        "Pad": Operator(_pad_reason, _pad),
    }
)

"""Operators that move whole blocks of elements: reshaping, transposing, slicing, joining, repeating."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import GraphView, Node, Value
from mace_opencl.kernels.copy import broadcast_strides, copy_kernel, row_major
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import MOVABLE, constant_reason, dtype_reason, outputs_reason
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator


def _movable(view: GraphView, node: Node) -> str | None:
    return dtype_reason(view, node, MOVABLE, only=(0,))


def _alias_reason(view: GraphView, node: Node) -> str | None:
    return _movable(view, node) or outputs_reason(node)


def _dropout_reason(view: GraphView, node: Node) -> str | None:
    """Dropout is the identity where it is known to drop nothing."""
    found = _alias_reason(view, node)
    if found is not None:
        return found
    training = node.input(2)
    known = view.constant(training) if training is not None else None
    dropping = training is not None and (known is None or bool(known.numpy().any()))
    if dropping or (view.opset() < 7 and not node.attr("is_test", 0)):
        return "Dropout in training mode has no kernel here"
    return None


def _alias(builder: Builder, node: Node, group: Group | None) -> None:
    builder.alias(node.outputs[0], node.inputs[0])


def move(
    builder: Builder,
    node: Node,
    source: Value | None,
    target: Value | None,
    shape: Sequence[int],
    source_strides: Sequence[int],
    target_strides: Sequence[int],
    source_at: int = 0,
    target_at: int = 0,
) -> None:
    """Copy a block of ``shape``; strides and starting points in elements."""
    read, write = builder.read(source), builder.write(target)
    kernel, groups, scalars = copy_kernel(read.itemsize, shape, source_strides, target_strides, source_at, target_at)
    builder.emit(kernel, [read, write, *scalars], groups, [node])


def _transpose(builder: Builder, node: Node, group: Group | None) -> None:
    x, y = node.inputs[0], node.outputs[0]
    shape = builder.shape(x)
    order = node.attr("perm", tuple(reversed(range(len(shape)))))
    strides = row_major(shape)
    if [axis for axis in order if shape[axis] != 1] == [axis for axis in range(len(shape)) if shape[axis] != 1]:
        builder.alias(y, x)
        return
    move(builder, node, x, y, builder.shape(y), [strides[axis] for axis in order], row_major(builder.shape(y)))


def _concat(builder: Builder, node: Node, group: Group | None) -> None:
    y = node.outputs[0]
    axis = node.attr("axis") % len(builder.shape(y))
    strides = row_major(builder.shape(y))
    begin = 0
    for value in node.inputs:
        shape = builder.shape(value)
        if builder.size(value):
            move(builder, node, value, y, shape, row_major(shape), strides, 0, begin * strides[axis])
        begin += shape[axis]


def _split_reason(view: GraphView, node: Node) -> str | None:
    if any(value is None for value in node.outputs[:-1]):
        return "an output of Split in the middle is left out, and its size with it"
    return _movable(view, node)


def _split(builder: Builder, node: Node, group: Group | None) -> None:
    x = node.inputs[0]
    axis = node.attr("axis", 0) % len(builder.shape(x))
    strides = row_major(builder.shape(x))
    begin = 0
    for value in node.outputs:
        if value is None:
            break
        shape = builder.shape(value)
        move(builder, node, x, value, shape, strides, row_major(shape), begin * strides[axis])
        begin += shape[axis]


def _slice_reason(view: GraphView, node: Node) -> str | None:
    return _movable(view, node) or constant_reason(view, node, 1, 2, 3, 4)


def _slice(builder: Builder, node: Node, group: Group | None) -> None:
    x, y = node.inputs[0], node.outputs[0]
    shape = builder.shape(x)
    starts, ends, axes, steps = (_parameter(builder, node, i, name) for i, name in enumerate(_SLICE, 1))
    assert starts is not None
    assert ends is not None
    strides = list(row_major(shape))
    at = 0
    for number, axis in enumerate(range(len(starts)) if axes is None else axes):
        axis %= len(shape)
        begin, _, step = slice(starts[number], ends[number], 1 if steps is None else steps[number]).indices(shape[axis])
        at += begin * strides[axis]
        strides[axis] *= step
    if builder.size(y):
        move(builder, node, x, y, builder.shape(y), strides, row_major(builder.shape(y)), at)


_SLICE = ("starts", "ends", "axes", "steps")


def _parameter(builder: Builder, node: Node, index: int, attribute: str) -> list[int] | None:
    """Integers that newer opsets have as an input and older ones as an attribute."""
    found = builder.constant(node.input(index))
    if found is not None:
        return [int(item) for item in found.reshape(-1)]
    given = node.attr(attribute)
    return None if given is None else [int(item) for item in given]


def _expand(builder: Builder, node: Node, group: Group | None) -> None:
    x, y = node.inputs[0], node.outputs[0]
    shape = builder.shape(y)
    move(builder, node, x, y, shape, broadcast_strides(builder.shape(x), shape), row_major(shape))


def _tile(builder: Builder, node: Node, group: Group | None) -> None:
    """An axis of size s repeated r times is two axes (r, s), the first of which does not move the source."""
    x, y = node.inputs[0], node.outputs[0]
    shape, result = builder.shape(x), builder.shape(y)
    walk: list[int] = []
    source: list[int] = []
    for size, total, stride in zip(shape, result, row_major(shape), strict=True):
        walk += [total // size if size else 0, size]
        source += [0, stride]
    move(builder, node, x, y, walk, source, row_major(walk))


def _depth_to_space(builder: Builder, node: Node, group: Group | None) -> None:
    x, y = node.inputs[0], node.outputs[0]
    n, c, h, w = builder.shape(x)
    block = node.attr("blocksize")
    if node.attr("mode", "DCR") == "CRD":
        shape, order = (n, c // block**2, block, block, h, w), (0, 1, 4, 2, 5, 3)
    else:
        shape, order = (n, block, block, c // block**2, h, w), (0, 3, 4, 1, 5, 2)
    strides = row_major(shape)
    walk = [shape[axis] for axis in order]
    move(builder, node, x, y, walk, [strides[axis] for axis in order], row_major(walk))


def _space_to_depth(builder: Builder, node: Node, group: Group | None) -> None:
    x, y = node.inputs[0], node.outputs[0]
    n, c, h, w = builder.shape(x)
    block = node.attr("blocksize")
    shape = (n, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if node.attr("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    strides = row_major(shape)
    walk = [shape[axis] for axis in order]
    move(builder, node, x, y, walk, [strides[axis] for axis in order], row_major(walk))


OPERATORS.add(
    {
        **{
            name: Operator(_alias_reason, _alias) for name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
        },
        "Dropout": Operator(_dropout_reason, _alias),
        "Transpose": Operator(_movable, _transpose),
        "Concat": Operator(_movable, _concat),
        "Split": Operator(_split_reason, _split),
        "Slice": Operator(_slice_reason, _slice),
        "Expand": Operator(_movable, _expand),
        "Tile": Operator(_movable, _tile),
        "DepthToSpace": Operator(_movable, _depth_to_space),
        "SpaceToDepth": Operator(_movable, _space_to_depth),
    }
)

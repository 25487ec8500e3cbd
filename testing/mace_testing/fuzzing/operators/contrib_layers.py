"""Layers of com.microsoft in the layouts and with the weights that onnxruntime's tools write."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import CONTRIB, Array, OpCase
from mace_testing.fuzzing.operators.windows import draw_window
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

OPSET = 17
FLOAT = np.dtype(np.float32)
BYTES: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype(np.int8))


def _scale(source: Source) -> Array:
    return np.array(source.pick([0.25, 0.5, 0.125]), np.float32)


@draws("NhwcMaxPool", domain=CONTRIB)
def max_pool(source: Source, op: str) -> OpCase:
    window = draw_window(source, dilations=True, most_rank=2, same=False)
    x = source.array((1, *window.sizes, source.dim(1, 4)), source.pick(BYTES), -50, 50)
    return OpCase(op, OPSET, (x,), {**window.attributes, "kernel_shape": list(window.kernel)})


@draws("QLinearWhere", domain=CONTRIB)
def where(source: Source, op: str) -> OpCase:
    shape = source.shape(1, empty=False)
    dtype = source.pick(BYTES)
    inputs: list[Array] = [source.array(source.broadcast(shape), bool)]
    for _ in range(2):
        inputs += [source.array(source.broadcast(shape), dtype, -50, 50), _scale(source), source.array((), dtype, 0, 5)]
    inputs += [np.array(source.pick([0.5, 1.0, 2.0]), np.float32), source.array((), dtype, 0, 5)]
    constants = frozenset({2, 3, 5, 6, 7, 8})
    return OpCase(op, OPSET, tuple(inputs), constants=constants, off_by=1)


@draws("DynamicQuantizeLSTM", domain=CONTRIB)
def recurrent(source: Source, op: str) -> OpCase:
    """onnxruntime rounds data and states to 8 bits in every step: results are near, not the same."""
    direction = source.pick(["forward", "reverse", "bidirectional"])
    directions = 2 if direction == "bidirectional" else 1
    steps, batch, width, hidden = source.dim(1, 4), source.dim(1, 3), source.dim(1, 5), source.dim(1, 5)
    dtype = source.pick(BYTES)
    lanes = (directions, 4 * hidden) if source.flag() and dtype == np.int8 else (directions,)
    inputs: list[Array | None] = [
        source.floats((steps, batch, width), FLOAT, -1, 1),
        source.array((directions, width, 4 * hidden), dtype, -100, 100),
        source.array((directions, hidden, 4 * hidden), dtype, -100, 100),
        source.array((directions, 8 * hidden), FLOAT, -1, 1) if source.flag() else None,
        None,
        source.floats((directions, batch, hidden), FLOAT, -1, 1) if source.flag() else None,
        source.floats((directions, batch, hidden), FLOAT, -1, 1) if source.flag() else None,
        None,
    ]
    for _ in range(2):
        zeros = np.zeros(lanes, dtype) if len(lanes) == 2 else source.array(lanes, dtype, 0, 5)
        inputs += [np.full(lanes, 1 / 256, np.float32), zeros]
    attributes = {"hidden_size": hidden, "direction": direction}
    constants = frozenset({1, 2, 8, 9, 10, 11})
    return OpCase(op, OPSET, tuple(inputs), attributes, (True,) * 3, constants=constants, tolerance=6e-2)


@draws("GatherBlockQuantized", domain=CONTRIB)
def gather_blocks(source: Source, op: str) -> OpCase:
    bits, block = source.pick([4, 8]), source.pick([16, 32])
    rows, width = source.dim(1, 6), block * source.dim(1, 3)
    blocks = width // block
    inputs: list[Array | None] = [
        source.array((rows, width * bits // 8), np.uint8, 0, 255),
        source.array(source.shape(0, 2, largest=4, empty=False), source.pick([np.int32, np.int64]), 0, rows - 1),
        source.array((rows, blocks), FLOAT, 0.25, 1),
    ]
    if source.flag():
        inputs.append(source.array((rows, -(-blocks * bits // 8)), np.uint8, 0, 255))
    attributes = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    return OpCase(op, OPSET, tuple(inputs), attributes, constants=frozenset({0, 2, 3}))


@draws("CDist", domain=CONTRIB)
def distances(source: Source, op: str) -> OpCase:
    width = source.dim(1, 9)
    a, b = (source.array((source.dim(), width), FLOAT) for _ in range(2))
    attributes = {"metric": source.pick(["sqeuclidean", "euclidean"])}
    return OpCase(op, OPSET, (a, b), attributes, tolerance=1e-4)


@draws("ExpandDims", domain=CONTRIB)
def expand_dims(source: Source, op: str) -> OpCase:
    shape = source.shape(1, 3, empty=False)
    axis = np.array(source.integer(-len(shape) - 1, len(shape)), np.int32)
    return OpCase(op, OPSET, (source.array(shape, FLOAT), axis), constants=frozenset({1}))


@draws("Pad", domain=CONTRIB)
def pad(source: Source, op: str) -> OpCase:
    shape = source.shape(1, 3, empty=False)
    pads = source.array((2 * len(shape),), np.int64, 0, 3)
    pads = pads.reshape(1, -1) if source.flag() else pads
    inputs = (source.array(shape, FLOAT), pads, *((np.array([1.5], np.float32),) if source.flag() else ()))
    return OpCase(op, OPSET, inputs, {"mode": "constant"} if source.flag() else {}, constants=frozenset({1}))


@draws("GatherND", domain=CONTRIB)
def gather_nd(source: Source, op: str) -> OpCase:
    shape = source.shape(1, 3, largest=4, empty=False)
    depth = source.dim(1, len(shape))
    indices = np.stack([source.array((3,), np.int64, 0, shape[axis] - 1) for axis in range(depth)], axis=-1)
    return OpCase(op, OPSET, (source.array(shape, FLOAT), indices))


@draws("GridSample", domain=CONTRIB)
def grid_sample(source: Source, op: str) -> OpCase:
    sizes = [source.dim(2, 5) for _ in range(4)]
    x = source.array((1, source.dim(1, 3), *sizes[:2]), FLOAT)
    # bicubic disputes are the standard operator's; positions off the grid's lines have no ties
    grid = source.array((1, *sizes[2:], 2), FLOAT, -1.2, 1.2, 0.07)
    attributes = {
        "mode": source.pick(["bilinear", "bicubic"]),
        "padding_mode": source.pick(["zeros", "border"]),
        "align_corners": int(source.flag()),
    }
    return OpCase(op, OPSET, (x, grid), attributes, tolerance=1e-4)

"""Weights without their zeros, as constants and standard ONNX nodes that put them together again.

Rows of weights that are zero as a whole are left out.  A row is what a number of neighboring outputs (and the taps of a
kernel, where they have one pattern) have for one input.  A table says for each input which row it has; the row of zeros
is stored once.  Gather, Transpose and Reshape put the weights together; every engine that folds constants does so when
it loads the model, and every other one when it runs.  (ONNX's sparse initializers take 16 bytes of indices for each
value of 4 bytes, and few engines read them.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Node, Value
from mace_core.quantization.editing import Editor
from mace_core.sparsity.layers import Layer
from mace_core.sparsity.patterns import Pattern
from mace_core.tensor import DType, TensorType

Floats = npt.NDArray[np.float32]

WORTH_PACKING = 0.9
"""Packed weights must take less than this share of what they take as they are."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights (outputs, inputs * taps) of one group without rows of zeros.

    Attributes:
        rows: (rows + 1, shared, taps of a row): the last one is zeros.
        table: (tiles, parts, inputs), int32: the row of each input; parts are taps with patterns of their own, or one.
        outputs: how many there are; those of the last tile may be more.
    """

    rows: Floats
    table: npt.NDArray[np.int32]
    outputs: int

    @property
    def nbytes(self) -> int:
        """Of both."""
        return self.rows.nbytes + self.table.nbytes


def pack(weights: Floats, pattern: Pattern, taps: int) -> Packed:
    """Weights (outputs, inputs * taps) packed; `unpack` gives them back bit for bit."""
    outputs = len(weights)
    shared = min(pattern.shared, outputs)
    tiles = -(-outputs // shared)
    parts = taps if pattern.by_tap else 1
    full = np.zeros((tiles * shared, weights.shape[1]), np.float32)
    full[:outputs] = weights
    # (tiles, shared, inputs, parts, taps of a row) -> (tiles, parts, inputs, shared, taps of a row)
    blocks = full.reshape(tiles, shared, -1, parts, taps // parts).transpose(0, 3, 2, 1, 4)
    # zeros of either sign are the same number, but not the same bits: rows of +0 alone are left out
    used = (np.ascontiguousarray(blocks).view(np.uint32) != 0).any(axis=(3, 4))
    rows = np.concatenate([blocks[used], np.zeros((1, *blocks.shape[3:]), np.float32)])
    table = np.full(used.shape, len(rows) - 1, np.int32)
    table[used] = np.arange(len(rows) - 1, dtype=np.int32)
    return Packed(rows, table, outputs)


def unpack(packed: Packed) -> Floats:
    """What the nodes of `store_packed` compute."""
    blocks = packed.rows[packed.table]
    dense = blocks.transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(dense.reshape(-1, dense.shape[2] * dense.shape[3] * dense.shape[4])[: packed.outputs])


def store_packed(editor: Editor, layer: Layer, pruned: Floats, pattern: Pattern) -> list[Node]:
    """Let a layer of one group read packed weights; returns the nodes that put them together, to be placed before it.

    Args:
        pruned: (outputs, inputs * taps).

    Returns:
        No nodes where the weights would not be smaller; the layer reads them as they are then.
    """
    packed = pack(pruned, pattern, layer.taps)
    if layer.groups != 1 or packed.nbytes > WORTH_PACKING * pruned.nbytes:
        editor.replace_input_constant(layer.node, 1, layer.stored(pruned[None]))
        return []
    old = layer.node.inputs[1]
    assert old is not None
    editor.users[old].remove(layer.node)
    build = _Nodes(editor, old.name)
    shared, row_taps = packed.rows.shape[1:]
    tiles, parts, inputs = packed.table.shape
    rows, table = build.constant("rows", packed.rows), build.constant("table", packed.table)
    found = build.node("Gather", [rows, table], (tiles, parts, inputs, shared, row_taps), axis=0)
    if layer.node.op_type == "Conv" or layer.node.attr("transB", 0):
        found = build.node("Transpose", [found], (tiles, shared, inputs, parts, row_taps), perm=(0, 3, 2, 1, 4))
        shape: tuple[int, ...] = (tiles * shared, *layer.weights.shape[1:])
        axis = 0
    else:
        found = build.node("Transpose", [found], (inputs, tiles, shared, parts, row_taps), perm=(2, 0, 3, 1, 4))
        shape = (inputs, tiles * shared)
        axis = 1
    found = build.node("Reshape", [found, build.constant("shape", np.array(shape, np.int64))], shape)
    if tiles * shared != packed.outputs:
        ends = [build.constant(name, np.array([at], np.int64)) for name, at in _bounds(packed.outputs, axis)]
        kept = tuple(packed.outputs if at == axis else size for at, size in enumerate(shape))
        found = build.node("Slice", [found, *ends], kept)
    layer.node.inputs[1] = found
    return build.nodes


def _bounds(outputs: int, axis: int) -> Sequence[tuple[str, int]]:
    return ("starts", 0), ("ends", outputs), ("axes", axis)


class _Nodes:
    """Nodes that compute a constant, in order."""

    def __init__(self, editor: Editor, name: str) -> None:
        self._editor, self._name = editor, name
        self.nodes: list[Node] = []

    def constant(self, what: str, array: npt.NDArray[np.generic]) -> Value:
        return self._editor.constant(f"{self._name}_{what}", array)

    def node(
        self,
        op: str,
        inputs: list[Value],
        shape: tuple[int, ...],
        *,
        axis: int | None = None,
        perm: tuple[int, ...] = (),
    ) -> Value:
        attributes = {}
        if axis is not None:
            attributes["axis"] = Attribute(AttributeKind.INT, axis)
        if perm:
            attributes["perm"] = Attribute(AttributeKind.INTS, perm)
        result = self._editor.value(f"{self._name}_{op}", TensorType(DType.FLOAT32, shape))
        made = self._editor.node(op, inputs, [result], name=f"{self._name}_{op}", attributes=attributes)
        self.nodes.append(made)
        return result

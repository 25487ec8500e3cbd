"""Weights without their zeros, as constants and standard ONNX nodes that put them together again.

Rows of weights that are zero as a whole are left out.  A row is what a number of neighboring outputs (and the taps of a
kernel, where they have one pattern) have for one input.  A table says for each input which row it has; the row of zeros
is stored once.  Gather, Transpose and Reshape put the weights together; every engine that folds constants does so when
it loads the model, and every other one when it runs.  (ONNX's sparse initializers take 16 bytes of indices for each
value of 4 bytes, and few engines read them.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.quantization.editing import Editor
from mace_core.tensor import DType, TensorType

Array = npt.NDArray[Any]

WORTH_PACKING = 0.9
"""Packed weights must take less than this share of what they take as they are."""

SHARED = (64, 32)
"""How many neighboring outputs may have their zeros at the same inputs, in weights whose pattern is not known."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Weights (outputs, inputs * taps) of one group without rows of zeros.

    Attributes:
        rows: (rows + 1, shared, taps of a row): the last one is zeros.
        table: (tiles, parts, inputs), int32: the row of each input; parts are taps with patterns of their own, or one.
        outputs: how many there are; those of the last tile may be more.
    """

    rows: Array
    table: npt.NDArray[np.int32]
    outputs: int

    @property
    def nbytes(self) -> int:
        """Of both."""
        return self.rows.nbytes + self.table.nbytes


def pack_rows(weights: Array, shared: int, taps: int, *, by_tap: bool) -> PackedRows:
    """Weights (outputs, inputs * taps) packed, of which ``shared`` outputs have one pattern; nothing is lost.

    Args:
        by_tap: each tap has a pattern of its own.
    """
    outputs = len(weights)
    shared = min(shared, outputs)
    tiles = -(-outputs // shared)
    parts = taps if by_tap else 1
    full = np.zeros((tiles * shared, weights.shape[1]), weights.dtype)
    full[:outputs] = weights
    # (tiles, shared, inputs, parts, taps of a row) -> (tiles, parts, inputs, shared, taps of a row)
    blocks = np.ascontiguousarray(full.reshape(tiles, shared, -1, parts, taps // parts).transpose(0, 3, 2, 1, 4))
    # zeros of either sign are the same number, but not the same bits: rows of +0 alone are left out
    used = (blocks.view(f"u{weights.dtype.itemsize}") != 0).any(axis=(3, 4))
    rows = np.concatenate([blocks[used], np.zeros((1, *blocks.shape[3:]), weights.dtype)])
    table = np.full(used.shape, len(rows) - 1, np.int32)
    table[used] = np.arange(len(rows) - 1, dtype=np.int32)
    return PackedRows(rows, table, outputs)


def unpack_rows(packed: PackedRows) -> Array:
    """What the nodes of `emit_rows` compute."""
    blocks = packed.rows[packed.table]
    dense = blocks.transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(dense.reshape(-1, dense.shape[2] * dense.shape[3] * dense.shape[4])[: packed.outputs])


def emit_rows(
    editor: Editor, name: str, packed: PackedRows, shape: Sequence[int], *, by_inputs: bool
) -> tuple[Value, list[Node]]:
    """Nodes that put weights together, in order, and what they compute.

    Args:
        name: new names begin with it.
        shape: of the weights: (outputs, inputs, taps along each axis).
        by_inputs: they lie as (inputs, outputs), and that is the shape.
    """
    dtype = DType.from_numpy(packed.rows.dtype)
    build = _Nodes(editor, name, dtype)
    shared, row_taps = packed.rows.shape[1:]
    tiles, parts, inputs = packed.table.shape
    rows, table = build.constant("rows", packed.rows), build.constant("table", packed.table)
    found = build.node("Gather", [rows, table], (tiles, parts, inputs, shared, row_taps), axis=0)
    if by_inputs:
        found = build.node("Transpose", [found], (inputs, tiles, shared, parts, row_taps), perm=(2, 0, 3, 1, 4))
        whole: tuple[int, ...] = (inputs, tiles * shared)
        axis = 1
    else:
        found = build.node("Transpose", [found], (tiles, shared, inputs, parts, row_taps), perm=(0, 3, 2, 1, 4))
        whole, axis = (tiles * shared, *shape[1:]), 0
    found = build.node("Reshape", [found, build.constant("shape", np.array(whole, np.int64))], whole)
    if tiles * shared != packed.outputs:
        bounds = ("starts", 0), ("ends", packed.outputs), ("axes", axis)
        ends = [build.constant(what, np.array([at], np.int64)) for what, at in bounds]
        found = build.node("Slice", [found, *ends], tuple(shape))
    return found, build.nodes


def pack_quantized(graph: Graph) -> bool:
    """Store weights of 8 bits that DequantizeLinear nodes read, and that are zero in patterns, without their zeros.

    Returns:
        Whether there were any.
    """
    editor = Editor(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += _packed_input(editor, node)
        nodes.append(node)
    found = len(nodes) > len(graph.nodes)
    graph.nodes = nodes
    editor.sweep()
    return found


def _packed_input(editor: Editor, node: Node) -> list[Node]:
    """Let a DequantizeLinear read packed weights: the nodes to be placed before it, if it reads any."""
    stored = node.input(0)
    if node.domain or node.op_type != "DequantizeLinear" or stored is None or stored.constant is None:
        return []
    dense = stored.constant.numpy()
    if dense.dtype.itemsize != 1 or dense.dtype.kind != "i" or dense.ndim < 2 or not dense.size:
        return []
    result = node.outputs[0]
    users = editor.users.get(result, []) if result is not None else []
    if len(users) != 1 or len(editor.users[stored]) != 1 or users[0].input(1) is not result:
        return []
    user = users[0]
    is_conv = user.op_type == "Conv" and user.attr("group", 1) == 1 and dense.ndim > 2
    is_product = dense.ndim == 2 and (
        user.op_type == "MatMul" or (user.op_type == "Gemm" and not user.attr("transA", 0))
    )
    if user.domain or not (is_conv or is_product):
        return []
    by_inputs = is_product and not (user.op_type == "Gemm" and user.attr("transB", 0))
    taps = math.prod(dense.shape[2:]) if is_conv else 1
    matrix = dense.T if by_inputs else dense.reshape(len(dense), -1)
    if np.count_nonzero(matrix) > WORTH_PACKING * matrix.size:
        return []
    ways = [(shared, by_tap) for shared in SHARED for by_tap in ((False, True) if taps > 1 else (False,))]
    candidates = [pack_rows(matrix, shared, taps, by_tap=by_tap) for shared, by_tap in ways]
    packed = min(candidates, key=lambda candidate: candidate.nbytes)
    if packed.nbytes > WORTH_PACKING * dense.nbytes:
        return []
    node.inputs[0], made = emit_rows(editor, stored.name, packed, dense.shape, by_inputs=by_inputs)
    return made


class _Nodes:
    """Nodes that compute a constant, in order."""

    def __init__(self, editor: Editor, name: str, dtype: DType) -> None:
        self._editor, self._name, self._dtype = editor, name, dtype
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
        result = self._editor.value(f"{self._name}_{op}", TensorType(self._dtype, shape))
        made = self._editor.node(op, inputs, [result], name=f"{self._name}_{op}", attributes=attributes)
        self.nodes.append(made)
        return result

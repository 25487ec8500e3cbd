"""Pruned weights without their zeros; see `mace_core.quantization.packed_rows`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node
from mace_core.quantization.editing import Editor
from mace_core.quantization.packed_rows import WORTH_PACKING, PackedRows, emit_rows, pack_rows, unpack_rows
from mace_core.sparsity.layers import Layer
from mace_core.sparsity.patterns import Pattern

Floats = npt.NDArray[np.float32]


def pack(weights: Floats, pattern: Pattern, taps: int) -> PackedRows:
    """Weights (outputs, inputs * taps) packed; `unpack` gives them back bit for bit."""
    return pack_rows(weights, pattern.shared, taps, by_tap=pattern.by_tap)


def unpack(packed: PackedRows) -> Floats:
    """What the nodes of `store_packed` compute."""
    return unpack_rows(packed)


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
    by_inputs = not (layer.node.op_type == "Conv" or layer.node.attr("transB", 0))
    layer.node.inputs[1], nodes = emit_rows(editor, old.name, packed, layer.weights.shape, by_inputs=by_inputs)
    return nodes

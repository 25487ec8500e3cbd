"""Tables that rows are looked up in (embeddings), stored as integers: what is looked up is dequantized behind.

Each column has a scale of its own. The rows are gathered as bytes, so the table is never unpacked.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.quantization.editing import Editor
from mace_core.quantization.encodings import quantize, weight_encoding
from mace_core.quantization.grids import Grid
from mace_core.quantization.prepare import is_float_constant
from mace_core.tensor import QuantEncoding, Tensor, TensorType

Tables: TypeAlias = dict[Node, tuple[npt.NDArray[Any], QuantEncoding]]
"""Integers and encoding of the table of each node."""

LEAST_ELEMENTS = 4096
"""Smaller tables are not worth a node."""


def store_tables(graph: Graph, grid: Grid, excluded: Collection[Node]) -> Tables:
    """Store the constant tables of a graph's Gather nodes, in place.

    Args:
        excluded: nodes that stay in float.
    """
    editor = Editor(graph)
    found: Tables = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(node)
        if node in excluded or not is_table_lookup(node) or len(editor.users.get(_table(node), ())) != 1:
            continue
        table, result = _table(node), node.outputs[0]
        assert table.constant is not None and result is not None
        array = table.constant.numpy()
        encoding = weight_encoding(array, grid, axis=1)
        integers = quantize(array, encoding)
        found[node] = integers, encoding
        node.inputs[0] = editor.constant(f"{table.name}_quantized", Tensor.from_numpy(integers))
        shape = result.type.shape if isinstance(result.type, TensorType) else None
        rows = editor.value(f"{result.name}_quantized", TensorType(encoding.dtype, shape))
        node.outputs[0], rows.producer = rows, node
        scale = editor.constant(f"{table.name}_scale", encoding.scale)
        zero = editor.constant(f"{table.name}_zero_point", encoding.zero_point)
        attributes = {"axis": Attribute(AttributeKind.INT, -1)}
        name = f"{result.name}_DequantizeLinear"
        nodes.append(editor.node("DequantizeLinear", [rows, scale, zero], [result], name=name, attributes=attributes))
    graph.nodes = nodes
    editor.sweep()
    return found


def is_table_lookup(node: Node) -> bool:
    """Whether a node gathers rows of a constant float table of two dimensions that is large enough."""
    if node.domain or node.op_type != "Gather" or int(node.attr("axis", 0)) != 0:
        return False
    table = node.inputs[0]
    if not is_float_constant(table) or table is None or table.constant is None:
        return False
    return len(table.constant.shape) == 2 and table.constant.size >= LEAST_ELEMENTS


def _table(node: Node) -> Value:
    table = node.inputs[0]
    assert table is not None
    return table

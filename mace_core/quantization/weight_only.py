"""Weights alone in few bits: stored in blocks with a scale each, behind a DequantizeLinear that engines fuse.

The inner dimension of a product is divided into blocks. onnxruntime turns the pair DequantizeLinear and MatMul into
MatMulNBits; others unpack the weights once, or in their kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.quantization.editing import Editor
from mace_core.quantization.encodings import transposed
from mace_core.quantization.grids import Grid
from mace_core.quantization.prepare import is_float_constant
from mace_core.quantization.weights.nearest import round_to_nearest
from mace_core.tensor import DType, QuantEncoding, Tensor, TensorType

Array = npt.NDArray[Any]

Round = Callable[[Node, Array, Grid, int | None, int], tuple[Array, QuantEncoding]]
"""``(node, weights (inputs, results), grid, axis, block size)`` to integers of that shape and their encoding."""


@dataclass(slots=True)
class WeightsStored:
    """What was stored in few bits.

    Attributes:
        weights: integers and encoding of each product, in the form of its float weights.
        floats: why each other product keeps its weights.
    """

    weights: dict[Node, tuple[Array, QuantEncoding]] = field(default_factory=dict)
    floats: dict[Node, str] = field(default_factory=dict)


def nearest(node: Node, weights: Array, grid: Grid, axis: int | None, block: int) -> tuple[Array, QuantEncoding]:
    """Each weight to the nearest step, of the range of each group that loses least."""
    found = round_to_nearest(weights, grid, axis=axis, block_size=block)
    return found.steps.astype(grid.dtype.numpy), found.encoding


def store_weights(
    graph: Graph,
    grid: Grid,
    excluded: Mapping[Node, str],
    *,
    block: int,
    per_channel: bool,
    rounding: Round = nearest,
    wide: Grid | None = None,
    wider: Collection[str] = (),
) -> WeightsStored:
    """Store the constant matrices of a graph's products in the integers of ``grid``, in place.

    Args:
        excluded: nodes that stay in float, each with the reason.
        block: numbers along the inner dimension that share a scale; 0 for none.
        per_channel: without blocks, whether each result has a scale.
        rounding: chooses the integers.
        wide, wider: the integers for nodes of these names, in place of ``grid``.
    """
    editor, found = Editor(graph), WeightsStored()
    made: dict[tuple[Value, bool], Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        reason = reason_against(node, excluded)
        if reason:
            found.floats[node] = reason
        elif reason is None:
            value = node.inputs[1]
            assert value is not None and value.constant is not None
            array = value.constant.numpy()
            is_transposed = bool(node.op_type == "Gemm" and node.attr("transB", 0))
            matrix = np.ascontiguousarray(array.T) if is_transposed else array
            own_block = block_of(matrix.shape[0], block)
            axis = 0 if own_block else 1 if per_channel or block else None
            own = wide if wide is not None and node.name in wider else grid
            integers, encoding = rounding(node, matrix, own, axis, own_block)
            found.weights[node] = transposed(integers, encoding) if is_transposed else (integers, encoding)
            key = (value, is_transposed)
            if key not in made:
                added, made[key] = _dequantized(editor, value, integers, encoding)
                nodes.append(added)
            node.inputs[1] = made[key]
            if is_transposed:
                node.attributes.pop("transB")
        nodes.append(node)
    graph.nodes = nodes
    editor.sweep()
    return found


def block_of(inputs: int, wanted: int) -> int:
    """How many of the inputs of a product share a scale: as many as wanted, or the most below that divide them.

    A last block that is shorter is allowed by ONNX, but OpenVINO does not open such a model. 0, for a scale for each
    result, where no number of half as many or more divides the inputs.
    """
    most = min(wanted, inputs)
    return next((size for size in range(most, most // 2, -1) if inputs % size == 0), 0)


def reason_against(node: Node, excluded: Mapping[Node, str]) -> str | None:
    """None if a node's weights are stored in few bits; empty if it is no product at all."""
    if node.domain or node.op_type not in ("MatMul", "Gemm", "Conv", "ConvTranspose"):
        return ""
    if node in excluded:
        return excluded[node]
    if node.op_type in ("Conv", "ConvTranspose"):
        return "weights of convolutions have no inner dimension to divide into blocks"
    if not is_float_constant(node.inputs[1]):
        return "its weights are computed in the run"
    value = node.inputs[1]
    assert value is not None and value.constant is not None
    if len(value.constant.shape) != 2:
        return "its weights are no matrix"
    return None


def _dequantized(editor: Editor, value: Value, integers: Array, encoding: QuantEncoding) -> tuple[Node, Value]:
    stored = Tensor.from_numpy(np.asarray(integers.astype(encoding.dtype.numpy), order="C"))
    inputs = [
        editor.constant(f"{value.name}_quantized", stored),
        editor.constant(f"{value.name}_scale", encoding.scale),
    ]
    if encoding.zero_point.any():
        inputs.append(editor.constant(f"{value.name}_zero_point", Tensor.from_numpy(encoding.zero_point)))
    attributes = {}
    if encoding.axis is not None:
        attributes["axis"] = Attribute(AttributeKind.INT, encoding.axis)
    if encoding.block_size:
        attributes["block_size"] = Attribute(AttributeKind.INT, encoding.block_size)
    result = editor.value(f"{value.name}_DequantizeLinear_Output", TensorType(DType.FLOAT32, integers.shape))
    node = editor.node(
        "DequantizeLinear", inputs, [result], name=f"{value.name}_DequantizeLinear", attributes=attributes
    )
    return node, result

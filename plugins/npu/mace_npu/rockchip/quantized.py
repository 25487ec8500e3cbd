"""Quantized models as rknn-toolkit2 reads them: pairs of QuantizeLinear and DequantizeLinear in 8 bits.

The toolkit takes over the scales and zero points of such a model, and its own build for the chip computes in integers.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.graph.clusters import same_encoding
from mace_core.graph.encodings import node_encoding
from mace_core.provider import Claim
from mace_core.tensor import DType, Tensor, TensorType

CONVERTERS = frozenset({"QuantizeLinear", "DequantizeLinear"})

ACTIVATIONS = frozenset({DType.INT8, DType.UINT8})
_WEIGHTS = frozenset({DType.INT8, DType.UINT8, DType.INT32})

_PRODUCTS = frozenset({"MatMul", "Gemm"})


def why_not_converter(view: GraphView, node: Node) -> str | None:
    """Why a QuantizeLinear or DequantizeLinear by itself is declined."""
    encoding = node_encoding(view, node)
    if encoding is None:
        return "its scale or zero point is not constant"
    is_weight = _is_weight(view, node)
    if encoding.dtype not in (_WEIGHTS if is_weight else ACTIVATIONS):
        return f"rknn-toolkit2 reads quantized models in 8 bits, not in {encoding.dtype.label}"
    if encoding.block_size or (encoding.axis is not None and not is_weight):
        return "rknn-toolkit2 reads one scale for an activation, and one for each channel of a weight"
    return None


def decline_halves(view: GraphView, reasons: dict[Node, str]) -> None:
    """Add to ``reasons`` the nodes that cannot be run without some that are in it already.

    Integers never cross the border of a subgraph: a QuantizeLinear goes with all DequantizeLinear behind it, and a
    quantized weight with all that reads it.
    """
    found = True
    while found:
        found = False
        for node in view.nodes:
            if node not in reasons and (reason := _why_not_half(view, node, reasons)) is not None:
                reasons[node] = reason
                found = True


def _why_not_half(view: GraphView, node: Node, reasons: dict[Node, str]) -> str | None:
    if node.op_type == "QuantizeLinear":
        stored = node.outputs[0]
        if stored is None or view.is_output(stored):
            return "what it quantizes is a result in integers"
        if any(not _undoes(view, user, node) or user in reasons for user in view.users(stored)):
            return "what it quantizes is read in integers elsewhere too"
        exact = node.inputs[0]
        if exact is not None and exact.producer is not None and (view.is_output(exact) or len(view.users(exact)) > 1):
            return "what it quantizes is read unrounded too, which rknn-toolkit2 does not keep"
        return None
    if node.op_type == "DequantizeLinear" and not _is_weight(view, node):
        stored = node.inputs[0]
        maker = None if stored is None else stored.producer
        if maker is None or maker.op_type != "QuantizeLinear" or maker in reasons:
            return "what it dequantizes comes in integers from elsewhere"
        return None
    if node.op_type == "DequantizeLinear":
        result = node.outputs[0]
        if result is None or view.is_output(result) or any(user in reasons for user in view.users(result)):
            return "what reads the weight runs elsewhere"
        return None
    if node.op_type in _PRODUCTS and _has_rows(view, node) and any(map(_is_dequantized, node.inputs)):
        return "rknn-toolkit2 does not come to an end with a quantized product of several rows"
    for value in node.inputs:
        maker = None if value is None else value.producer
        if maker is not None and maker in reasons and maker.op_type == "DequantizeLinear" and _is_weight(view, maker):
            return f"its weight is quantized in a form that is declined ({reasons[maker]})"
    return None


def _has_rows(view: GraphView, node: Node) -> bool:
    """Whether the first factor of a product is a matrix of several rows; four dimensions are computed otherwise."""
    found = None if node.inputs[0] is None else view.tensor_type(node.inputs[0])
    shape = () if found is None or not found.is_concrete else found.concrete_shape
    return len(shape) == 3 or (len(shape) == 2 and shape[0] > 1)


def _is_dequantized(value: Value | None) -> bool:
    return value is not None and value.producer is not None and value.producer.op_type == "DequantizeLinear"


def whole(view: GraphView, claimed: Collection[Node]) -> list[Claim]:
    """What of the claimed nodes must not be taken apart."""
    claims: list[Claim] = []
    for node in claimed:
        keeps = node.op_type == "QuantizeLinear" or _is_weight(view, node)
        if keeps and node.outputs[0] is not None:
            claims.append(Claim((node, *view.users(node.outputs[0])), atomic=True))
    return claims


def spell_out_zero_points(graph: Graph) -> None:
    """Give a zero point to each DequantizeLinear that has none: rknn-toolkit2 2.5 fails without."""
    for number, node in enumerate(graph.nodes):
        stored, scale = node.input(0), node.input(1)
        if node.op_type != "DequantizeLinear" or node.input(2) is not None or stored is None or scale is None:
            continue
        held = stored.constant if stored.constant is not None else stored.type
        assert isinstance(held, Tensor | TensorType)
        assert scale.constant is not None
        zeros = Tensor.from_numpy(np.zeros(scale.constant.shape, held.dtype.numpy))
        value = Value(f"{number}:zero_point", None, zeros)
        graph.initializers[value.name] = value
        node.inputs = [stored, scale, value]


def is_quantized(view: GraphView) -> bool:
    """Whether a view has quantized numbers."""
    return any(node.op_type in CONVERTERS for node in view.nodes)


def _is_weight(view: GraphView, node: Node) -> bool:
    return node.op_type == "DequantizeLinear" and view.constant(node.input(0)) is not None


def _undoes(view: GraphView, user: Node, quantizer: Node) -> bool:
    if user.op_type != "DequantizeLinear" or user.domain:
        return False
    made, read = node_encoding(view, quantizer), node_encoding(view, user)
    return made is not None and read is not None and same_encoding(made, read)

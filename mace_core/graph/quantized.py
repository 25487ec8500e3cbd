"""Which nodes compute with quantized numbers."""

from __future__ import annotations

from mace_core.graph import Node

_QUANTIZED_OPS = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"),
        *("MatMulNBits", "GatherBlockQuantized", "MatMulBnb4", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
        *("QGemm", "QAttention", "QEmbedLayerNormalization", "MatMulIntegerToFloat"),
    }
)


def is_quantized(node: Node) -> bool:
    """Whether a node reads or writes quantized numbers, by its operator."""
    return node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear")

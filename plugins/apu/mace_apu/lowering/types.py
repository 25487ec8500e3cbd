"""Which element types each Neuron operation takes (NNAPI feature level 30), and how model types are called there."""

from __future__ import annotations

from mace_apu.neuron.constants import OperandCode, Operation
from mace_core.tensor import DType

Code = OperandCode

PLAIN: dict[DType, OperandCode] = {
    DType.FLOAT32: Code.TENSOR_FLOAT32,
    DType.FLOAT16: Code.TENSOR_FLOAT16,
    DType.INT32: Code.TENSOR_INT32,
    DType.INT64: Code.TENSOR_INT32,
    DType.BOOL: Code.TENSOR_BOOL8,
}
"""Types of numbers that stand for themselves; int64 is int32 inside."""

QUANTIZED: dict[DType, OperandCode] = {
    DType.UINT8: Code.TENSOR_QUANT8_ASYMM,
    DType.INT8: Code.TENSOR_QUANT8_ASYMM_SIGNED,
}

FLOATS = frozenset({Code.TENSOR_FLOAT32, Code.TENSOR_FLOAT16})
BYTES = frozenset({Code.TENSOR_QUANT8_ASYMM, Code.TENSOR_QUANT8_ASYMM_SIGNED})
_INTEGERS = frozenset({Code.TENSOR_INT32})
_BOOLEANS = frozenset({Code.TENSOR_BOOL8})

_FLOAT_ONLY = (
    *(Operation.FLOOR, Operation.DIV, Operation.ABS, Operation.EXP, Operation.POW, Operation.RSQRT, Operation.SQRT),
    *(Operation.REDUCE_SUM, Operation.INSTANCE_NORMALIZATION, Operation.QUANTIZE),
)
_FLOAT_OR_BYTE = (
    *(Operation.ADD, Operation.SUB, Operation.MUL, Operation.AVERAGE_POOL_2D, Operation.MAX_POOL_2D),
    *(Operation.CONCATENATION, Operation.CONV_2D, Operation.DEPTHWISE_CONV_2D, Operation.GROUPED_CONV_2D),
    *(Operation.TRANSPOSE_CONV_2D, Operation.FULLY_CONNECTED, Operation.DEPTH_TO_SPACE, Operation.SPACE_TO_DEPTH),
    *(Operation.CHANNEL_SHUFFLE, Operation.LOGISTIC, Operation.TANH, Operation.SOFTMAX, Operation.RELU),
    *(Operation.RELU1, Operation.RELU6, Operation.HARD_SWISH, Operation.PRELU, Operation.RESHAPE),
    *(Operation.TRANSPOSE, Operation.RESIZE_BILINEAR, Operation.RESIZE_NEAREST_NEIGHBOR, Operation.MEAN),
    *(Operation.REDUCE_MAX, Operation.REDUCE_MIN, Operation.PAD_V2, Operation.STRIDED_SLICE),
)
_FLOAT_INT_OR_BYTE = (
    *(Operation.ARGMAX, Operation.ARGMIN, Operation.GATHER, Operation.MAXIMUM, Operation.MINIMUM),
    *(Operation.SLICE, Operation.SPLIT, Operation.TILE, Operation.TOPK_V2, Operation.EXPAND_DIMS),
)
_COMPARISONS = (
    *(Operation.EQUAL, Operation.NOT_EQUAL, Operation.LESS, Operation.LESS_EQUAL),
    *(Operation.GREATER, Operation.GREATER_EQUAL),
)

MOVES = frozenset({
    *(Operation.RESHAPE, Operation.TRANSPOSE, Operation.TILE, Operation.SLICE, Operation.STRIDED_SLICE),
    *(Operation.CONCATENATION, Operation.GATHER, Operation.SPLIT, Operation.EXPAND_DIMS),
})  # fmt: skip
"""What moves numbers and changes none; truth values go as 0 and 1."""

TAKES: dict[Operation, frozenset[OperandCode]] = {
    **dict.fromkeys(_FLOAT_ONLY, FLOATS),
    **dict.fromkeys(_FLOAT_OR_BYTE, FLOATS | BYTES),
    Operation.ADD: FLOATS | _INTEGERS | BYTES,
    **dict.fromkeys(_FLOAT_INT_OR_BYTE, FLOATS | _INTEGERS | BYTES),
    **dict.fromkeys(_COMPARISONS, FLOATS | _INTEGERS | BYTES | _BOOLEANS),
    **dict.fromkeys((Operation.LOGICAL_AND, Operation.LOGICAL_OR, Operation.LOGICAL_NOT), _BOOLEANS),
    **dict.fromkeys((Operation.REDUCE_ALL, Operation.REDUCE_ANY), _BOOLEANS),
    Operation.SELECT: _BOOLEANS,
    Operation.DEQUANTIZE: BYTES,
    Operation.NEG: FLOATS | _INTEGERS,
    Operation.CAST: FLOATS | _INTEGERS,
    Operation.BATCH_MATMUL: FLOATS | {Code.TENSOR_QUANT8_ASYMM_SIGNED},
}
"""Types of the first operand."""

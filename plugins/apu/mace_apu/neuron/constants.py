"""Numbers of the Neuron Adapter interface, as its public header (NeuronAdapter.h) gives them."""

from __future__ import annotations

import enum
from typing import NamedTuple

MAX_COPIED_BYTES = 128
"""Values of operands up to this are copied when they are set; longer ones must outlive the compilation."""


class Result(enum.IntEnum):
    """What each function returns."""

    NO_ERROR = 0
    OUT_OF_MEMORY = 1
    INCOMPLETE = 2
    UNEXPECTED_NULL = 3
    BAD_DATA = 4
    OP_FAILED = 5
    UNMAPPABLE = 6
    BAD_STATE = 7
    BAD_VERSION = 8
    OUTPUT_INSUFFICIENT_SIZE = 9
    UNAVAILABLE_DEVICE = 10
    MISSED_DEADLINE_TRANSIENT = 11
    MISSED_DEADLINE_PERSISTENT = 12
    RESOURCE_EXHAUSTED_TRANSIENT = 13
    RESOURCE_EXHAUSTED_PERSISTENT = 14
    DEAD_OBJECT = 15


class OperandCode(enum.IntEnum):
    """Types of operands."""

    FLOAT32 = 0
    INT32 = 1
    UINT32 = 2
    TENSOR_FLOAT32 = 3
    TENSOR_INT32 = 4
    TENSOR_QUANT8_ASYMM = 5
    BOOL = 6
    TENSOR_QUANT16_SYMM = 7
    TENSOR_FLOAT16 = 8
    TENSOR_BOOL8 = 9
    FLOAT16 = 10
    TENSOR_QUANT8_SYMM_PER_CHANNEL = 11
    TENSOR_QUANT16_ASYMM = 12
    TENSOR_QUANT8_SYMM = 13
    TENSOR_QUANT8_ASYMM_SIGNED = 14


class Operation(enum.IntEnum):
    """Operations, those that some version has."""

    ADD = 0
    AVERAGE_POOL_2D = 1
    CONCATENATION = 2
    CONV_2D = 3
    DEPTHWISE_CONV_2D = 4
    DEPTH_TO_SPACE = 5
    DEQUANTIZE = 6
    FLOOR = 8
    FULLY_CONNECTED = 9
    L2_NORMALIZATION = 11
    L2_POOL_2D = 12
    LOGISTIC = 14
    MAX_POOL_2D = 17
    MUL = 18
    RELU = 19
    RELU1 = 20
    RELU6 = 21
    RESHAPE = 22
    RESIZE_BILINEAR = 23
    SOFTMAX = 25
    SPACE_TO_DEPTH = 26
    TANH = 28
    BATCH_TO_SPACE_ND = 29
    DIV = 30
    MEAN = 31
    PAD = 32
    SPACE_TO_BATCH_ND = 33
    SQUEEZE = 34
    STRIDED_SLICE = 35
    SUB = 36
    TRANSPOSE = 37
    ABS = 38
    ARGMAX = 39
    ARGMIN = 40
    CAST = 45
    CHANNEL_SHUFFLE = 46
    EQUAL = 48
    EXP = 49
    EXPAND_DIMS = 50
    GATHER = 51
    GREATER = 53
    GREATER_EQUAL = 54
    GROUPED_CONV_2D = 55
    INSTANCE_NORMALIZATION = 57
    LESS = 58
    LESS_EQUAL = 59
    LOGICAL_AND = 61
    LOGICAL_NOT = 62
    LOGICAL_OR = 63
    MAXIMUM = 65
    MINIMUM = 66
    NEG = 67
    NOT_EQUAL = 68
    PAD_V2 = 69
    POW = 70
    PRELU = 71
    QUANTIZE = 72
    REDUCE_ALL = 75
    REDUCE_ANY = 76
    REDUCE_MAX = 77
    REDUCE_MIN = 78
    REDUCE_SUM = 80
    RSQRT = 83
    SELECT = 84
    SLICE = 86
    SPLIT = 87
    SQRT = 88
    TILE = 89
    TOPK_V2 = 90
    TRANSPOSE_CONV_2D = 91
    RESIZE_NEAREST_NEIGHBOR = 94
    HARD_SWISH = 99
    FILL = 100
    BATCH_MATMUL = 102


class ExtensionOperation(NamedTuple):
    """An operation that a library has beyond those of the interface.

    Attributes:
        extension: its name.
        code: the number of the operation in it.
        name: for messages.
    """

    extension: str
    code: int
    name: str


SINCE: dict[Operation, tuple[int, int, int]] = {Operation.BATCH_MATMUL: (5, 1, 2)}
"""The version that an operation came with, where that is not `FIRST_VERSION`."""

FIRST_VERSION = (4, 1, 0)
"""The version that the functions and operations came with that have no other."""


class Fuse(enum.IntEnum):
    """Activations that arithmetic, convolutions and pools may end with."""

    NONE = 0
    RELU = 1
    RELU1 = 2
    RELU6 = 3


class Preference(enum.IntEnum):
    """What an execution is to be good at."""

    LOW_POWER = 0
    FAST_SINGLE_ANSWER = 1
    SUSTAINED_SPEED = 2
    TURBO_BOOST = 3


class Priority(enum.IntEnum):
    """Of a compilation among others."""

    LOW = 90
    MEDIUM = 100
    HIGH = 110


class Optimization(enum.IntFlag):
    """What a compiler is to aim at."""

    NORMAL = 0
    LOW_LATENCY = 1
    DEEP_FUSION = 2
    BATCH = 4

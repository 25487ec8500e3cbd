"""What a tensor is: element types, specifications, constant payloads, quantization encodings, memory kinds.

Nothing here knows graphs or hardware.
"""

from mace_core.tensor.dtype import DType
from mace_core.tensor.encoding import QuantEncoding
from mace_core.tensor.memory import MemoryKind
from mace_core.tensor.tensor import FileRange, Tensor
from mace_core.tensor.types import Dim, MapType, OptionalType, SequenceType, Shape, TensorSpec, TensorType, ValueType

__all__ = [
    "DType",
    "Dim",
    "FileRange",
    "MapType",
    "MemoryKind",
    "OptionalType",
    "QuantEncoding",
    "SequenceType",
    "Shape",
    "Tensor",
    "TensorSpec",
    "TensorType",
    "ValueType",
]

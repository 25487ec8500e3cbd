"""The protocol's names of element types."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from mace_core.serving.failures import bad_request
from mace_core.tensor import DType

BYTES = "BYTES"

_NAMES = {
    DType.BOOL: "BOOL",
    DType.FLOAT16: "FP16",
    DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
    DType.BFLOAT16: "BF16",
    DType.STRING: BYTES,
    **{getattr(DType, f"{kind}{bits}"): f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
}

_NUMPY: dict[str, np.dtype[Any]] = {
    name: np.dtype(object) if name == BYTES else dtype.numpy.newbyteorder("<") for dtype, name in _NAMES.items()
}

_FROM_NUMPY = {dtype.newbyteorder("="): name for name, dtype in _NUMPY.items()}


def name_of(dtype: DType | None) -> str:
    """What metadata calls an element type; one that the protocol does not have keeps its own name."""
    return "UNKNOWN" if dtype is None else _NAMES.get(dtype, dtype.name)


def numpy_type(datatype: object, where: str) -> np.dtype[Any]:
    """The little-endian numpy type for a name of the protocol; ``object`` for BYTES.

    Raises:
        ServingError: for a name it does not have.
    """
    if not isinstance(datatype, str) or datatype not in _NUMPY:
        shown = re.sub(r"[^\w]", "?", str(datatype)[:40])
        raise bad_request(f"{where}: '{shown}' is no datatype; the protocol has {', '.join(sorted(_NUMPY))}")
    return _NUMPY[datatype]


def datatype_of(array: Any, name: str) -> str:
    """The protocol's name for the elements of a result.

    Raises:
        ServingError: if it has none, or the result is no tensor.
    """
    found = _FROM_NUMPY.get(array.dtype) if isinstance(array, np.ndarray) else None
    if found is None:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise bad_request(
            f"the output '{name}' is of a kind ({kind}) that the protocol cannot carry: ask for other outputs"
        )
    return found

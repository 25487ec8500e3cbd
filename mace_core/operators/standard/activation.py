"""Activation functions that are computed as something else."""

from __future__ import annotations

from mace_core.graph import Node
from mace_core.operators.bodies import BodyBuilder, given, kept, made
from mace_core.operators.pieces import cast, dtype_of
from mace_core.operators.registry import body
from mace_core.tensor import DType

EXACT_IN_FLOAT32 = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16})
IN_FLOAT64 = frozenset({DType.INT32, DType.UINT32, DType.INT64, DType.UINT64})


@body("Shrink")
def build_shrink(b: BodyBuilder, node: Node) -> bool:
    """Whole numbers: computed as floats, which ``bias`` and ``lambd`` are, and cut to whole numbers again."""
    x = given(node, 0)
    dtype = dtype_of(b, x)
    if dtype not in EXACT_IN_FLOAT32 | IN_FLOAT64:
        return False
    wide = DType.FLOAT32 if dtype in EXACT_IN_FLOAT32 else DType.FLOAT64
    result = b.op("Shrink", [cast(b, x, wide)], kept(node))
    cast(b, result, dtype, into=made(node))
    return True

"""Operators of your own: a decorated function becomes an operator that any model may use.

    import numpy as np
    import mace_core as mace

    @mace.custom_op("com.example", "ScaledTanh", shape=mace.custom_ops.like_first_input)
    def scaled_tanh(x, *, scale: float = 1.0):
        return (scale * np.tanh(x)).astype(x.dtype)

A package installed beside the application publishes operators under the entry-point group ``mace.custom_ops``, its
domain as the name and the module to import as the value; the module is imported when a model uses the domain.
"""

from mace_core.operators.custom.decorator import custom_op
from mace_core.operators.custom.definition import CustomOp, like_first_input
from mace_core.operators.custom.registry import find_custom_op, load_custom_ops, registered_ops, unregister

__all__ = [
    "CustomOp",
    "custom_op",
    "find_custom_op",
    "like_first_input",
    "load_custom_ops",
    "registered_ops",
    "unregister",
]

"""The scale 0, for which converters have two uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mace_core.frontend.tflite.description import FileTensor

_WHOLE = frozenset({3, 7, 9})
"""Element types of quantized activations (uint8, int16, int8)."""


def with_scales(tensors: Iterable[FileTensor]) -> tuple[FileTensor, ...]:
    """Tensors without the scale 0, which converters write for two things.

    Where others of the element type have a scale, it is one of nothing but zeros, and gets the smallest scale there is;
    else it stands for "not quantized".
    """
    read = tuple(tensors)
    scaled = {tensor.type for tensor in read if tensor.quantization is not None and tensor.quantization.scale.any()}
    found = []
    for tensor in read:
        quantization = tensor.quantization
        if quantization is not None and quantization.scale.size == 1 and not quantization.scale[0]:
            smallest = np.full(1, np.finfo(np.float32).tiny)
            quantization = replace(quantization, scale=smallest) if tensor.type in scaled & _WHOLE else None
            tensor = replace(tensor, quantization=quantization)
        found.append(tensor)
    return tuple(found)

"""All translations by operator; the modules that define them are imported here, with the first open device."""

from __future__ import annotations

from mace_hexagon.lowering import convolution, elementwise, linear, movement, normalisation, pooling, reduction
from mace_hexagon.lowering.context import Lower

LOWERINGS: dict[str, Lower] = {
    **convolution.LOWERINGS,
    **elementwise.LOWERINGS,
    **linear.LOWERINGS,
    **movement.LOWERINGS,
    **normalisation.LOWERINGS,
    **pooling.LOWERINGS,
    **reduction.LOWERINGS,
}
"""ONNX operator of the default domain -> the function that lowers a node of it."""

"""Tensors scaled by what lies around their elements."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import image
from mace_core.frontend.tflite.registry import converter


@converter("L2_NORMALIZATION", options="L2NormOptions")
def l2_normalization(op: Operation) -> None:
    """Along the last axis; vectors shorter than 1e-6 are divided by that."""
    x = op.real(0)
    length = op.emit("ReduceL2", [x, op.number([-1])], {"keepdims": 1})
    y = op.emit("Div", [x, op.emit("Max", [length, op.like(1e-6)])])
    op.finish(op.activated(y, op.option("FusedActivationFunction")))


@converter("LOCAL_RESPONSE_NORMALIZATION", options="LocalResponseNormalizationOptions")
def local_response(op: Operation) -> None:
    """Over channels; ONNX divides its alpha by the number of neighbors."""
    image(op, 0)
    size = 2 * op.option("Radius") + 1
    attributes = {
        "size": size,
        "alpha": float(op.option("Alpha")) * size,
        "beta": float(op.option("Beta")),
        "bias": float(op.option("Bias")),
    }
    op.finish(op.to_channels_last(op.emit("LRN", [op.to_channels_first(op.real(0))], attributes)))

"""What convolutions of bytes with results of float32 have to be: the kernels for bytes alone compute them."""

from __future__ import annotations

import numpy as np

from mace_core.graph import GraphView, Node
from mace_core.symbolic import is_same
from mace_cpu.conv.geometry import conv_geometry
from mace_cpu.quantized.convolution.weights import signed_weights_of
from mace_cpu.shared.nodes import need


def check_real_conv(view: GraphView, node: Node) -> str | None:
    """A reason if a QLinearConv without a scale of its result is none that the kernels compute."""
    x, w, y = need(node.input(0)), need(node.input(3)), need(node.output(0))
    for value in node.inputs[1:]:
        if value is not None and view.constant(value) is None:
            return f"'{value.name}' is not known before the run"
    if view.constant(x) is not None or any(is_same(size, 0) for value in (x, w, y) for size in view.shape(value)):
        return "its input is known, or it has no elements"
    if not 3 <= len(view.shape(x)) <= 4:
        return f"results in float of convolutions of bytes have 1 or 2 spatial dimensions, not {len(view.shape(x)) - 2}"
    x_scale, w_scale, weights = (view.constant(node.input(index)) for index in (1, 4, 3))
    assert x_scale is not None
    assert w_scale is not None
    assert weights is not None
    geometry = conv_geometry(node, view.shape(x), weights.shape, view.shape(y))
    if not geometry.is_generated:
        return "its strides are too long"
    with np.errstate(all="ignore"):
        if not np.isfinite(x_scale.numpy() * w_scale.numpy()).all():
            return "the product of its scales is not finite"
    zeros = view.constant(node.input(5))
    if geometry.groups == 1 or zeros is None or not zeros.numpy().any():
        return None
    if signed_weights_of(weights.numpy(), zeros.numpy()).zeros is not None:
        return "its weights less their zero points are no signed bytes"
    return None

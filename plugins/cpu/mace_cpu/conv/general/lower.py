"""Convolutions through the plain kernels: any shape, operands known or not, float32 and float64."""

from __future__ import annotations

from mace_core.graph import Node
from mace_core.native.numba_kernel import numba_source
from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program

KERNELS = "mace_cpu.conv.general.kernels"
AXES = "dhw"
"""What the kernels call the spatial axes."""

RANK = len(AXES)


def emit_general(program: Program, node: Node, geometry: Geometry, *, transposed: bool = False) -> None:
    """Compute a Conv or ConvTranspose of at most three spatial axes from and to the PLAIN layout."""
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None and w is not None and y is not None
    bias = node.input(2)
    source, weights = program.values.read(x), program.values.read(w)
    start: Buf | int = 0 if bias is None else program.values.read(bias)
    padded = geometry.with_rank(RANK)
    of_axes = {
        "in": padded.image,
        "taps": padded.kernel,
        "out": padded.output,
        "stride": padded.strides,
        "dilation": padded.dilations,
        "pad": padded.pads,
    }
    target = program.values.write(y)
    planes = geometry.batch * geometry.out_channels
    program.steps.emit(
        numba_source(KERNELS, "conv_transpose" if transposed else "conv", dtype=program.facts.dtype(y).label),
        {
            "x": source,
            "w": weights,
            "bias": start,
            "y": target,
            "in_channels": geometry.in_channels,
            "out_channels": geometry.out_channels,
            "group_in": geometry.group_in,
            "group_out": geometry.group_out,
            **{f"{axis}_{what}": words[i] for i, axis in enumerate(AXES) for what, words in of_axes.items()},
        },
        extent=planes if transposed else planes * padded.output[0],
        work=geometry.macs / 4 + program.facts.size(y),
    )

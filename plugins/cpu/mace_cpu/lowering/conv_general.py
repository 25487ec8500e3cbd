"""Convolutions through the plain kernels: any shape, operands known or not, float32 and float64."""

from __future__ import annotations

from mace_core.graph import Node
from mace_core.native.numba_kernel import numba_source
from mace_cpu.buffers import Buf
from mace_cpu.lowering.conv_geometry import Geometry
from mace_cpu.program import Program

KERNELS = "mace_cpu.kernels.convolution"
RANK = 3


def emit_general(program: Program, node: Node, geometry: Geometry, *, transposed: bool = False) -> None:
    """Compute a Conv or ConvTranspose of at most three spatial axes from and to the PLAIN layout."""
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None and w is not None and y is not None
    bias = node.input(2)
    source, weights = program.read(x), program.read(w)
    start: Buf | int = 0 if bias is None else program.read(bias)
    padded = geometry.with_rank(RANK)
    axes = zip(padded.image, padded.kernel, padded.output, padded.strides, padded.dilations, padded.pads, strict=True)
    sizes = [geometry.in_channels, geometry.out_channels, geometry.group_in, geometry.group_out]
    target = program.write(y)
    planes = geometry.batch * geometry.out_channels
    program.emit(
        numba_source(KERNELS, "conv_transpose" if transposed else "conv", dtype=program.dtype(y).label),
        [source, weights, start, target, *sizes, *(word for axis in axes for word in axis)],
        extent=planes if transposed else planes * padded.output[0],
        work=geometry.macs / 4 + program.size(y),
    )

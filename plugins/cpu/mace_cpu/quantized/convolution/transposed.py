"""Transposed convolutions of bytes as ordinary ones, one per phase of the result: see `mace_cpu.conv.transposed`."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import is_same
from mace_cpu.conv.geometry import Geometry, transpose_geometry
from mace_cpu.conv.transposed.lower import MOST_PHASES, as_convolution, axis_phases
from mace_cpu.quantized.convolution.dense import Key, Lattice, Requantized, emit_dense
from mace_cpu.quantized.convolution.weights import DEEPEST, Weights, signed_weights_of
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program


def emit_phases(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Weights,
    key: Key,
    result: Requantized,
    target: Buf,
    zero: int,
) -> None:
    """Emit a transposed convolution of two axes, whose weights are given as (O, C / groups, kernel)."""
    axes = [
        axis_phases(*sizes)
        for sizes in zip(
            geometry.output, geometry.kernel, geometry.strides, geometry.dilations, geometry.pads, strict=True
        )
    ]
    array, way = key
    height, width = geometry.output
    for row, column in itertools.product(*axes):
        part = weights.bytes[:, :, list(row.taps)][:, :, :, list(column.taps)]
        pads, dilations = (row.pad, column.pad), (row.dilation, column.dilation)
        if not part.size:  # no tap of the kernel meets these pixels: any one will do, with weights of zero
            part, pads, dilations = np.zeros((*part.shape[:2], 1, 1), np.int8), (0, 0), (1, 1)
        own = Weights(part, part.reshape(part.shape[0], -1).sum(1, dtype=np.int64), weights.largest)
        lattice = replace(
            geometry,
            kernel=part.shape[2:],
            output=(row.count, column.count),
            strides=(1, 1),
            dilations=dilations,
            pads=pads,
        )
        place = Lattice(
            row.first * width + column.first, height * width, geometry.strides[0] * width, geometry.strides[1]
        )
        own_key = array, (*way, "phase", row.taps, column.taps)
        emit_dense(program, lattice, x, own, own_key, result, target, zero, place)


def check_transposed(view: GraphView, node: Node) -> str | None:
    """A reason if a QLinearConvTranspose is none that the kernels compute."""
    x, w, y = need(node.input(0)), need(node.input(3)), need(node.output(0))
    shape = view.shape(x)
    if not 3 <= len(shape) <= 4:
        return f"transposed convolutions of bytes have 1 or 2 spatial dimensions, not {len(shape) - 2}"
    for index in (1, 2, 3, 4, 5, 6, 7, 8):
        value = node.input(index)
        if value is not None and view.constant(value) is None:
            return f"'{value.name}' is not known before the run"
    if view.constant(x) is not None or any(is_same(size, 0) for value in (x, w, y) for size in view.shape(value)):
        return "its input is known, or it has no elements"
    geometry = transpose_geometry(node, shape, view.shape(w), view.shape(y)).with_rank(2)
    if not geometry.is_generated or math.prod(geometry.strides) > MOST_PHASES:
        return "its strides are too long"
    found, zeros = view.constant(w), view.constant(node.input(5))
    assert found is not None
    array = found.numpy()
    taps = as_convolution(array.reshape(*array.shape[:2], *geometry.kernel), geometry)
    if math.prod(taps.shape[1:]) > DEEPEST:
        return f"its sums have more than {DEEPEST} terms"
    if signed_weights_of(taps, None if zeros is None else zeros.numpy()).zeros is not None:
        return "its weights less their zero points are no signed bytes"
    return None

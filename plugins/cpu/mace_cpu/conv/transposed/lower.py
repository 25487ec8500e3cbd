"""ConvTranspose as ordinary convolutions, one per phase of its result, without a zero ever inserted.

Results whose coordinates are congruent modulo the strides meet the same taps of the kernel, so each such lattice is a
convolution of stride 1 with those taps alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from mace_core.graph import Value
from mace_core.native.numba_kernel import numba_source
from mace_cpu.conv.direct.lower import Destination, Floats, emit_direct, fits_direct
from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program

MOST_PHASES = 64


@dataclass(frozen=True, slots=True)
class Phase:
    """One axis of one lattice.

    Attributes:
        first: the lattice's first coordinate in the result.
        count: its coordinates.
        taps: kernel indices it meets, in the order of the input.
        pad, dilation: of the convolution with those taps.
    """

    first: int
    count: int
    taps: tuple[int, ...]
    pad: int
    dilation: int


def fits_phases(geometry: Geometry, block: int) -> bool:
    """Whether a ConvTranspose is worth splitting."""
    return fits_direct(geometry, block) and math.prod(geometry.strides) <= MOST_PHASES


def fits_shuffle(geometry: Geometry, block: int) -> bool:
    """Whether results do not overlap and are so few channels that all phases fit into the blocks of one product."""
    sizes = zip(geometry.image, geometry.kernel, geometry.output, strict=True)
    return (
        fits_direct(geometry, block)
        and geometry.groups == 1
        and 2 * geometry.out_channels <= block
        and geometry.kernel == geometry.strides
        and not any(geometry.pads)
        and set(geometry.dilations) <= {1}
        and all(i * k == o for i, k, o in sizes)
    )


def emit_shuffle(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, target: Buf
) -> None:
    """Emit a ConvTranspose whose results do not overlap into a PLAIN buffer.

    A product with (O * taps) channels makes all results of a pixel, then a second step puts them in their places.
    ``epilogue`` takes no tensors.
    """
    shape = geometry.with_rank(2)
    taps = math.prod(shape.kernel)
    channels = shape.out_channels * taps
    product = replace(
        shape, out_channels=channels, kernel=(1, 1), output=shape.image, strides=(1, 1), dilations=(1, 1), pads=(0, 0)
    )
    repeated = Epilogue(epilogue.ops, tuple(np.repeat(c, taps) for c in epilogue.channels))
    by_channel = np.ascontiguousarray(weights.reshape(shape.in_channels, channels).T)
    blocks = -(-channels // program.settings.block)
    pixels = math.prod(shape.image)
    made = Buf.scratch(4 * shape.batch * blocks * program.settings.block * pixels)
    emit_direct(program, product, x, by_channel, np.repeat(bias, taps), repeated, made)
    program.steps.emit(
        numba_source("mace_cpu.conv.general.kernels", "spread_phases"),
        {
            "source": made,
            "target": target,
            "channels": shape.out_channels,
            "blocks": blocks,
            "rows": shape.image[0],
            "columns": shape.image[1],
            "high": shape.kernel[0],
            "wide": shape.kernel[1],
            "block": program.settings.block,
        },
        extent=shape.batch * shape.out_channels * shape.image[0],
        work=shape.batch * channels * pixels,
        name="SpreadPhases",
    )


def axis_phases(output: int, kernel: int, stride: int, dilation: int, pad: int) -> list[Phase]:
    """The lattices along one axis.

    ``result[q * stride + first]`` is the sum over j of ``image[q - pad + j * dilation] * weight[taps[j]]``.
    """
    phases = []
    for first in range(min(stride, output)):
        taps = tuple(k for k in reversed(range(kernel)) if (first + pad - k * dilation) % stride == 0)
        offset = (first + pad - taps[0] * dilation) // stride if taps else 0
        count = -(-(output - first) // stride)
        phases.append(Phase(first, count, taps, -offset, dilation // math.gcd(dilation, stride)))
    return phases


def emit_phases(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, target: Buf
) -> None:
    """Emit the steps of a ConvTranspose of constant weights (C, O / groups, kernel) into a BLOCKED buffer."""
    shape = geometry.with_rank(2)
    weights = as_convolution(weights, shape)
    axes = [
        axis_phases(*sizes)
        for sizes in zip(shape.output, shape.kernel, shape.strides, shape.dilations, shape.pads, strict=True)
    ]
    out_h, out_w = shape.output
    for row, column in itertools.product(*axes):
        part = weights[:, :, list(row.taps)][:, :, :, list(column.taps)]
        lattice = replace(
            shape,
            kernel=(len(row.taps), len(column.taps)),
            output=(row.count, column.count),
            strides=(1, 1),
            dilations=(row.dilation, column.dilation),
            pads=(row.pad, column.pad),
        )
        place = Destination(row.first * out_w + column.first, out_h * out_w, shape.strides[0] * out_w, shape.strides[1])
        emit_direct(program, lattice, x, np.ascontiguousarray(part), bias, epilogue, target, destination=place)


def as_convolution(weights: Floats, shape: Geometry) -> Floats:
    """(C, O / groups, ...) as (O, C / groups, ...)."""
    grouped = weights.reshape(shape.groups, shape.group_in, shape.group_out, *shape.kernel)
    return grouped.swapaxes(1, 2).reshape(shape.out_channels, shape.group_in, *shape.kernel)

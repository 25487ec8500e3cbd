"""How the windows of a dense convolution of bytes are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mace_core.symbolic import is_same
from mace_cpu.conv.geometry import Geometry, may_be_positive
from mace_cpu.quantized.convolution.arguments import Copies
from mace_cpu.shared.quads import QUAD


@dataclass(frozen=True, slots=True)
class Reading:
    """How windows are read, in bytes.

    Attributes:
        shape: the convolution, of two axes, perhaps turned or with its pixels in one row.
        copies: whether the image is copied first.
        linear: windows follow each other at one distance.
        merged: the taps of a kernel row are one run.
        copy_width: pixels of a copied row.
        kept: bytes of a run that are multiplied, if not all are.
    """

    shape: Geometry
    copies: Copies
    linear: bool
    merged: bool
    copy_width: int
    kept: int | None = None

    @property
    def gathers(self) -> bool:
        """Whether a copy holds the channels of one group."""
        return self.copies is not Copies.NONE and self.shape.groups > 1

    @property
    def run(self) -> int:
        """Bytes that lie next to each other."""
        if self.kept is not None:
            return self.kept
        return self.shape.group_in * (self.shape.kernel[1] if self.merged else 1)

    @property
    def quads(self) -> int:
        """Quads of a run; of a copy, which may be read a little beyond its end, the last one need not be full."""
        return self.run // QUAD if self.copies is Copies.NONE else -(-self.run // QUAD)

    @property
    def tail(self) -> int:
        """Bytes of a run beyond these."""
        return self.run % QUAD if self.copies is Copies.NONE else 0

    @property
    def taps(self) -> int:
        """Runs per kernel row."""
        return 1 if self.merged else self.shape.kernel[1]

    @property
    def steps(self) -> int:
        """Quads of a window."""
        return self.shape.kernel[0] * self.taps * -(-self.run // QUAD)

    def keeping(self, count: int) -> Reading:
        """The same where ``count`` bytes of each run are multiplied."""
        return replace(self, kept=count)


def reading_of(geometry: Geometry, changes: Copies, *, as_it_is: bool = False) -> Reading:
    """How to read the image of a convolution.

    Args:
        changes: how bytes have to be changed for what multiplies them; NONE: not at all.
        as_it_is: rows stay rows.
    """
    flips = changes is not Copies.NONE
    shape = geometry.with_rank(2)
    pointwise = shape.is_pointwise and not as_it_is
    if pointwise and not flips:
        pixels = math.prod(shape.image)
        shape = replace(shape, image=(pixels, 1), output=(pixels, 1))
    elif is_one_row(shape) and not as_it_is:
        shape = turned(shape)
    is_padded = any(_reaches_out(shape, axis) for axis in range(2))
    copies = changes if flips else Copies.PLAIN if is_padded else Copies.NONE
    own_pixels = copies is not Copies.NONE or shape.groups == 1
    merged = shape.kernel[1] == 1 or (shape.dilations[1] == 1 and own_pixels)
    width = (shape.output[1] - 1) * shape.strides[1] + (shape.kernel[1] - 1) * shape.dilations[1] + 1
    return Reading(shape, copies, pointwise and not flips, merged, width)


def is_one_row(shape: Geometry) -> bool:
    """Whether image and result have one row, which could as well be a column."""
    return is_same(shape.image[0], 1) and is_same(shape.output[0], 1) and shape.kernel[0] == 1


def turned(shape: Geometry) -> Geometry:
    """The same with rows for columns."""
    return replace(
        shape,
        image=shape.image[::-1],
        kernel=shape.kernel[::-1],
        output=shape.output[::-1],
        strides=shape.strides[::-1],
        dilations=shape.dilations[::-1],
        pads=shape.pads[::-1],
    )


def _reaches_out(shape: Geometry, axis: int) -> bool:
    """Whether some window reaches beyond the image along an axis, or does not begin with it."""
    span = (shape.kernel[axis] - 1) * shape.dilations[axis] + 1
    last = (shape.output[axis] - 1) * shape.strides[axis] - shape.pads[axis] + span
    is_shifted = not is_same(shape.pads[axis], 0)
    return is_shifted or may_be_positive(last - shape.image[axis])

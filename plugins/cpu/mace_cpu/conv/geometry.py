"""Sizes of convolutions, read off attributes and shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mace_core.graph import Node, sliding_window, transposed_window
from mace_core.symbolic import hint, is_symbolic

Dims = tuple[int, ...]


LARGEST_GENERATED_STRIDE = 1 << 16
"""Code is generated for each stride (the hop of a Fourier transform may be thousands); one kernel takes any, slowly."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """One convolution: sizes per spatial axis, channels, groups.

    Attributes:
        batch, in_channels, out_channels, groups: as the operator has them.
        image, kernel, output: spatial sizes.
        strides, dilations: per spatial axis.
        pads: zeros before the image, per spatial axis; may be negative.  (Those behind follow from the sizes.)
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    image: Dims
    kernel: Dims
    output: Dims
    strides: Dims
    dilations: Dims
    pads: Dims

    @property
    def group_in(self) -> int:
        return self.in_channels // self.groups

    @property
    def group_out(self) -> int:
        return self.out_channels // self.groups

    @property
    def macs(self) -> int:
        """Multiplications in all."""
        return self.batch * self.out_channels * math.prod(self.output) * self.group_in * math.prod(self.kernel)

    @property
    def is_generated(self) -> bool:
        """Whether code is generated for strides like these."""
        return max(self.strides) <= LARGEST_GENERATED_STRIDE

    @property
    def is_pointwise(self) -> bool:
        """A kernel of one tap that visits every pixel once."""
        return (
            math.prod(self.kernel) == 1
            and set(self.strides) <= {1}
            and not any(self.pads)
            and self.image == self.output
        )

    def at_hand(self) -> Geometry:
        """The same for the shapes at hand: for costs, which decide between ways that are all right."""
        if not any(map(is_symbolic, (self.batch, *self.image, *self.output, *self.pads))):
            return self
        image, output, pads = (tuple(map(hint, sizes)) for sizes in (self.image, self.output, self.pads))
        return replace(self, batch=hint(self.batch), image=image, output=output, pads=pads)

    def with_rank(self, rank: int) -> Geometry:
        """The same with leading spatial axes of size 1 up to ``rank``."""
        missing = rank - len(self.image)
        ones, zeros = (1,) * missing, (0,) * missing
        return replace(
            self,
            image=ones + self.image,
            kernel=ones + self.kernel,
            output=ones + self.output,
            strides=ones + self.strides,
            dilations=ones + self.dilations,
            pads=zeros + self.pads,
        )


def conv_geometry(node: Node, x: Sequence[int], w: Sequence[int], y: Sequence[int]) -> Geometry:
    """The geometry of a Conv from the shapes of input (N, C, ...), weights (O, C / groups, ...) and output."""
    image, kernel, output = tuple(x[2:]), tuple(w[2:]), tuple(y[2:])
    window = sliding_window(node, image, kernel)
    # the step to a window that is not there, and to a tap that is not there, say nothing: no code is made for them
    strides = tuple(1 if not is_symbolic(o) and o == 1 else s for o, s in zip(output, window.strides, strict=True))
    dilations = tuple(1 if k == 1 else d for k, d in zip(kernel, window.dilations, strict=True))
    return Geometry(x[0], x[1], w[0], node.attr("group", 1), image, kernel, output, strides, dilations, window.begins)


def may_be_positive(size: int) -> bool:
    """Whether ``size`` is to be treated as one above 0; where it depends on sizes, only the other answer is a guard."""
    return hint(size) > 0 or size > 0


def transpose_geometry(node: Node, x: Sequence[int], w: Sequence[int], y: Sequence[int]) -> Geometry:
    """The geometry of a ConvTranspose; weights (C, O / groups, ...).

    ``image`` is its input, ``output`` its result, ``pads`` what is cut off before the result:
    ``result[i * stride + k * dilation - pad] += image[i] * weight[k]``.
    """
    image, kernel, output = tuple(x[2:]), tuple(w[2:]), tuple(y[2:])
    window = transposed_window(node, image, output, kernel)
    groups = node.attr("group", 1)
    return Geometry(
        x[0], x[1], w[1] * groups, groups, image, kernel, output, window.strides, window.dilations, window.begins
    )

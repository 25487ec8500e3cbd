"""What steps tell of themselves to those who join them with others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConvolutionForm:
    """A step of the direct convolution into the BLOCKED layout.

    Attributes:
        pixels, blocks: of its register tile.
        rows, width: of its result.
        flat: all pixels of an image are taken as one row.
        whole: it computes every pixel, has one group and reads no tensor in its epilogue.
    """

    pixels: int
    blocks: int
    rows: int
    width: int
    flat: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class WindowForm:
    """A step that reads windows of its input in the BLOCKED layout; unit: ``plane * out_rows + row``.

    Row ``row`` of the result needs ``span`` rows of the input from ``row * stride - pad`` on.  Its
    first argument word is the address of that input.
    """

    planes: int
    rows: int
    width: int
    out_rows: int
    stride: int
    pad: int
    span: int


StepForm = ConvolutionForm | WindowForm

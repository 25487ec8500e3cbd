"""Windows that convolutions and pools move over an image: strides, dilations and padding in ONNX's terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.frontend.tflite.operation import Operation
    from mace_core.frontend.tflite.types import Sizes

SAME, VALID = 0, 1
"""The schema's Padding."""


def window_attributes(
    op: Operation, sizes: Sizes, kernel: Sizes, strides: Sequence[int], dilations: Sequence[int], padding: int
) -> dict[str, Any]:
    """Attributes of a Conv or a pool.

    With padding SAME the result has ceil(size / stride) elements; what is missing is added at both ends, at the end
    where the number is odd (ONNX: SAME_UPPER).

    Args:
        sizes: of the image, one for each spatial axis; None where it may change.
        kernel: of the window, likewise.

    Raises:
        ModelError: for strides and dilations below 1, and other paddings.
    """
    if min(*strides, *dilations) < 1:
        raise op.error(f"has strides {list(strides)} and dilations {list(dilations)}; both start at 1")
    if padding not in (SAME, VALID):
        raise op.error(f"has padding {padding}, which is neither SAME nor VALID")
    found: dict[str, Any] = {"strides": list(strides)}
    if max(dilations) > 1:
        found["dilations"] = list(dilations)
    if padding == VALID:
        found["pads"] = [0] * (2 * len(strides))
    elif None in sizes or None in kernel:
        found["auto_pad"] = "SAME_UPPER"
    else:
        totals = [
            same_padding(_number(size), _number(window), stride, dilation)
            for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        found["pads"] = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    return found


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many elements padding SAME adds to an axis."""
    results = -(-size // stride)
    return max((results - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def _number(size: object) -> int:
    assert isinstance(size, int)
    return size

"""Padding of windows that move over spatial axes: convolutions and poolings."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node


def window_pads(
    node: Node,
    sizes: Sequence[int],
    results: Sequence[int],
    taps: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Elements of padding in front of and behind each spatial axis, by ``pads`` or ``auto_pad`` of the node."""
    rank = len(sizes)
    mode = node.attr("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = [int(pad) for pad in node.attr("pads", None) or (0,) * 2 * rank]
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    totals = [
        max((result - 1) * stride + (tap - 1) * dilation + 1 - size, 0)
        for size, result, tap, stride, dilation in zip(sizes, results, taps, strides, dilations, strict=True)
    ]
    begins = [front_of(mode, total) for total in totals]
    return begins, [total - begin for total, begin in zip(totals, begins, strict=True)]


def front_of(auto_pad: str, total: int) -> int:
    """What of ``total`` elements lies in front; the odd one is behind with SAME_UPPER, in front otherwise."""
    return total // 2 if auto_pad == "SAME_UPPER" else total - total // 2

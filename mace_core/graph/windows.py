"""Windows that slide over spatial axes (convolutions, poolings), with ``auto_pad`` resolved to numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mace_core.graph.graph import Node, Value
from mace_core.tensor import Tensor

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A window, per spatial axis.

    Attributes:
        kernel: taps.
        strides: elements from one position to the next; of a transposed window, in its result.
        dilations: elements from one tap to the next.
        begins: elements of padding in front; of a transposed window, elements cut off its result. May be negative.
        ends: the same behind.
    """

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begins: Sizes
    ends: Sizes

    @property
    def spans(self) -> Sizes:
        """Elements from the first to the last tap, both included."""
        return tuple((taps - 1) * dilation + 1 for taps, dilation in zip(self.kernel, self.dilations, strict=True))


def sliding_window(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a convolution or pooling node over spatial axes of ``sizes`` with a kernel of ``kernel`` taps.

    SAME_UPPER and SAME_LOWER pad so that a position starts at every stride, ``ceil(size / stride)`` in all.

    Raises:
        ValueError: if ``auto_pad`` is none that ONNX specifies.
    """
    window = _without_pads(node, kernel)
    stated = stated_pads(node, len(kernel))
    if stated is None:
        totals = [
            (-(-size // stride) - 1) * stride + span - size
            for size, stride, span in zip(sizes, window.strides, window.spans, strict=True)
        ]
        stated = _shared_out(node, totals)
    return Window(window.kernel, window.strides, window.dilations, *stated)


def transposed_window(node: Node, sizes: Sequence[int], results: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a ConvTranspose node that makes spatial axes of ``results`` out of those of ``sizes``.

    Where ``output_shape`` or SAME padding decides the size of the result, what is too much is cut off at both ends.

    Raises:
        ValueError: if ``auto_pad`` is none that ONNX specifies.
    """
    window = _without_pads(node, kernel)
    stated = stated_pads(node, len(kernel))
    if stated is None or (_auto_pad(node) == "NOTSET" and node.attr("output_shape", None)):
        extra = node.attr("output_padding", None) or (0,) * len(kernel)
        totals = [
            stride * (size - 1) + more + span - result
            for stride, size, more, span, result in zip(
                window.strides, sizes, extra, window.spans, results, strict=True
            )
        ]
        stated = _shared_out(node, totals)
    return Window(window.kernel, window.strides, window.dilations, *stated)


def stated_pads(node: Node, rank: int) -> tuple[Sizes, Sizes] | None:
    """Padding in front of and behind ``rank`` spatial axes as the node states it; None where sizes decide it (SAME).

    Raises:
        ValueError: if ``auto_pad`` is none that ONNX specifies.
    """
    mode = _auto_pad(node)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return None
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    if mode != "NOTSET":
        raise ValueError(f"auto_pad is '{mode}', not NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    pads = tuple(int(pad) for pad in node.attr("pads", None) or (0,) * (2 * rank))
    return pads[:rank], pads[rank:]


def spatial_zeros(node: Node, constant: Callable[[Value | None], Tensor | None]) -> Sizes | None:
    """How many zeros a Pad puts around spatial axes, as a Conv gives its ``pads``.

    Args:
        node: a node of the default domain.
        constant: the content of a value, if it is fixed.

    Returns:
        None for another node, and where something else is padded, with something else, or as the run decides.
    """
    if node.op_type != "Pad" or node.domain or node.attr("mode", "constant") != "constant":
        return None
    if node.input(0) is None or node.input(3) is not None:
        return None
    if "pads" in node.attributes:  # before opset 11
        pads, filler = [int(pad) for pad in node.attr("pads")], float(node.attr("value", 0.0))
    else:
        given, value = constant(node.input(1)), constant(node.input(2))
        if given is None or (node.input(2) is not None and value is None):
            return None
        pads = [int(pad) for pad in given.numpy().reshape(-1)]
        content = [] if value is None else value.numpy().reshape(-1).tolist()
        filler = float(content[0]) if content else 0.0
    rank = len(pads) // 2
    begins, ends = pads[:rank], pads[rank:]
    if filler != 0 or rank < 3 or len(ends) != rank or any((*begins[:2], *ends[:2])) or min(pads) < 0:
        return None
    return (*begins[2:], *ends[2:])


def _auto_pad(node: Node) -> str:
    return str(node.attr("auto_pad", None) or "NOTSET")


def _without_pads(node: Node, kernel: Sequence[int]) -> Window:
    rank = len(kernel)
    strides, dilations = (
        tuple(int(step) for step in node.attr(name, None) or (1,) * rank) for name in ("strides", "dilations")
    )
    return Window(tuple(kernel), strides, dilations, (0,) * rank, (0,) * rank)


def _shared_out(node: Node, totals: Sequence[int]) -> tuple[Sizes, Sizes]:
    """Totals split in two; the odd element goes behind with SAME_UPPER and in front otherwise, as ONNX specifies."""
    totals = [max(total, 0) for total in totals]
    is_upper = _auto_pad(node) == "SAME_UPPER"
    begins = tuple(total // 2 if is_upper else total - total // 2 for total in totals)
    return begins, tuple(total - begin for total, begin in zip(totals, begins, strict=True))

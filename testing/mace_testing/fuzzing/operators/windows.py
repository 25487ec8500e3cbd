"""Operators that slide a window: convolutions and poolings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Array, Source


@dataclass(frozen=True)
class Window:
    """A window and a picture it fits into; ``attributes`` as ONNX writes them."""

    kernel: tuple[int, ...]
    sizes: tuple[int, ...]
    attributes: dict[str, Any]


def draw_window(
    source: Source, *, dilations: bool = True, most_rank: int = 3, pads: bool = True, same: bool = True
) -> Window:
    """A window of 1 to 3 dimensions, with everything that an operator may say about it.

    Args:
        pads: padding is allowed, always less than the window.
        same: ``auto_pad`` is allowed.
    """
    rank = source.pick([2, 1, 2, 3][: most_rank + 1])
    largest = 4 if rank < 3 else 2
    kernel = tuple(source.dim(1, largest) for _ in range(rank))
    strides = tuple(source.dim(1, 3) for _ in range(rank)) if source.flag() else (1,) * rank
    spread = tuple(source.dim(1, 3) for _ in range(rank)) if dilations and source.rarely(3) else (1,) * rank
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    sizes = tuple(e + source.integer(0, 7 if rank < 3 else 3) for e in extent)
    attributes: dict[str, Any] = {}
    if strides != (1,) * rank or source.flag():
        attributes["strides"] = list(strides)
    if spread != (1,) * rank:
        attributes["dilations"] = list(spread)
    if pads and source.flag():
        attributes["pads"] = [source.integer(0, k - 1) for k in (*kernel, *kernel)]
    elif same and source.rarely(3):
        options = ["SAME_UPPER", "SAME_LOWER", "VALID"] if spread == (1,) * rank else ["VALID"]
        attributes["auto_pad"] = source.pick(options)
    return Window(kernel, sizes, attributes)


def _channels(source: Source) -> int:
    """Few, or beside the width of a vector."""
    return source.pick([8, 16, 17, 32]) if source.rarely(4) else source.dim(1, 5)


@draws("Conv")
def convolution(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    window = draw_window(source)
    groups = source.pick([1, 1, 2, 3, 8]) if source.flag() else 1
    per_group = 1 if groups > 1 and source.flag() else _channels(source)
    filters = groups * (source.dim(1, 3) if groups > 1 else _channels(source))
    attributes = dict(window.attributes)
    if groups > 1:
        attributes["group"] = groups
    if source.flag():
        attributes["kernel_shape"] = list(window.kernel)
    x = source.array((source.dim(1, 2), groups * per_group, *window.sizes), dtype, -2, 2, 0.5)
    w = source.array((filters, per_group, *window.kernel), dtype, -2, 2, 0.5)
    bias = (source.array((filters,), dtype),) if source.flag() else ()
    return OpCase(op, opset, (x, w, *bias), attributes)


@draws("ConvTranspose")
def transposed_convolution(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    window = draw_window(source, same=False)
    rank = len(window.kernel)
    groups = source.pick([1, 1, 2, 3])
    per_group = source.dim(1, 3)
    attributes = dict(window.attributes)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    if source.rarely(3):
        # less than the stride or the dilation, whichever is larger
        attributes["output_padding"] = [
            source.integer(0, max(s, d) - 1) for s, d in zip(strides, dilations, strict=True)
        ]
    if groups > 1:
        attributes["group"] = groups
    if source.flag():
        attributes["kernel_shape"] = list(window.kernel)
    if "pads" not in attributes and "output_padding" not in attributes and source.rarely(4):
        # a window smaller than the stride would be padded by less than nothing
        extents = [(k - 1) * d + 1 for k, d in zip(window.kernel, dilations, strict=True)]
        whole = all(extent >= stride for extent, stride in zip(extents, strides, strict=True))
        attributes["auto_pad"] = source.pick(["VALID", "SAME_UPPER", "SAME_LOWER"] if whole else ["VALID"])
    channels = groups * source.dim(1, 3)
    sizes = tuple(source.dim(2, 5) for _ in window.kernel)
    x = source.array((source.dim(1, 2), channels, *sizes), dtype, -2, 2, 0.5)
    w = source.array((channels, per_group, *window.kernel), dtype, -2, 2, 0.5)
    bias = (source.array((groups * per_group,), dtype),) if source.flag() else ()
    return OpCase(op, opset, (x, w, *bias), attributes)


@draws("DeformConv")
def deformable_convolution(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    kernel = (source.dim(1, 3), source.dim(1, 3))
    strides = [source.dim(1, 2), source.dim(1, 2)]
    pads = [source.integer(0, 1) for _ in range(4)]
    dilations = [source.dim(1, 2), source.dim(1, 2)]
    sizes = [(k - 1) * d + 1 + source.integer(0, 4) for k, d in zip(kernel, dilations, strict=True)]
    outs = [
        (size + pads[i] + pads[i + 2] - ((kernel[i] - 1) * dilations[i] + 1)) // strides[i] + 1
        for i, size in enumerate(sizes)
    ]
    groups, offset_groups = source.dim(1, 2), source.dim(1, 2)
    channels = 2 * source.dim(1, 2)
    filters = groups * source.dim(1, 2)
    batch = source.dim(1, 2)
    x = source.array((batch, channels, *sizes), dtype)
    w = source.array((filters, channels // groups, *kernel), dtype, -2, 2)
    offset = source.array((batch, offset_groups * 2 * kernel[0] * kernel[1], *outs), dtype, -2, 2, 0.25)
    inputs: list[Array | None] = [x, w, offset]
    if source.flag():
        inputs.append(source.array((filters,), dtype) if source.flag() else None)
        inputs.append(source.array((batch, offset_groups * kernel[0] * kernel[1], *outs), dtype, 0, 1))
    attributes: dict[str, Any] = {
        "strides": strides, "pads": pads, "dilations": dilations, "group": groups, "offset_group": offset_groups,
        "kernel_shape": list(kernel),
    }  # fmt: skip
    return OpCase(op, opset, tuple(inputs), attributes)


@draws("Col2Im")
def columns_to_image(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    window = draw_window(source, most_rank=2, same=False)
    rank = len(window.kernel)
    strides = window.attributes.get("strides", [1] * rank)
    dilations = window.attributes.get("dilations", [1] * rank)
    pads = window.attributes.get("pads", [0] * 2 * rank)
    places = [
        (window.sizes[i] + pads[i] + pads[i + rank] - ((window.kernel[i] - 1) * dilations[i] + 1)) // strides[i] + 1
        for i in range(rank)
    ]
    columns = source.dim(1, 3) * int(np.prod(window.kernel))
    x = source.array((source.dim(1, 2), columns, int(np.prod(places))), source.dtype(op, opset, only=schema.FLOATS[:2]))
    inputs = (x, np.array(window.sizes, np.int64), np.array(window.kernel, np.int64))
    return OpCase(op, opset, inputs, window.attributes)


@draws("MaxPool", "AveragePool", "LpPool")
def pooling(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    spread_since = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]
    window = draw_window(source, dilations=opset >= spread_since)
    attributes: dict[str, Any] = {**window.attributes, "kernel_shape": list(window.kernel)}
    explicit = "auto_pad" not in attributes
    if explicit and source.flag() and opset >= {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[op]:
        attributes["ceil_mode"] = int(source.flag())
    if op == "AveragePool" and source.flag():
        attributes["count_include_pad"] = int(source.flag())
    if op == "LpPool" and source.flag():
        attributes["p"] = source.dim(1, 3)
    outputs: tuple[bool, ...] = (True,)
    if op == "MaxPool" and opset >= 8 and source.rarely(3):
        outputs = (True, True)
        if source.flag():
            attributes["storage_order"] = int(source.flag())
    shape = (source.dim(1, 2), _channels(source), *window.sizes)
    x = source.distinct(shape, dtype) if op == "MaxPool" else source.array(shape, dtype)
    return OpCase(op, opset, (x,), attributes, outputs)


@draws("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pooling(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = (source.dim(1, 2), _channels(source), *source.shape(1, 3, empty=False))
    attributes = {"p": source.dim(1, 3)} if op == "GlobalLpPool" and source.flag() else {}
    return OpCase(op, opset, (source.array(shape, source.dtype(op, opset)),), attributes)


@draws("MaxUnpool")
def unpooling(source: Source, op: str) -> OpCase:
    """Every index is another: which of two writes to one place wins is not said."""
    opset = source.opset(op)
    kernel = [source.dim(2, 3), source.dim(2, 3)]
    n, c, h, w = (source.dim(1, 3) for _ in range(4))
    out = (h * kernel[0], w * kernel[1])
    x = source.array((n, c, h, w), source.dtype(op, opset))
    random = source.random() or np.random.default_rng(0)
    plane = out[0] * out[1]
    places = [random.permutation(plane)[: h * w] + index * plane for index in range(n * c)]
    indices = np.concatenate(places).reshape(n, c, h, w).astype(np.int64)
    attributes = {"kernel_shape": kernel, "strides": kernel}
    if source.flag():
        return OpCase(op, opset, (x, indices, np.array((n, c, *out), np.int64)), attributes)
    return OpCase(op, opset, (x, indices), attributes)


@draws("CausalConvWithState")
def causal_convolution(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    batch, channels, length, taps = source.dim(1, 2), source.dim(1, 4), source.dim(1, 6), source.dim(2, 4)
    inputs: list[Array | None] = [
        source.array((batch, channels, length), dtype),
        source.array((channels, 1, taps), dtype, -2, 2),
        source.array((channels,), dtype) if source.flag() else None,
        source.array((batch, channels, taps - 1), dtype) if source.flag() else None,
    ]
    attributes = {"activation": source.pick(["none", "silu", "swish"])} if source.flag() else {}
    return OpCase(op, opset, tuple(inputs), attributes, (True, True))

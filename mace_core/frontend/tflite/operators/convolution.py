"""Convolutions.  Images are (N, H, W, C); filters (O, H, W, I), of depthwise ones (1, H, W, O)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mace_core.frontend.tflite import hybrid
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.types import Sizes
from mace_core.frontend.tflite.windows import SAME, same_padding, window_attributes
from mace_core.graph import Value
from mace_core.tensor import DType


@converter("CONV_2D", options="Conv2DOptions")
def convolution(op: Operation) -> None:
    _, height, width, channels = image(op, 0)
    count, *kernel, depth = image(op, 1)
    attributes = window_attributes(
        op,
        (height, width),
        tuple(kernel),
        (op.option("StrideH"), op.option("StrideW")),
        (op.option("DilationHFactor"), op.option("DilationWFactor")),
        op.option("Padding"),
    )
    group = groups(op, channels, depth, count)
    if group > 1:
        attributes["group"] = group
    y = _convolved(op, (0, 3, 1, 2), attributes)
    op.finish(op.activated(op.to_channels_last(y), op.option("FusedActivationFunction")))


@converter("DEPTHWISE_CONV_2D", options="DepthwiseConv2DOptions")
def depthwise(op: Operation) -> None:
    """The option for the multiplier is not believed, as LiteRT does not."""
    _, height, width, channels = image(op, 0)
    one, *kernel, count = image(op, 1)
    if one not in (1, None):
        raise op.error(f"has a depthwise filter of shape {list(op.shape(1))}, which does not begin with 1")
    if channels is None:
        multiplier = op.option("DepthMultiplier")
        channels = None if count is None or multiplier < 1 else count // multiplier
    if channels is None or count is None or channels < 1 or count % channels:
        raise op.error(f"has {channels} channels and a depthwise filter for {count}")
    attributes = window_attributes(
        op,
        (height, width),
        tuple(kernel),
        (op.option("StrideH"), op.option("StrideW")),
        (op.option("DilationHFactor"), op.option("DilationWFactor")),
        op.option("Padding"),
    )
    attributes["group"] = channels
    y = _convolved(op, (3, 0, 1, 2), attributes)
    op.finish(op.activated(op.to_channels_last(y), op.option("FusedActivationFunction")))


def _convolved(op: Operation, order: Sequence[int], attributes: dict[str, Any]) -> Value:
    """The convolution itself, (N, O, H, W); ``order`` makes its filters (O, I, H, W)."""
    x = op.real(0)
    if hybrid.is_hybrid(op):
        if _is_pointwise(op, attributes):
            return hybrid.pointwise(op, x, order, bias(op, 2))
        if "pads" in attributes and op.dtype(1) is not DType.INT2:
            return hybrid.convolution(op, x, order, bias(op, 2), attributes)
        x = hybrid.real_rows(op, x, (1, 2, 3))
    return op.emit("Conv", [op.to_channels_first(x), op.weights(1, order), *bias(op, 2)], attributes)


def _is_pointwise(op: Operation, attributes: dict[str, Any]) -> bool:
    """Whether a window is one pixel, and every pixel has one."""
    return (
        tuple(op.shape(1)[1:3]) == (1, 1)
        and op.file.builtin == "CONV_2D"
        and attributes["strides"] == [1, 1]
        and "group" not in attributes
        and op.dtype(1) is DType.INT8
    )


def image(op: Operation, index: int, rank: int = 4) -> Sizes:
    """The shape of an input that must have so many dimensions."""
    shape = op.shape(index)
    if len(shape) != rank:
        raise op.error(f"has input {index} of shape {list(shape)}; it must have {rank} dimensions")
    return shape


def groups(op: Operation, channels: int | None, depth: int | None, count: int | None) -> int:
    """How many groups a convolution has: the input's channels over those that the filter has."""
    if not isinstance(channels, int) or not isinstance(depth, int):
        return 1
    group = channels // depth if depth else 0
    if group < 1 or channels % depth or (isinstance(count, int) and count % group):
        raise op.error(f"has {channels} channels and {count} filters for {depth}")
    return group


def bias(op: Operation, index: int) -> list[Value]:
    """The bias, where there is one.

    Beside numbers of 16 bits it has 64, which ONNX does not dequantize: those that 32 bits hold are given as such, as
    exactly as any other; with larger ones, all become floats.
    """
    if not op.has(index):
        return []
    content = op.constant(index) if op.dtype(index) is DType.INT64 else None
    quantization = op.tensor(index).quantization
    if content is None or quantization is None:
        return [op.real(index)]
    scale = quantization.scale if quantization.scale.size > 1 else quantization.scale.reshape(())
    limits = np.iinfo(np.int32)
    if content.size and not limits.min <= content.min() <= content.max() <= limits.max:
        return [op.number(content * scale.astype(np.float64), np.float32)]
    narrow, zero = op.number(content, np.int32), op.number(np.zeros(scale.shape), np.int32)
    attributes = {"axis": 0} if scale.ndim else {}
    return [op.emit("DequantizeLinear", [narrow, op.number(scale, np.float32), zero], attributes)]


@converter("TRANSPOSE_CONV", options="TransposeConvOptions")
def transposed(op: Operation) -> None:
    """Inputs: the shape of the result, filters (O, H, W, I), the image, a bias."""
    _transposed(op, ("H", "W"), (3, 0, 1, 2))


@converter("CONV_3D", options="Conv3DOptions")
def convolution_3d(op: Operation) -> None:
    """Volumes are (N, D, H, W, C), filters (D, H, W, I, O)."""
    _, *sizes, channels = image(op, 0, 5)
    *kernel, depth, count = image(op, 1, 5)
    attributes = window_attributes(
        op,
        tuple(sizes),
        tuple(kernel),
        [op.option(f"Stride{axis}") for axis in "DHW"],
        [op.option(f"Dilation{axis}Factor") for axis in "DHW"],
        op.option("Padding"),
    )
    group = groups(op, channels, depth, count)
    if group > 1:
        attributes["group"] = group
    x = op.to_channels_first(op.real(0), 5)
    y = op.emit("Conv", [x, op.weights(1, (4, 3, 0, 1, 2)), *bias(op, 2)], attributes)
    op.finish(op.activated(op.to_channels_last(y, 5), op.option("FusedActivationFunction")))


@converter("CONV_3D_TRANSPOSE", options="Conv3DOptions")
def transposed_3d(op: Operation) -> None:
    """Filters are (D, H, W, O, I)."""
    _transposed(op, ("D", "H", "W"), (4, 3, 0, 1, 2))


def _transposed(op: Operation, axes: tuple[str, ...], order: tuple[int, ...]) -> None:
    rank = len(axes) + 2
    wanted, filters = op.constant(0), image(op, 1, rank)
    kernel = [filters[place] for place in order[2:]]
    sizes = image(op, 2, rank)[1:-1]
    strides = [op.option(f"Stride{axis}") for axis in axes]
    if min(strides) < 1:
        raise op.error(f"has strides {strides}; they start at 1")
    if axes[0] == "D" and any(op.option(f"Dilation{axis}Factor") != 1 for axis in axes):
        raise op.unsupported("has dilations")
    results = op.result_shape()[1:-1] if wanted is None else tuple(int(size) for size in wanted.reshape(-1)[1:-1])
    is_same, free = op.option("Padding") == SAME, None in (*sizes, *results) and None not in kernel
    if free:
        attributes: dict[str, Any] = {"strides": strides, "output_padding": [stride - 1 for stride in strides]}
    else:
        attributes = transposed_attributes(op, sizes, kernel, strides, results, is_same=is_same)
    x = op.real(2)
    if rank == 4 and hybrid.is_hybrid(op, 2):
        x = hybrid.real_rows(op, x, (1, 2, 3))
    y = op.emit("ConvTranspose", [op.to_channels_first(x, rank), op.weights(1, order), *bias(op, 3)], attributes)
    if free:
        y = _cut(op, y, kernel, strides, is_same=is_same)
    op.finish(op.activated(op.to_channels_last(y, rank), op.option("FusedActivationFunction")))


def _cut(op: Operation, y: Value, kernel: Sequence[int | None], strides: Sequence[int], *, is_same: bool) -> Value:
    """The part of all that a transposed convolution gives, (N, C, ...), that is its result, of any size."""
    rank = len(strides)
    results = op.emit("Slice", [op.sizes(0), *(op.number([at]) for at in (1, rank + 1, 0))])
    begins = op.number([0] * rank)
    if is_same:  # what the convolution that leads back pads the result with, before it
        steps, windows = op.number(strides), op.number(np.asarray(kernel, np.int64))
        counts = op.emit("Div", [op.emit("Add", [results, op.number([stride - 1 for stride in strides])]), steps])
        reached = op.emit("Mul", [op.emit("Sub", [counts, op.number(1)]), steps])
        missing = op.emit("Sub", [op.emit("Add", [reached, windows]), results])
        begins = op.emit("Div", [op.emit("Max", [missing, op.number([0])]), op.number(2)])
    axes = op.number(list(range(2, rank + 2)))
    return op.emit("Slice", [y, begins, op.emit("Add", [begins, results]), axes])


def transposed_attributes(
    op: Operation, sizes: Sizes, kernel: Sequence[int | None], strides: Sequence[int], results: Sizes, *, is_same: bool
) -> dict[str, Any]:
    """Attributes of a ConvTranspose whose result has a given size.

    Padding SAME is that of the convolution the other way round; what is still missing or too much is at the end.

    Raises:
        ModelError: if there is no such result.
        UnsupportedModelError: if some size may change.
    """
    if None in (*kernel, *sizes, *results):
        raise op.unsupported("has sizes that may change")
    begins, ends, more = [], [], []
    for size, window, stride, result in zip(sizes, kernel, strides, results, strict=True):
        assert isinstance(size, int) and isinstance(window, int) and isinstance(result, int)
        begin = same_padding(result, window, stride, 1) // 2 if is_same else 0
        end = (size - 1) * stride + window - begin - result
        begins.append(begin)
        ends.append(max(end, 0))
        more.append(max(-end, 0))
    if any(extra >= stride for extra, stride in zip(more, strides, strict=True)):
        raise op.error(
            f"has a result of {list(results)} that {list(sizes)} elements with strides {strides} do not give"
        )
    attributes: dict[str, Any] = {"strides": list(strides), "pads": begins + ends}
    if any(more):
        attributes["output_padding"] = more
    return attributes

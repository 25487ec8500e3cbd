"""Forms of operators that onnx.reference (1.23 and before) answers wrongly, done right; docs/judges.md has the list.

A mend is a function of the node's inputs that stands in for the evaluator, or changes what the evaluator gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, sliding_window

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = Sequence[Any]
NodeFunction: TypeAlias = Callable[[Inputs], Sequence[Any]]
Mend: TypeAlias = Callable[[GraphView, Node, NodeFunction], NodeFunction | None]

_MENDS: dict[str, Mend] = {}


def mended(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction:
    """What computes ``node``: ``function``, which asks onnx.reference, or what stands in for it."""
    mend = None if node.domain else _MENDS.get(node.op_type)
    found = None if mend is None else mend(view, node, function)
    return function if found is None else found


def objection(node: Node) -> str | None:
    """Why onnx.reference is not asked, where it is known to answer wrongly and nothing here stands in for it."""
    if node.domain:
        return None
    if node.op_type == "ConvTranspose" and node.input(2) is not None and node.attr("group", 1) != 1:
        return "onnx.reference adds the biases of the first group to all groups"
    if node.op_type not in ("LSTM", "GRU", "RNN"):
        return None
    ignored = [name for name in ("clip", "input_forget", "activations") if node.attr(name)]
    return f"onnx.reference ignores {' and '.join(ignored)} of recurrent layers" if ignored else None


def _mends(*op_types: str) -> Callable[[Mend], Mend]:
    def register(mend: Mend) -> Mend:
        for op_type in op_types:
            _MENDS[op_type] = mend
        return mend

    return register


@_mends("LSTM", "GRU", "RNN")
def _recurrent(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction | None:
    """Sequences that end earlier than others, one by one; the reference reads all of them to the last step."""
    if node.input(4) is None:
        return None
    batch_axis = 0 if node.attr("layout", 0) else 1
    written = [index for index, value in enumerate(node.outputs) if value is not None]

    def compute(inputs: Inputs) -> Sequence[Any]:
        data, lengths = np.asarray(inputs[0]), np.asarray(inputs[4])
        steps, batches = data.shape[1 - batch_axis], data.shape[batch_axis]
        directions, _, hidden = np.asarray(inputs[2]).shape
        whole = (batches, steps, directions, hidden) if batch_axis == 0 else (steps, directions, batches, hidden)
        last = (batches, directions, hidden) if batch_axis == 0 else (directions, batches, hidden)
        given = {1: 5, 2: 6}  # the initial states, by the output that is their last value
        results = {0: np.zeros(whole, data.dtype)}
        for index, source in given.items():
            initial = inputs[source] if source < len(inputs) else None
            results[index] = np.zeros(last, data.dtype) if initial is None else np.array(initial)
        for batch in range(batches):
            length = int(lengths[batch])
            if length == 0:
                continue
            one = slice(batch, batch + 1)
            part = list(inputs)
            part[0] = data[one, :length] if batch_axis == 0 else data[:length, one]
            part[4] = lengths[one]
            for source in given.values():
                if source < len(inputs) and inputs[source] is not None:
                    part[source] = np.asarray(inputs[source])[one if batch_axis == 0 else (slice(None), one)]
            for index, found in zip(written, function(part), strict=True):
                if index == 0:
                    results[0][(one, slice(length)) if batch_axis == 0 else (slice(length), slice(None), one)] = found
                else:
                    results[index][one if batch_axis == 0 else (slice(None), one)] = found
        return [results[index] for index in written]

    return compute


@_mends("Unsqueeze")
def _unsqueeze(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction:
    """All axes are of the output, in whatever order; the reference inserts them one after the other."""

    def compute(inputs: Inputs) -> Sequence[Any]:
        given = node.attr("axes") if view.opset() < 13 else np.asarray(inputs[1]).reshape(-1).tolist()
        data = np.asarray(inputs[0])
        return [np.expand_dims(data, tuple(int(axis) for axis in given))]

    return compute


@_mends("Shape")
def _shape(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction:
    """Ends beyond the first or last dimension are clamped."""

    def compute(inputs: Inputs) -> Sequence[Any]:
        dims = np.asarray(inputs[0]).shape
        return [np.array(dims[slice(node.attr("start", 0), node.attr("end"))], np.int64)]

    return compute


@_mends("Unique")
def _unique(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction:
    """In the order of first occurrence where ``sorted`` is 0; slices of any axis; texts too."""
    axis, is_sorted = node.attr("axis"), bool(node.attr("sorted", 1))

    def compute(inputs: Inputs) -> Sequence[Any]:
        data = np.asarray(inputs[0])
        slices = data.reshape(-1) if axis is None else np.moveaxis(data, axis, 0)
        keys = [tuple(part.reshape(-1).tolist()) for part in slices.reshape(*slices.shape, 1)]
        first: dict[tuple[Any, ...], int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        chosen = sorted(first, key=_with_nan_last) if is_sorted else list(first)
        position = {key: number for number, key in enumerate(chosen)}
        places = np.array([first[key] for key in chosen], np.int64)
        inverse = np.array([position[key] for key in keys], np.int64)
        values = slices[places]
        results = [
            values if axis is None else np.moveaxis(values, 0, axis),
            places,
            inverse,
            np.bincount(inverse, minlength=len(chosen)).astype(np.int64),
        ]
        return [result for result, value in zip(results, node.outputs, strict=False) if value is not None]

    return compute


def _with_nan_last(key: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    return [(item != item, item) for item in key]


@_mends("LRN")
def _lrn(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction:
    """Every channel; the reference counts them with the size of the batch."""
    size, alpha, beta, bias = (
        node.attr(name, default) for name, default in (("size", 1), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )

    def compute(inputs: Inputs) -> Sequence[Any]:
        data = np.asarray(inputs[0])
        squares = np.square(data.astype(np.float64))
        before, after = (size - 1) // 2, size // 2  # floor and ceil of half of size - 1
        sums = np.zeros_like(squares)
        channels = data.shape[1]
        for channel in range(channels):
            window = squares[:, max(channel - before, 0) : min(channel + after + 1, channels)]
            sums[:, channel] = window.sum(1)
        return [(data / (bias + alpha / size * sums) ** beta).astype(data.dtype)]

    return compute


@_mends("MaxPool")
def _max_pool(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction | None:
    """The first largest element of a window, and its place in the whole input."""
    indices = node.output(1)
    wanted = None if indices is None else view.tensor_type(indices)
    if wanted is None or not wanted.is_concrete:
        return None
    results = wanted.concrete_shape[2:]
    rank = len(results)
    taps = node.attr("kernel_shape")

    def compute(inputs: Inputs) -> Sequence[Any]:
        data = np.asarray(inputs[0])
        batch, channels, *sizes = data.shape
        window = sliding_window(node, sizes, taps)
        order = range(rank) if node.attr("storage_order", 0) == 0 else range(rank - 1, -1, -1)
        steps = [0] * rank
        step = 1
        for axis in reversed(order):
            steps[axis], step = step, step * sizes[axis]
        best = np.zeros((batch, channels, *results), data.dtype)
        places = np.full((batch, channels, *results), -1, np.int64)
        for tap in np.ndindex(*taps):
            at = [
                np.arange(count) * stride - begin + offset * dilation
                for count, stride, begin, offset, dilation in zip(
                    results, window.strides, window.begins, tap, window.dilations, strict=True
                )
            ]
            is_inside = np.ones(results, bool)
            for axis, (place, size) in enumerate(zip(at, sizes, strict=True)):
                is_inside &= ((place >= 0) & (place < size)).reshape(-1, *(1,) * (rank - 1 - axis))
            grid = np.ix_(*(np.clip(place, 0, max(size - 1, 0)) for place, size in zip(at, sizes, strict=True)))
            found = data[(slice(None), slice(None), *grid)]
            flat = np.zeros(results, np.int64)
            for coordinates, width in zip(grid, steps, strict=True):
                flat = flat + coordinates * width
            is_better = is_inside & ((places < 0) | (found > best))
            best = np.where(is_better, found, best)
            places = np.where(is_better, flat, places)
        planes = np.arange(batch * channels).reshape(batch, channels, *(1,) * rank) * int(np.prod(sizes))
        return [
            result for result, value in zip((best, places + planes), node.outputs, strict=True) if value is not None
        ]

    return compute


@_mends("GlobalMaxPool")
def _global_max_pool(view: GraphView, node: Node, function: NodeFunction) -> NodeFunction:
    """The result keeps the rank of the input."""

    def compute(inputs: Inputs) -> Sequence[Any]:
        data = np.asarray(inputs[0])
        return [data.max(axis=tuple(range(2, data.ndim)), keepdims=True)]

    return compute

"""What the kit expects of a case: by onnx.reference, or by definitions written out here where that is wrong or mute.

The definitions follow the operators' texts, element by element, and are compared with onnxruntime by the tests of this
project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph
from mace_core.scheduler.host.reference import ReferenceBackend
from mace_core.testing.cases import Case
from mace_core.testing.runner import run_once, view_of

Array: TypeAlias = npt.NDArray[Any]
Judge: TypeAlias = Callable[[Case, Sequence[tuple[int, ...]]], Sequence[Array]]
"""``(case, shapes of its outputs) -> outputs``."""


_KNOWN: dict[int, tuple[Case, dict[str, Array]]] = {}
"""What has been worked out, by the case's identity; the case is held so that this stays its own."""


def expected(case: Case) -> dict[str, Array]:
    """The outputs of a case, by name; worked out once for each case."""
    known = _KNOWN.get(id(case))
    if known is None:
        known = _KNOWN[id(case)] = (case, _worked_out(case))
    return known[1]


def _worked_out(case: Case) -> dict[str, Array]:
    judge = _JUDGES.get(case.op_type)
    graph = case.graph()
    if judge is None:
        return reference(graph, case.feeds())
    view = view_of(graph, case.feeds())
    results = judge(case, [view.shape(value) for value in graph.outputs])
    return {value.name: result for value, result in zip(graph.outputs, results, strict=True)}


def reference(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What ``onnx.reference`` computes, with what this project mends of it."""
    backend = ReferenceBackend()
    view = view_of(graph, feeds)
    (compiled,) = backend.compile([view])
    return run_once(backend, view, compiled, feeds)


def _attribute(case: Case, name: str, default: Any) -> Any:
    found = case.attributes.get(name)
    return default if found is None else found


def _given(case: Case, place: int) -> Array | None:
    return case.inputs[place] if place < len(case.inputs) else None


def _sides(
    case: Case, counts: Sequence[int], sizes: Sequence[int], spans: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Elements padded before the first and after the last one of each spatial axis."""
    rank = len(sizes)
    mode = _attribute(case, "auto_pad", "NOTSET")
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        pads = list(_attribute(case, "pads", (0,) * 2 * rank))
        return pads[:rank], pads[rank:]
    strides = _attribute(case, "strides", (1,) * rank)
    totals = [max((n - 1) * s + w - z, 0) for n, s, w, z in zip(counts, strides, spans, sizes, strict=True)]
    begins = [total // 2 if mode == "SAME_UPPER" else -(-total // 2) for total in totals]
    return begins, [total - begin for total, begin in zip(totals, begins, strict=True)]


def _pool(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x = case.first_input
    counts, sizes = shapes[0][2:], x.shape[2:]
    rank = len(sizes)
    taps = _attribute(case, "kernel_shape", ())
    strides, dilations = (_attribute(case, name, (1,) * rank) for name in ("strides", "dilations"))
    spans = [(k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True)]
    begins, ends = _sides(case, counts, sizes, spans)
    result, places = np.zeros(shapes[0], x.dtype), np.zeros(shapes[0], np.int64)
    order = range(rank) if not _attribute(case, "storage_order", 0) else range(rank - 1, -1, -1)
    widths = [math.prod(sizes[other] for other in order if order.index(other) > order.index(a)) for a in range(rank)]
    for window in np.ndindex(*counts):
        starts = [at * stride - begin for at, stride, begin in zip(window, strides, begins, strict=True)]
        positions = [
            tuple(start + step * dilation for start, step, dilation in zip(starts, tap, dilations, strict=True))
            for tap in np.ndindex(*taps)
        ]
        inside = [p for p in positions if all(0 <= at < size for at, size in zip(p, sizes, strict=True))]
        seen = np.stack([x[(slice(None), slice(None), *p)] for p in inside], axis=-1)
        spot = (slice(None), slice(None), *window)
        if case.op_type == "MaxPool":
            best = seen.argmax(axis=-1)
            result[spot] = seen.max(axis=-1)
            flat = np.array([sum(at * width for at, width in zip(p, widths, strict=True)) for p in inside])
            planes = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) * math.prod(sizes)
            places[spot] = flat[best] + planes
        elif case.op_type == "LpPool":
            power = _attribute(case, "p", 2)
            result[spot] = (np.abs(seen.astype(np.float64)) ** power).sum(axis=-1) ** (1 / power)
        else:
            padded = [p for p in positions if all(at < z + e for at, z, e in zip(p, sizes, ends, strict=True))]
            divisor = len(padded) if _attribute(case, "count_include_pad", 0) else len(inside)
            result[spot] = seen.astype(np.float64).sum(axis=-1) / divisor
    return [result, places][: case.output_count]


def _global_norm(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x = case.first_input.astype(np.float64)
    found = np.sqrt(np.square(x).sum(axis=tuple(range(2, x.ndim)), keepdims=True))
    return [found.astype(case.first_input.dtype)]


def _transposed_convolution(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    """Each element of the input adds a copy of the filters, times itself, where it stands."""
    x: Any = case.first_input.astype(np.float64)
    weights: Any = _given(case, 1)
    bias = _given(case, 2)
    rank, group = x.ndim - 2, _attribute(case, "group", 1)
    strides, dilations = (_attribute(case, name, (1,) * rank) for name in ("strides", "dilations"))
    spans = [(k - 1) * d + 1 for k, d in zip(weights.shape[2:], dilations, strict=True)]
    counts = shapes[0][2:]
    if _attribute(case, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        full = [(n - 1) * s + w for n, s, w in zip(x.shape[2:], strides, spans, strict=True)]
        totals = [whole - count for whole, count in zip(full, counts, strict=True)]
        upper = case.attributes["auto_pad"] == "SAME_UPPER"
        begins = [total // 2 if upper else -(-total // 2) for total in totals]
    else:
        begins = list(_attribute(case, "pads", (0,) * 2 * rank)[:rank])
    result: Any = np.zeros(shapes[0])
    inputs, filters = x.shape[1] // group, weights.shape[1]
    for at in product(*map(range, x.shape[2:])):
        for tap in product(*map(range, weights.shape[2:])):
            place = [p * s + t * d - b for p, s, t, d, b in zip(at, strides, tap, dilations, begins, strict=True)]
            if any(not 0 <= p < count for p, count in zip(place, counts, strict=True)):
                continue
            for g in range(group):
                block = x[:, g * inputs : (g + 1) * inputs, *at]
                matrix = weights[g * inputs : (g + 1) * inputs, :, *tap]
                result[:, g * filters : (g + 1) * filters, *place] += block @ matrix
    if bias is not None:
        result += bias.reshape(1, -1, *(1,) * rank)
    return [np.asarray(result, case.first_input.dtype)]


def _log_softmax(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x = case.first_input.astype(np.float64)
    axis = _attribute(case, "axis", 1 if case.opset < 13 else -1) % x.ndim
    matrix = x.reshape(math.prod(x.shape[:axis]), -1) if case.opset < 13 else np.moveaxis(x, axis, -1)
    shifted = matrix - matrix.max(axis=-1, keepdims=True)
    found = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    found = found.reshape(x.shape) if case.opset < 13 else np.moveaxis(found, -1, axis)
    return [found.astype(case.first_input.dtype)]


def _lp_normalization(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x = case.first_input.astype(np.float64)
    axis, power = _attribute(case, "axis", -1), _attribute(case, "p", 2)
    norm = (np.abs(x) ** power).sum(axis=axis, keepdims=True) ** (1 / power)
    return [(x / norm).astype(case.first_input.dtype)]


def _normalization(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    """Of instances, groups and layers, with exact statistics."""
    x, scale, bias = case.first_input.astype(np.float64), _given(case, 1), _given(case, 2)
    assert scale is not None
    if case.op_type == "LayerNormalization":
        axis = _attribute(case, "axis", -1) % x.ndim
        parts = x.reshape(math.prod(x.shape[:axis]), -1)
    else:
        groups = _attribute(case, "num_groups", x.shape[1])
        parts = x.reshape(x.shape[0] * groups, -1)
        scale, bias = (None if v is None else v.reshape(1, -1, *(1,) * (x.ndim - 2)) for v in (scale, bias))
        assert scale is not None
    mean, variance = parts.mean(axis=1, keepdims=True), parts.var(axis=1, keepdims=True)
    normal = (parts - mean) / np.sqrt(variance + _attribute(case, "epsilon", 1e-5))
    found = normal.reshape(x.shape) * scale
    return [(found if bias is None else found + bias).astype(case.first_input.dtype)]


def _gather_elements(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x, places = case.first_input, _given(case, 1)
    assert places is not None
    axis = _attribute(case, "axis", 0) % x.ndim
    found = np.empty(places.shape, x.dtype)
    for spot in np.ndindex(*places.shape):
        source = list(spot)
        source[axis] = int(places[spot]) % x.shape[axis]
        found[spot] = x[tuple(source)]
    return [found]


def _one_hot(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    places, depth, switches = case.first_input, _given(case, 1), _given(case, 2)
    assert depth is not None and switches is not None
    count = int(depth.reshape(-1)[0])
    hot = (places % count)[..., None] == np.arange(count)
    axis = _attribute(case, "axis", -1)
    return [np.moveaxis(np.where(hot, switches[1], switches[0]), -1, axis)]


def _dequantize(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x, scale, zero = case.first_input, _given(case, 1), _given(case, 2)
    assert scale is not None
    shape = [1] * x.ndim
    if scale.ndim:
        shape[_attribute(case, "axis", 1)] = -1
    shifted = x.astype(np.int64) - (0 if zero is None else zero.astype(np.int64).reshape(shape))
    return [(shifted * scale.reshape(shape)).astype(scale.dtype).reshape(x.shape)]


def _pad(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    """With negative numbers too, which cut off."""
    x = case.first_input
    given = _attribute(case, "pads", _given(case, 1))
    axes = _given(case, 3)
    named = list(range(x.ndim)) if axes is None else [int(axis) % x.ndim for axis in axes]
    sides = [(0, 0)] * x.ndim
    for place, axis in enumerate(named):
        sides[axis] = (int(given[place]), int(given[place + len(named)]))
    x = x[tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(sides, x.shape, strict=True))]
    grown = [(max(a, 0), max(b, 0)) for a, b in sides]
    mode = _attribute(case, "mode", "constant")
    if mode != "constant":
        return [np.pad(x, grown, mode=mode)]
    value = _given(case, 2)
    fill = _attribute(case, "value", 0) if value is None else value
    return [np.pad(x, grown, constant_values=fill)]


def _reshaped(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    return [case.first_input.reshape(shapes[0])]


def _softsign(case: Case, shapes: Sequence[tuple[int, ...]]) -> Sequence[Array]:
    x = case.first_input
    return [np.asarray(x / (1 + np.abs(x)), x.dtype)]


_JUDGES: dict[str, Judge] = {
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization", "LayerNormalization"), _normalization),
    **dict.fromkeys(("Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    "GlobalLpPool": _global_norm,
    "ConvTranspose": _transposed_convolution,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _lp_normalization,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "DequantizeLinear": _dequantize,
    "Pad": _pad,
    "Softsign": _softsign,
}

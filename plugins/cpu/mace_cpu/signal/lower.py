"""DFT, STFT and MelWeightMatrix."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.nodes import fixed, integers, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.signal.kernels"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})
INDICES = frozenset({DType.INT32, DType.INT64})


def turns(n: int) -> npt.NDArray[np.float64]:
    """cos and sin of 2 pi k / n for k below n, in turn."""
    n = int(n)
    angles = 2.0 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _dft_axis(view: GraphView, node: Node) -> int | None:
    """The transformed axis: an attribute until opset 19, an input since; None where it is known only at run time."""
    rank = len(view.shape(need(node.input(0))))
    if view.opset() < 20:
        return normal_axis(int(node.attr("axis", 1)), rank)
    if node.input(2) is None:
        return rank - 2
    given = integers(view, node.input(2))
    return normal_axis(given[0], rank) if given else None


def _check_dft(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)
    reason = reason or fixed(view, node, 1, "the length of the transform")
    reason = reason or dtype_in(view, node.input(2), frozenset({DType.INT64}))
    if reason is None:
        axis = _dft_axis(view, node)
        if axis is None and (node.attr("onesided", 0) or node.input(1) is not None):
            return fixed(view, node, 2, "the axis")
        if axis is not None and axis >= len(view.shape(need(node.input(0)))) - 1:
            return "the last axis holds real and imaginary parts and cannot be transformed along"
    return reason


@lowers("DFT", check=_check_dft)
def lower_dft(program: Program, node: Node) -> None:
    rank = len(program.facts.shape(need(node.input(0))))
    axis = _dft_axis(program.facts.view, node)
    if axis is not None:
        _emit_dft(program, node, axis, program.values.write(need(node.output(0))), 0)
        return
    where = program.values.read(need(node.input(2)))
    target = program.values.write(need(node.output(0)))
    for candidate in range(rank - 1):
        _emit_dft(program, node, candidate, target, where)


def _steps(n: int, bins: int) -> int:
    """About how often a transform of ``n`` numbers goes over each: the kernel's factors added up, 20 at least."""
    steps, rest, factor = 0, n, 2
    while factor * factor <= rest:
        while rest % factor == 0:
            steps, rest = steps + factor, rest // factor
        factor += 1
    return max(20, bins if rest == n else steps + rest)


def _emit_dft(program: Program, node: Node, axis: int, target: Buf, where: Buf | int) -> None:
    source = need(node.input(0))
    shape, results = program.facts.shape(source), program.facts.shape(need(node.output(0)))
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    mirrored = inverse and onesided
    lengths = integers(program.facts.view, node.input(1))
    whole = 2 * (shape[axis] - 1) if mirrored else shape[axis]
    n = lengths[0] if lengths else whole
    inner = math.prod(shape[axis + 1 : -1])
    lines = math.prod(shape[:axis]) * inner
    work = lines * n * _steps(n, results[axis])
    chunks = program.steps.chunks(lines, work)
    program.steps.emit(
        numba_source(KERNELS, "dft", dtype=program.facts.dtype(source).label),
        {
            "source": program.values.read(source),
            "target": target,
            "table": program.constants.put(turns(n)),
            "scratch": Buf.scratch(32 * n * chunks),
            "given": shape[axis],
            "length": n,
            "bins": results[axis],
            "inner": inner,
            "parts_in": shape[-1],
            "parts_out": results[-1],
            "inverse": int(inverse),
            "mirrored": int(mirrored),
            "where": where,
            "axis": axis,
            "rank": len(shape),
        },
        extent=lines if results[axis] else 0,
        work=work,
        chunks=chunks,
    )


def _check_stft(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)
    reason = reason or fixed(view, node, 1, "the step") or fixed(view, node, 3, "the frame's length")
    signal, window = view.tensor_type(need(node.input(0))), node.input(2)
    if reason is None and window is not None and signal is not None:
        return dtype_in(view, window, frozenset({signal.dtype}))
    if reason is None and window is None and node.input(3) is None:
        return "there is neither a window nor a frame length"
    return reason


@lowers("STFT", check=_check_stft)
def lower_stft(program: Program, node: Node) -> None:
    source, window, target = need(node.input(0)), node.input(2), need(node.output(0))
    shape = program.facts.shape(source)
    batch, frames, bins, _ = program.facts.shape(target)
    steps, lengths = integers(program.facts.view, node.input(1)), integers(program.facts.view, node.input(3))
    assert steps is not None
    taps = program.facts.size(window) if window is not None else 0
    n = lengths[0] if lengths else taps
    units = batch * frames
    work = units * n * _steps(n, bins)
    chunks = program.steps.chunks(units, work)
    program.steps.emit(
        numba_source(KERNELS, "stft", dtype=program.facts.dtype(source).label),
        {
            "signal": program.values.read(source),
            "window": 0 if window is None else program.values.read(window),
            "target": program.values.write(target),
            "table": program.constants.put(turns(n)),
            "scratch": Buf.scratch(32 * n * chunks),
            "samples": shape[1],
            "parts": shape[2] if len(shape) > 2 else 1,
            "frames": frames,
            "step": steps[0],
            "length": n,
            "taps": taps,
            "bins": bins,
        },
        extent=units,
        work=work,
        chunks=chunks,
    )


def _check_mel(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), FLOATS)
    for index, allowed in ((1, INDICES), (2, INDICES), (3, FLOATS), (4, FLOATS)):
        reason = reason or dtype_in(view, node.input(index), allowed)
    if reason is None and view.tensor_type(need(node.input(1))) != view.tensor_type(need(node.input(2))):
        return "the transform's length and the sample rate are of different types"
    return reason


@lowers("MelWeightMatrix", check=_check_mel)
def lower_mel(program: Program, node: Node) -> None:
    target = need(node.output(0))
    bins, bands = program.facts.shape(target)
    length, rate, low, high = (program.values.read(need(node.input(index))) for index in range(1, 5))
    program.steps.emit(
        numba_source(
            KERNELS,
            "mel_matrix",
            number=program.facts.dtype(need(node.input(1))).label,
            edge=program.facts.dtype(need(node.input(3))).label,
            dtype=program.facts.dtype(target).label,
        ),
        {
            "length": length,
            "rate": rate,
            "low": low,
            "high": high,
            "target": program.values.write(target),
            "bands": bands,
            "bins": bins,
        },
        extent=bands,
        work=bands * bins * 4,
    )

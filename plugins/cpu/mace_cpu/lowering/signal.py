"""DFT, STFT and MelWeightMatrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.lowering.checks import all_concrete, dtype_in
from mace_cpu.lowering.layout import emit_copy
from mace_cpu.lowering.nodes import fixed, integers, need, normal_axis
from mace_cpu.lowering.registry import lowers
from mace_cpu.program import Program

KERNELS = "mace_cpu.kernels.signal"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})


def turns(n: int) -> npt.NDArray[np.float64]:
    """cos and sin of 2 pi k / n for k below n, in turn."""
    angles = 2.0 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _dft_axis(view: GraphView, node: Node) -> int:
    """The transformed axis: an attribute until opset 19, an input since."""
    rank = len(view.shape(need(node.input(0))))
    if view.opset() < 20:
        return normal_axis(int(node.attr("axis", 1)), rank)
    given = integers(view, node.input(2))
    return normal_axis(given[0] if given else -2, rank)


def _check_dft(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)
    reason = reason or fixed(view, node, 1, "the length of the transform") or fixed(view, node, 2, "the axis")
    if reason is None and _dft_axis(view, node) >= len(view.shape(need(node.input(0)))) - 1:
        return "the last axis holds real and imaginary parts and can not be transformed along"
    return reason


@lowers("DFT", check=_check_dft)
def lower_dft(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    shape, results = program.shape(source), program.shape(target)
    axis = _dft_axis(program.view, node)
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    mirrored = inverse and onesided
    lengths = integers(program.view, node.input(1))
    if lengths:
        n = lengths[0]
    else:
        n = 2 * (shape[axis] - 1) if mirrored else shape[axis]
    inner = math.prod(shape[axis + 1 : -1])
    lines = math.prod(shape[:axis]) * inner
    work = lines * n * (results[axis] if n & (n - 1) else 20)
    chunks = program.chunks(lines, work)
    program.emit(
        numba_source(KERNELS, "dft", dtype=program.dtype(source).label),
        [
            program.read(source),
            program.write(target),
            program.constant(turns(n)),
            program.scratch(32 * n * chunks),
            shape[axis],
            n,
            results[axis],
            inner,
            shape[-1],
            results[-1],
            int(inverse),
            int(mirrored),
        ],
        extent=lines if results[axis] else 0,
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
    shape = program.shape(source)
    batch, frames, bins, _ = program.shape(target)
    steps, lengths = integers(program.view, node.input(1)), integers(program.view, node.input(3))
    assert steps is not None
    taps = program.size(window) if window is not None else 0
    n = lengths[0] if lengths else taps
    units = batch * frames
    chunks = program.chunks(units, units * n * (bins if n & (n - 1) else 20))
    program.emit(
        numba_source(KERNELS, "stft", dtype=program.dtype(source).label),
        [
            program.read(source),
            0 if window is None else program.read(window),
            program.write(target),
            program.constant(turns(n)),
            program.scratch(32 * n * chunks),
            shape[1],
            shape[2] if len(shape) > 2 else 1,
            frames,
            steps[0],
            n,
            taps,
            bins,
        ],
        extent=units,
        chunks=chunks,
    )


def _check_mel(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), FLOATS)
    for index in range(5):
        reason = reason or fixed(view, node, index, "a number that decides the matrix")
    return reason


@lowers("MelWeightMatrix", check=_check_mel)
def lower_mel(program: Program, node: Node) -> None:
    """All inputs are fixed, so the matrix is a constant."""
    target = need(node.output(0))
    given = [float(np.asarray(program.constant_of(value)).reshape(-1)[0]) for value in node.inputs]
    matrix = mel_matrix(int(given[0]), int(given[1]), int(given[2]), given[3], given[4])
    found = program.constant(matrix.astype(program.dtype(target).numpy))
    emit_copy(program, found, program.write(target), program.nbytes(target))


def mel_matrix(bands: int, length: int, rate: int, lowest: float, highest: float) -> npt.NDArray[Any]:
    """Triangles that overlap, equally far apart on the mel scale, over the bins of a transform of ``length``."""
    bins = length // 2 + 1
    low, high = (2595.0 * np.log10(1.0 + hertz / 700.0) for hertz in (lowest, highest))
    mels = np.arange(bands + 2) * ((high - low) / (bands + 1)) + low
    hertz = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    edges = (((length + 1) * hertz) // rate).astype(np.int64)
    left, center, right = (edges[i : i + bands][None, :] for i in range(3))
    at = np.arange(bins)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising = np.where((at >= left) & (at <= center) & (center > left), (at - left) / (center - left), 0.0)
        falling = np.where((at >= center) & (at < right) & (right > center), (right - at) / (right - center), 0.0)
    flat = (at == center) & (center == left)
    matrix: npt.NDArray[Any] = np.where(flat, 1.0, np.where(at < center, rising, np.maximum(rising, falling)))
    return matrix

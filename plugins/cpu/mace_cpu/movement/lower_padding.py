"""Pad in all modes and opsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_same, is_symbolic, maximum
from mace_core.tensor import DType
from mace_cpu.shared.checks import movable
from mace_cpu.shared.layouts.channels_last import shape_channels_last
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.nodes import fixed, integers, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout, element_bytes
from mace_cpu.shared.program.blocked import blocked_shape, emit_padded_channels
from mace_cpu.shared.program.floats_last import show_floats_last, wants_channels_last
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

MODES = ("constant", "reflect", "edge", "wrap")
KERNELS = "mace_cpu.shared.layouts.kernels_tables"


def pad_amounts(view: GraphView, node: Node, rank: int) -> list[tuple[int, int]]:
    """(before, after) per axis; negative amounts cut off."""
    if view.opset() < 11:
        pads = [int(p) for p in node.attr("pads", node.attr("paddings", ()))]
        axes = list(range(rank))
    else:
        pads = integers(view, node.input(1)) or []
        given = integers(view, node.input(3))
        axes = list(range(rank)) if given is None else [normal_axis(a, rank) for a in given]
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[axis] = (pads[i], pads[i + len(axes)])
    return amounts


def _check(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node)
    if view.opset() >= 11:
        reason = reason or fixed(view, node, 1, "how much to pad") or fixed(view, node, 3, "which axes to pad")
    mode = node.attr("mode", "constant")
    if mode not in MODES:
        reason = reason or f"there is no padding mode '{mode}'"
    if reason is None and mode != "constant":
        shape = view.shape(need(node.input(0)))
        for size, (before, after) in zip(shape, pad_amounts(view, node, len(shape)), strict=True):
            left = size + min(before, 0) + min(after, 0)
            if left <= 0 and (before > 0 or after > 0):
                return f"mode '{mode}' has nothing to repeat along an axis of {left} elements"
    return reason


@lowers("Pad", check=_check)
def lower_pad(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    shape = program.facts.shape(source)
    amounts = pad_amounts(program.facts.view, node, len(shape))
    if program.facts.size(target) == 0:
        program.values.write(target)
        return
    lies = program.values.shown_channels_last(source)
    if lies is not None and wants_channels_last(program, target):
        buf = Buf.scratch(program.facts.nbytes(target))
        last = [amounts[0], *amounts[2:], amounts[1]]
        _emit(program, node, lies, buf, list(shape_channels_last(shape)), last, 1)
        show_floats_last(program, node, target, buf)
        return
    blocked = program.values.prefers_blocked(source)
    if blocked and _adds_channels(program, node, amounts):
        emit_padded_channels(program, source, target, amounts[1][0], _fill_value(program, node))
        return
    blocked = blocked and amounts[1] == (0, 0)
    if blocked:
        shape, amounts = blocked_shape(program, source), [*amounts, (0, 0)]
    layout = Layout.BLOCKED if blocked else Layout.PLAIN
    if not blocked and program.values.lies_channels_last(source):
        layout = Layout.CHANNELS_LAST
        shape, amounts = shape_channels_last(shape), [amounts[0], *amounts[2:], amounts[1]]
    words = 2 if program.facts.dtype(source).bits == 128 else 1
    _emit(
        program,
        node,
        program.values.read(source, layout),
        program.values.write(target, layout),
        [*shape, words] if words > 1 else list(shape),
        [*amounts, (0, 0)] if words > 1 else amounts,
        words,
    )


def _adds_channels(program: Program, node: Node, amounts: Sequence[tuple[int, int]]) -> bool:
    """Whether all that is done is to put channels of one number behind others, or whole blocks of them before."""
    (before, after), others = amounts[1], [amounts[0], *amounts[2:]]
    return (
        node.attr("mode", "constant") == "constant"
        and program.facts.dtype(need(node.input(0))) is DType.FLOAT32
        and all(is_same(amount, 0) for pads in others for amount in pads)
        and not any(map(is_symbolic, (before, after, program.facts.shape(need(node.input(0)))[1])))
        and min(before, after) >= 0
        and before % program.settings.block == 0
    )


def _emit(
    program: Program,
    node: Node,
    source: Buf,
    target: Buf,
    shape: list[int],
    amounts: list[tuple[int, int]],
    words: int,
) -> None:
    mode = node.attr("mode", "constant")
    shape, amounts = _merge_unpadded(shape, amounts)
    inner = 1
    if len(shape) > 1 and amounts[-1] == (0, 0):
        inner = shape.pop()
        amounts.pop()
    tables = _tables(program, shape, amounts, mode)
    sizes = tables.sizes
    dtype = program.facts.dtype(need(node.output(0)))
    program.steps.emit(
        numba_source(KERNELS, "pad", width=str(element_bytes(dtype) // words)),
        {
            "source": source,
            "target": target,
            "fill": _fill_value(program, node),
            "tables": tables.joined,
            "inner": inner,
            "mask": words - 1,
            "low": tables.run[0],
            "high": tables.run[1],
            "rank": len(sizes),
            "sizes": sizes,
            "strides": [stride * inner for stride in strides_of(shape)],
            "starts": [sum(sizes[:i]) for i in range(len(sizes))],
        },
        extent=math.prod(sizes[:-1]),
        work=math.prod(sizes) * inner,
    )


@dataclass(frozen=True, slots=True)
class _Tables:
    """For each target index along each axis the source index (int32); -1 stands for the fill value.

    Attributes:
        joined: the tables, axis after axis.
        sizes: their lengths.
        run: a stretch [low, high) of the last one in which the index grows by one.
    """

    joined: Buf
    sizes: list[int]
    run: tuple[int, int]


def _tables(program: Program, shape: Sequence[int], amounts: Sequence[tuple[int, int]], mode: str) -> _Tables:
    """A constant, or written at each run where sizes or amounts are not decided."""
    if not any(map(is_symbolic, (*shape, *(amount for pads in amounts for amount in pads)))):
        tables = [index_table(size, *pads, mode) for size, pads in zip(shape, amounts, strict=True)]
        joined = program.constants.put(np.concatenate(tables).astype(np.int32))
        return _Tables(joined, [len(table) for table in tables], longest_run(tables[-1]))
    firsts, lefts, befores, lengths = zip(
        *(_kept(size, *pads) for size, pads in zip(shape, amounts, strict=True)), strict=True
    )
    joined = Buf.scratch(4 * sum(lengths))
    program.steps.emit(
        numba_source(KERNELS, "pad_tables", mode=mode),
        {
            "tables": joined,
            "rank": len(shape),
            "firsts": firsts,
            "lefts": lefts,
            "befores": befores,
            "lengths": lengths,
        },
        extent=1,
        work=4 * sum(lengths),
        name="PadTables",
    )
    return _Tables(joined, list(lengths), (befores[-1], befores[-1] + lefts[-1]))


def _kept(size: int, before: int, after: int) -> tuple[int, int, int, int]:
    """Of one axis: the first element that is kept, how many are, how many are put before them, and the new size."""
    first = maximum(-before, 0)
    left = maximum(size - first - maximum(-after, 0), 0)
    before = maximum(before, 0)
    return first, left, before, before + left + maximum(after, 0)


def _merge_unpadded(
    shape: Sequence[int], amounts: Sequence[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """The same padding with neighboring axes that are not padded joined."""
    sizes: list[int] = []
    pads: list[tuple[int, int]] = []
    for size, amount in zip(shape, amounts, strict=True):
        if sizes and amount == (0, 0) and pads[-1] == (0, 0):
            sizes[-1] *= size
        else:
            sizes.append(size)
            pads.append(amount)
    return sizes or [1], pads or [(0, 0)]


def index_table(size: int, before: int, after: int, mode: str) -> npt.NDArray[np.int64]:
    """The source index of each target index along one axis; -1 stands for the fill value.

    Negative amounts cut elements off first; what is added repeats what is left.
    """
    first, left, before, length = _kept(size, before, after)
    index = np.arange(length) - before
    if mode == "constant" or left == 0:
        return np.where((index >= 0) & (index < left), index + first, -1)
    if mode == "edge":
        index = np.clip(index, 0, left - 1)
    elif mode == "wrap":
        index = index % left
    else:
        period = max(2 * (left - 1), 1)
        index = index % period
        index = np.where(index < left, index, period - index)
    return index + first


def longest_run(table: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The longest stretch [low, high) of the table in which the index grows by one and nothing is filled."""
    best, low = (0, 0), 0
    for i in range(1, len(table) + 1):
        if i == len(table) or table[i] != table[i - 1] + 1 or table[i - 1] < 0:
            if table[low] >= 0 and i - low > best[1] - best[0]:
                best = (low, i)
            low = i
    return best


def _fill_value(program: Program, node: Node) -> Buf:
    dtype = program.facts.dtype(need(node.output(0)))
    if program.facts.view.opset() < 11:
        return program.constants.put(np.array(node.attr("value", 0.0), dtype.numpy))
    given = node.input(2)
    if given is not None:
        return program.values.read(given)
    return program.constants.put(np.zeros(1, dtype.numpy))

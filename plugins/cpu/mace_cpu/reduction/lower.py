"""The Reduce operators, ArgMax and ArgMin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.shared.checks import NUMBERS, all_concrete, dtype_in
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.nodes import attribute_or_input, fixed, need, normal_axis
from mace_cpu.shared.pixels.reduce import emit_blocked_pixels
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.reduction.kernels"
COLUMNS_PER_UNIT = 128

KINDS = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceProd": "prod",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "log_sum",
    "ReduceLogSumExp": "log_sum_exp",
    "ReduceSumSquare": "sum_square",
}
LEAVES_ONE_ALONE = ("sum", "mean", "prod", "max", "min", "log_sum_exp")
"""Reductions that give back the one element of a set of one."""


def _check(view: GraphView, node: Node) -> str | None:
    extremes = node.op_type in ("ReduceMax", "ReduceMin")
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS | {DType.BOOL} if extremes else NUMBERS)
    return reason or fixed(view, node, 1, "which axes to reduce")


@lowers(*KINDS, check=_check)
def lower_reduce(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    rank = len(program.facts.shape(source))
    kind = KINDS[node.op_type]
    given = attribute_or_input(program.facts.view, node, "axes", 1)
    if given:
        axes = sorted({normal_axis(axis, rank) for axis in given})
    elif not node.attr("noop_with_empty_axes", 0):
        axes = list(range(rank))
    elif kind in LEAVES_ONE_ALONE:
        program.values.alias(target, program.values.read(source))
        return
    else:
        axes = []  # each element is reduced alone: squared, or made absolute, or its logarithm taken
    if (
        axes == list(range(2, rank))
        and kind in ("mean", "sum", "max")
        and emit_blocked_pixels(program, source, target, kind)
    ):
        return
    emit_reduction(program, source, target, axes, kind)


def emit_reduction(program: Program, source: Value, target: Value, axes: Sequence[int], kind: str) -> None:
    """Reduce ``axes`` of ``source``; with or without the axes kept as ones, the bytes of the result are the same."""
    shape = program.facts.shape(source)
    groups = _groups(shape, axes)
    dtype = program.facts.dtype(source).label
    results = program.facts.size(target)
    per_result = math.prod(size for size, _, reduced in groups if reduced)
    kept = [(size, stride) for size, stride, reduced in groups if not reduced]
    reduced = [(size, stride) for size, stride, reduced in groups if reduced]
    if groups[-1][2]:
        kernel, inner, units = "reduce_rows", reduced.pop()[0], results
    else:
        kernel, inner = "reduce_columns", kept.pop()[0]
        units = math.prod(size for size, _ in kept) * -(-inner // COLUMNS_PER_UNIT)
    program.steps.emit(
        numba_source(KERNELS, kernel, dtype=dtype, kind=kind),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            "inner": inner,
            "count": per_result,
            **_axis_words("kept", kept),
            **_axis_words("reduced", reduced),
        },
        extent=0 if results == 0 else units,
        work=max(program.facts.size(source), results),
    )


def _groups(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, int, bool]]:
    """(size, stride, reduced) of the axes, neighbors of one kind joined; never empty."""
    strides = strides_of(shape)
    groups: list[tuple[int, int, bool]] = []
    for axis, size in enumerate(shape):
        reduced = axis in axes
        if is_same(size, 1):
            continue
        if groups and groups[-1][2] == reduced:
            groups[-1] = (groups[-1][0] * size, strides[axis], reduced)
        else:
            groups.append((size, strides[axis], reduced))
    return groups or [(1, 1, True)]


def _axis_words(kind: str, pairs: Sequence[tuple[int, int]]) -> dict[str, int | list[int]]:
    """Words of the axes, "kept" or "reduced", from (size, stride) of each."""
    return {
        f"{kind}_rank": len(pairs),
        f"{kind}_sizes": [size for size, _ in pairs],
        f"{kind}_strides": [stride for _, stride in pairs],
    }


# --- positions --------------------------------------------------------------------------------------------------------


def _check_position(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS)
    if reason is None:
        shape = view.shape(need(node.input(0)))
        results: int = math.prod(view.shape(need(node.output(0))))
        if shape and shape[normal_axis(int(node.attr("axis", 0)), len(shape))] == 0 and results:
            return "there is no largest or smallest of no elements"
    return reason


@lowers("ArgMax", "ArgMin", check=_check_position)
def lower_position(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    shape: tuple[int, ...] = program.facts.shape(source) or (1,)
    axis = normal_axis(int(node.attr("axis", 0)), len(shape))
    inner = math.prod(shape[axis + 1 :])
    program.steps.emit(
        numba_source(
            KERNELS,
            "extreme_position",
            dtype=program.facts.dtype(source).label,
            kind="max" if node.op_type == "ArgMax" else "min",
        ),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            "length": shape[axis],
            "inner": inner,
            "last": int(node.attr("select_last_index", 0)),
        },
        extent=math.prod(shape[:axis]) * -(-inner // COLUMNS_PER_UNIT),
        work=program.facts.size(source),
    )


# --- pixels of BLOCKED values -----------------------------------------------------------------------------------------

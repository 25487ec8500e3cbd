"""Softmax, LogSoftmax, Hardmax."""

from __future__ import annotations

import math

from mace_core.graph import Node
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.tensor import DType
from mace_cpu.shared.checks import inputs_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

WORDS = WordLayout.parse("source result length inner")
"""``length`` elements along the axis, from one to the next of them ``inner`` elements."""

REAL = frozenset({DType.FLOAT32, DType.FLOAT64})
EXPONENTIAL_WORK = 12


def split_at_axis(program: Program, node: Node) -> tuple[int, int, int]:
    """(outer, length, inner) of what a node normalizes along: from opset 13 on one axis, before all from it on."""
    shape = program.facts.shape(need(node.inputs[0]))
    if program.facts.view.opset() >= 13:
        axis = normal_axis(node.attr("axis", -1), max(len(shape), 1))
        return math.prod(shape[:axis]), math.prod(shape[axis : axis + 1]), math.prod(shape[axis + 1 :])
    axis = normal_axis(node.attr("axis", 1), len(shape))
    return math.prod(shape[:axis]), math.prod(shape[axis:]), 1


def softmax_kernel(*, dtype: str, logarithm: bool, columns: bool) -> KernelSource:
    """The kernel for one element type (float32, float64)."""
    name = "log_softmax" if logarithm else "softmax"
    symbol = f"{name}_{'columns' if columns else 'rows'}_{dtype}"
    generator = "mace_cpu.normalization.generate_softmax"
    return generated(generator, symbol, dtype, logarithm, columns, words=lambda: WORDS)


@lowers("Softmax", "LogSoftmax", check=inputs_in(REAL))
def softmax(program: Program, node: Node) -> None:
    x, y = need(node.inputs[0]), need(node.outputs[0])
    outer, length, inner = split_at_axis(program, node)
    kernel = softmax_kernel(
        dtype=program.facts.dtype(x).label, logarithm=node.op_type == "LogSoftmax", columns=inner > 1
    )
    program.steps.emit(
        kernel,
        {"source": program.values.read(x), "result": program.values.write(y), "length": length, "inner": inner},
        extent=outer if length * inner else 0,
        work=outer * length * inner * EXPONENTIAL_WORK,
    )


@lowers("Hardmax", check=inputs_in(REAL))
def hardmax(program: Program, node: Node) -> None:
    x, y = need(node.inputs[0]), need(node.outputs[0])
    outer, length, inner = split_at_axis(program, node)
    kernel = numba_source("mace_cpu.normalization.kernels", "hardmax", dtype=program.facts.dtype(x).label)
    program.steps.emit(
        kernel,
        {"source": program.values.read(x), "result": program.values.write(y), "length": length, "inner": inner},
        extent=outer * inner if length else 0,
        work=outer * length * inner,
    )

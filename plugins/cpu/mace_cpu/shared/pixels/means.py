"""The mean over all pixels, from the sums of each row that the step before has added up."""

from __future__ import annotations

import math

from mace_core.graph import Node, Value
from mace_cpu.shared.nodes import attribute_or_input, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.pixels.reduce import global_pool_kernel
from mace_cpu.shared.program.program import Program


def find_mean(program: Program, value: Value) -> Node | None:
    """The node that takes the mean over all pixels of ``value`` (N, C, ...), keeping the axes."""
    for node in program.facts.view.users(value):
        if node.domain or not program.fusion.is_free(node) or node.inputs[0] is not value:
            continue
        if node.op_type == "GlobalAveragePool" or (node.op_type == "ReduceMean" and _means_pixels(program, node)):
            return node
    return None


def _means_pixels(program: Program, node: Node) -> bool:
    rank = len(program.facts.shape(need(node.input(0))))
    axes = attribute_or_input(program.facts.view, node, "axes", 1)
    kept = len(program.facts.shape(need(node.output(0)))) == rank
    return bool(axes) and kept and {normal_axis(axis, rank) for axis in axes or ()} == set(range(2, rank))


def emit_mean(program: Program, value: Value, node: Node, sums: Buf, rows: int) -> None:
    """Compute ``node``, the mean of ``value``, from ``sums``: (N, blocks, rows, block)."""
    program.fusion.claim([node])
    n, c, *spatial = program.facts.shape(value)
    blocks = n * -(-c // program.settings.block)
    with program.steps.on_behalf_of([node]):
        program.steps.emit(
            global_pool_kernel(program.settings.block, "sum"),
            {
                "source": sums,
                "target": program.values.write(need(node.output(0)), Layout.BLOCKED),
                "pixels": rows,
                "divisor": math.prod(spatial),
            },
            extent=blocks,
            work=blocks * rows * program.settings.block / 2,
        )

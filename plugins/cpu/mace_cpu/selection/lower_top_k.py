"""TopK."""

from __future__ import annotations

import math

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_cpu.shared.checks import NUMBERS, all_concrete, dtype_in
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


def _check(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS)


@lowers("TopK", check=_check)
def lower_top_k(program: Program, node: Node) -> None:
    """Sorted whether asked or not."""
    source, values, indices = need(node.input(0)), node.output(0), node.output(1)
    shape = program.facts.shape(source)
    axis = normal_axis(int(node.attr("axis", -1)), len(shape))
    k = program.facts.shape(need(values if values is not None else indices))[axis]
    inner = math.prod(shape[axis + 1 :])
    lines = math.prod(shape[:axis]) * inner
    work = program.facts.size(source) * 4
    chunks = program.steps.chunks(lines, work)
    program.steps.emit(
        numba_source(
            "mace_cpu.selection.kernels_top_k",
            "top_k",
            dtype=program.facts.dtype(source).label,
            order="largest" if node.attr("largest", 1) else "smallest",
        ),
        {
            "source": program.values.read(source),
            "values": 0 if values is None else program.values.write(values),
            "indices": 0 if indices is None else program.values.write(indices),
            "scratch": Buf.scratch(8 * k * chunks),
            "length": shape[axis],
            "inner": inner,
            "k": k,
        },
        extent=lines if k else 0,
        work=work,
        chunks=chunks,
    )

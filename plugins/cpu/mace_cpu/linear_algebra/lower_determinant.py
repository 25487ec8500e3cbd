"""Det."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.linear_algebra.kernels_determinant"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})


def _check(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)


@lowers("Det", check=_check)
def lower_determinant(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    n = program.facts.shape(source)[-1]
    count = program.facts.size(target)
    work = count * n**3
    chunks = program.steps.chunks(count, work)
    program.steps.emit(
        numba_source(KERNELS, "determinant", dtype=program.facts.dtype(source).label),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            "scratch": Buf.scratch(8 * n * n * chunks),
            "n": n,
        },
        extent=count,
        work=work,
        chunks=chunks,
    )

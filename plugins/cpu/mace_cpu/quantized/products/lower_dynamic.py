"""DynamicQuantizeLinear."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import ceiling
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.quantized.products.kernels_dynamic"
PIECE = 4096
"""Elements of a unit of work."""


def _check(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.input(0), FLOAT32)


@lowers("DynamicQuantizeLinear", check=_check)
def lower_dynamic_quantize(program: Program, node: Node) -> None:
    source, size = program.values.read(need(node.input(0))), program.facts.size(need(node.input(0)))
    values = [node.output(index) for index in range(3)]
    target, scale, zero = (
        Buf.scratch(nbytes) if value is None else program.values.write(value)
        for value, nbytes in zip(values, (size, 4, 1), strict=True)
    )
    pieces = ceiling(size, PIECE)
    found = Buf.scratch(8 * pieces)
    program.steps.emit(
        numba_source(KERNELS, "ranges"),
        {"source": source, "target": found, "size": size, "piece": PIECE},
        extent=pieces,
        work=size * 0.25,
    )
    program.steps.emit(
        numba_source(KERNELS, "parameters"),
        {"ranges": found, "scale": scale, "zero": zero, "count": pieces},
        extent=1,
        work=pieces,
    )
    if values[0] is not None:
        program.steps.emit(
            numba_source(KERNELS, "dynamic_bytes"),
            {"source": source, "scale": scale, "zero": zero, "target": target, "size": size, "piece": PIECE},
            extent=pieces,
            work=size * 0.5,
        )

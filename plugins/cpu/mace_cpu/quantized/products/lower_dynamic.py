"""DynamicQuantizeLinear."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_cpu.quantized.products.emit_dynamic import emit_dynamic_bytes
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


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
    emit_dynamic_bytes(program, source, size, None if values[0] is None else target, scale, zero)

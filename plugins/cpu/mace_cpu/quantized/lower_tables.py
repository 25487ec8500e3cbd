"""Table: each byte is replaced by an entry of a table of 256 bytes.  Exact."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.quantized.integer_form import BYTES, INTEGERS
from mace_cpu.quantized.layouts import best_layout
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

UNIT_BYTES = 4096

WORDS = WordLayout.parse("source target table nbytes unit_bytes")


def _check(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.input(0), BYTES) or dtype_in(view, node.output(0), BYTES)


@lowers("Table", check=_check, domain=INTEGERS)
def lower_table(program: Program, node: Node) -> None:
    source, table, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    layout = best_layout(program, [source], target)
    size = program.facts.size(target)
    program.steps.emit(
        table_kernel(),
        {
            "source": program.values.read(source, layout),
            "target": program.values.write(target, layout),
            "table": program.values.read(table),
            "nbytes": size,
            "unit_bytes": UNIT_BYTES,
        },
        extent=-(-size // UNIT_BYTES),
        work=size,
    )


def table_kernel() -> KernelSource:
    """The kernel that looks bytes up."""
    return generated("mace_cpu.quantized.generate_tables", "byte_table", words=lambda: WORDS)

"""Table: each number is replaced by the entry of a table that its bits number.  Exact."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.quantized.integer_form import INTEGERS, NUMBERS
from mace_cpu.quantized.layouts import best_layout
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

UNIT = 4096

WORDS = WordLayout.parse("source target table size unit")


def _check(view: GraphView, node: Node) -> str | None:
    return all_concrete(view, node) or dtype_in(view, node.input(0), NUMBERS) or dtype_in(view, node.output(0), NUMBERS)


@lowers("Table", check=_check, domain=INTEGERS)
def lower_table(program: Program, node: Node) -> None:
    source, table, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    layout = best_layout(program, [source], target)
    size = program.facts.size(target)
    program.steps.emit(
        table_kernel(program.facts.dtype(source).bits, program.facts.dtype(target).bits),
        {
            "source": program.values.read(source, layout),
            "target": program.values.write(target, layout),
            "table": program.values.read(table),
            "size": size,
            "unit": UNIT,
        },
        extent=-(-size // UNIT),
        work=size,
    )


def table_kernel(source_bits: int, result_bits: int) -> KernelSource:
    """The kernel that looks numbers of so many bits up."""
    generator = "mace_cpu.quantized.generate_tables"
    if source_bits == result_bits == 8:
        return generated(generator, "byte_table", words=lambda: WORDS)
    symbol = f"table_{source_bits}_{result_bits}"
    return generated(generator, symbol, source_bits, result_bits, words=lambda: WORDS, function="build_plain")

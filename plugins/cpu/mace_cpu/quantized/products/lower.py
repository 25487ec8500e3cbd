"""Products of the provider's own integer form: as those of the standard, with bounds and biases."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_cpu.quantized.integer_form import INTEGERS
from mace_cpu.quantized.products.bytes import emit_quantized_gemm, emit_quantized_product
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


def _check(view: GraphView, node: Node) -> str | None:
    return "only the provider itself makes such nodes"


@lowers("QLinearMatMul", check=_check, domain=INTEGERS)
def lower_product(program: Program, node: Node) -> None:
    if not emit_quantized_product(program, node):
        raise ValueError(f"node '{node.name}' multiplies what the kernels for bytes do not cover")


@lowers("QGemm", check=_check, domain=INTEGERS)
def lower_gemm(program: Program, node: Node) -> None:
    if not emit_quantized_gemm(program, node):
        raise ValueError(f"node '{node.name}' multiplies what the kernels for bytes do not cover")

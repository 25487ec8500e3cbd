"""Chains of operators of floats that begin with bytes: the first one begins the step."""

from __future__ import annotations

from mace_core.graph import Node
from mace_cpu.quantized.chain_variant import BINARY, SINGLE
from mace_cpu.quantized.chains import emit_chain
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import begins


@begins(*BINARY, *SINGLE)
def begin_chain(program: Program, node: Node) -> bool:
    """Whether ``node`` begins a chain, which is computed then."""
    return emit_chain(program, node)

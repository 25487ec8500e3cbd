"""Evaluates a size program and writes what it computes where a plan needs it, see `mace_core.native.size_writer`."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, helper, i64

WORDS = {
    "write_sizes": "rows count symbols registers targets target_count block",
}


@helper
def evaluate_sizes(rows: Any, count: Any, symbols: Any, registers: Any) -> None:
    """Fill in all registers behind those of the symbols; see `mace_core.symbolic.program`."""
    for i in range(count):
        op = rows[3 * i]
        a = rows[3 * i + 1]
        b = rows[3 * i + 2]
        if op == 0:
            value = b
        elif op == 1:
            value = registers[a] + registers[b]
        elif op == 2:
            value = registers[a] + b
        elif op == 3:
            value = registers[a] * registers[b]
        elif op == 4:
            value = registers[a] * b
        elif op == 7:
            value = min(registers[a], registers[b])
        elif op == 8:
            value = max(registers[a], registers[b])
        else:
            divisor = b if op == 6 else registers[b]
            value = registers[a] // divisor if divisor != 0 else 0
        registers[symbols + i] = value


def write_sizes() -> Kernel:
    """One unit is all of it.  The registers of the symbols are filled in already.

    ``rows`` and the operations are those of `mace_core.symbolic.program`; ``targets`` are pairs: a word of ``block``,
    and the register that it gets.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        registers = i64(args[3])
        evaluate_sizes(i64(args[0]), args[1], args[2], registers)
        targets = i64(args[4])
        block = i64(args[6])
        for i in range(args[5]):
            block[targets[2 * i]] = registers[targets[2 * i + 1]]

    return kernel

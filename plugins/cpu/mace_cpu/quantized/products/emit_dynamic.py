"""Steps that round floats to 8 bits by the range that they have in a run."""

from __future__ import annotations

from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import ceiling
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program

KERNELS = "mace_cpu.quantized.products.kernels_dynamic"
PIECE = 4096
"""Elements of a unit of work."""


def emit_dynamic_bytes(
    program: Program, source: Buf, size: int, target: Buf | None, scale: Buf, zero: Buf, counted: Buf | None = None
) -> None:
    """Emit what DynamicQuantizeLinear does with ``size`` float32 numbers.

    Args:
        target: where the bytes go; None if nobody reads them.
        scale, zero: where the float32 scale and the uint8 zero point go.
        counted: one int64, how many numbers the range is of; None for all.
    """
    pieces = ceiling(size, PIECE)
    found = Buf.scratch(8 * pieces)
    program.steps.emit(
        numba_source(KERNELS, "ranges"),
        {"source": source, "target": found, "size": size, "piece": PIECE, "counted": 0 if counted is None else counted},
        extent=pieces,
        work=size * 0.25,
    )
    program.steps.emit(
        numba_source(KERNELS, "parameters"),
        {"ranges": found, "scale": scale, "zero": zero, "count": pieces},
        extent=1,
        work=pieces,
    )
    if target is not None:
        program.steps.emit(
            numba_source(KERNELS, "dynamic_bytes"),
            {"source": source, "scale": scale, "zero": zero, "target": target, "size": size, "piece": PIECE},
            extent=pieces,
            work=size * 0.5,
        )


def emit_longest(program: Program, lengths: Buf, batch: int, steps: int, width: int) -> Buf:
    """Emit how many numbers, ``width`` of each step, the longest of ``batch`` sequences has: an int64."""
    target = Buf.scratch(8)
    program.steps.emit(
        numba_source(KERNELS, "longest"),
        {"lengths": lengths, "target": target, "batch": batch, "steps": steps, "width": width},
        extent=1,
        work=batch,
    )
    return target

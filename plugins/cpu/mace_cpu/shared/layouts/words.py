"""Memory that holds sizes."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.parts.buffers import Buf, element_bytes
from mace_cpu.shared.parts.steps import Steps


def emit_words(steps: Steps, items: Sequence[int], dtype: DType) -> Buf:
    """A buffer with these integers, which the step holds among its own words."""
    target = Buf.scratch(element_bytes(dtype) * len(items))
    steps.emit(
        numba_source("mace_cpu.shared.layouts.kernels_words", "write_words", dtype=dtype.label),
        {"target": target, "count": len(items), "values": list(items)},
        extent=1,
        name="Sizes",
    )
    return target

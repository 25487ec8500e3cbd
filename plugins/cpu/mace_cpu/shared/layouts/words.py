"""Memory that holds sizes."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.parts.buffers import Buf, element_bytes
from mace_cpu.shared.parts.steps import Steps
from mace_cpu.shared.parts.views import Offsets


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


def emit_offsets(steps: Steps, offsets: Offsets) -> Buf:
    """A buffer with the offsets as int64, which the step computes."""
    runs = offsets.runs()
    target = Buf.scratch(8 * offsets.count)
    steps.emit(
        numba_source("mace_cpu.shared.layouts.kernels_words", "write_offsets"),
        {
            "target": target,
            "start": offsets.start,
            "rank": len(runs),
            "sizes": [size for size, _ in runs],
            "strides": [stride for _, stride in runs],
        },
        extent=1,
        name="Sizes",
    )
    return target


def emit_number(steps: Steps, number: float, count: int) -> Buf:
    """A buffer with ``count`` times the same float32."""
    target = Buf.scratch(4 * count)
    steps.emit(
        numba_source("mace_cpu.shared.layouts.kernels_words", "write_number"),
        {"target": target, "number": float(number), "count": count},
        extent=1,
        name="Sizes",
    )
    return target

"""Elements of less than a byte: as ONNX stores them at the borders of a subgraph, a byte each inside.

So operators that only move elements treat them as any others.
"""

from __future__ import annotations

from mace_core.graph import Value
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.parts.buffers import Buf, Place
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.parts.steps import Steps

KERNELS = "mace_cpu.shared.layouts.kernels_packed"
GROUPS_PER_UNIT = 1024


def emit_unpacked(facts: Facts, steps: Steps, value: Value, source: Buf, target: Buf) -> None:
    """Fill ``target`` with ``value``, which lies packed in ``source``, a byte per element."""
    extent = _units(facts, value)
    dtype = facts.dtype(value)
    steps.emit(
        numba_source(KERNELS, "unpack", bits=str(dtype.bits), signed=str(int(dtype.is_integer and _is_signed(dtype)))),
        {
            "source": source,
            "target": target,
            "elements": facts.size(value),
            "unit_groups": GROUPS_PER_UNIT,
        },
        extent=extent,
        work=facts.size(value),
        name="Unpack",
    )


def emit_packed(facts: Facts, steps: Steps, value: Value, source: Buf, output: int) -> None:
    """Store ``value``, a byte per element in ``source``, as the output of this index."""
    dtype = facts.dtype(value)
    steps.emit(
        numba_source(KERNELS, "pack", bits=str(dtype.bits)),
        {
            "source": source,
            "target": Buf(Place.OUTPUT, dtype.nbytes(facts.size(value)), output),
            "elements": facts.size(value),
            "unit_groups": GROUPS_PER_UNIT,
        },
        extent=_units(facts, value),
        work=facts.size(value),
        name="Pack",
    )


def _is_signed(dtype: DType) -> bool:
    return dtype.name.startswith("INT")


def _units(facts: Facts, value: Value) -> int:
    """Units of whole groups: a group is the elements that begin and end with a byte."""
    per_group = {2: 4, 4: 2, 6: 4}[facts.dtype(value).bits]
    return -(-facts.size(value) // (per_group * GROUPS_PER_UNIT))

"""Faults made on purpose, to see that guard pages find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from mace_cpu.memory_checks.guarded import guarded_buffers
from mace_cpu.shared.layouts.blocks import emit_copy
from mace_cpu.shared.parts.buffers import At
from mace_cpu.shared.parts.steps import Steps
from mace_cpu.shared.program import values

from mace_core.testing.guard_pages import Side


@contextmanager
def one_byte_outside(side: Side) -> Iterator[None]:
    """Results that are copied to their place are copied with one byte behind them, or before them."""

    def copy(steps: Steps, source: Any, target: Any, nbytes: int) -> None:
        if side is Side.END:
            emit_copy(steps, source, target, nbytes + 1)
        else:
            emit_copy(steps, At(source, -1), At(target, -1), nbytes)

    with guarded_buffers(side), mock.patch.object(values, "emit_copy", copy):
        yield

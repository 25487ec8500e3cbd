"""The peak of the machine: measured with the loop of multiply-adds that was asked for."""

from __future__ import annotations

import pytest

from mace_core.native.compiler import compile_assembly
from mace_core.native.peak import measure_peak, peak_loop
from mace_core.native.pool import ThreadPool
from mace_core.native.target import foreign_target, host_target


@pytest.mark.parametrize("features", ["baseline", "native"])
def test_every_instruction_set_has_a_peak(features: str) -> None:
    assert measure_peak(1, 0.05, target=host_target(features)) > 1e6


def test_several_threads_are_measured_in_one_region() -> None:
    with ThreadPool(2) as pool:
        assert measure_peak(2, 0.05, pool=pool) > 1e6
        assert pool.started_workers == 1


@pytest.mark.parametrize(("architecture", "instruction"), [("x86_64", "mulps"), ("aarch64", "fmla")])
def test_no_multiply_add_of_the_loop_is_optimized_away(architecture: str, instruction: str) -> None:
    target = foreign_target(architecture)
    assembly = compile_assembly(peak_loop(target), "mace_fma_peak", target)
    assert sum(instruction in line for line in assembly.splitlines()) >= 48

"""docs/contrib-ops.md says of every operator of com.microsoft where it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mace_testing.contrib_page import LEFT, WRITERS, contrib_page
from mace_testing.fuzzing.case import CONTRIB
from mace_testing.fuzzing.registry import covered

from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.registry import operators_with_body

PAGE = Path(__file__).parents[2] / "docs" / "contrib-ops.md"
LISTED = {name for _, names in WRITERS for name in names}


def test_the_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == contrib_page()


def test_every_operator_with_a_body_is_listed_and_fuzzed() -> None:
    assert set(operators_with_body(DOMAIN)) == LISTED
    assert {(CONTRIB, name) for name in LISTED} <= covered()


def test_every_operator_that_onnxruntime_runs_on_cpus_is_listed_or_left_with_a_reason() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: it knows its kernels")
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kernels = {k.op_name for k in state.get_all_opkernel_def() if k.domain == CONTRIB and "CPU" in k.provider}
    left = {name for _, names in LEFT for name in names}
    assert not left & LISTED
    assert kernels <= left | LISTED

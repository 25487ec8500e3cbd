"""Hostile .tflite files: each runs or is refused in one sentence; the process lives on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.lite import lite_cases
from test_hostile_files import check

PARTS = 29  # shares no factor with the numbers of models and of kinds of change: each part has of all
COUNT = 600


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.full] if part else []) for part in range(PARTS)]
)
def test_every_hostile_tflite_file_loads_or_is_refused_in_one_sentence(tmp_path: Path, part: int) -> None:
    """In parts, each with a process of its own, so that several can be at work."""
    cases = list(lite_cases(0, COUNT))
    assert len(cases) >= COUNT
    counts = check(cases[part::PARTS], tmp_path)
    assert counts["refused when loaded"] > 200 / PARTS
    assert counts["ran"] > 30 / PARTS

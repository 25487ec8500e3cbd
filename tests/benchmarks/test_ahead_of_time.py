"""``python -m benchmarks.ahead_of_time`` builds, times and prints both tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.ahead_of_time.__main__ import MODELS, _built, _timed, main

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
]


def test_it_prints_sizes_for_each_target_and_times_beside_a_session(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "pp_ocr_cls", "--target", "host", "--target", "riscv64", "--runs", "2"]) == 0
    printed = capsys.readouterr().out
    for part in ("sizes in KiB", "riscv64", "1 thread(s)", "pp_ocr_cls"):
        assert part in printed


def test_the_program_computes_and_tells_every_run(tmp_path: Path) -> None:
    path = MODELS["pp_ocr_cls"].write(tmp_path)
    library = _built(path, "pp_ocr_cls", tmp_path, "host")
    session, program, started = _timed(path, MODELS["pp_ocr_cls"], library, 2, 3)
    for each in (session.wall, session.used, program.wall, program.used, started.made, started.first, started.process):
        assert each > 0
    assert started.process > started.first

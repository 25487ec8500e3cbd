"""The README's first command does what it says: every line of the page is read, on the CPU provider alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")

EXAMPLE = Path(__file__).parents[2] / "examples" / "ocr"


def test_the_demo_reads_the_page(tmp_path: Path) -> None:
    lines = len((EXAMPLE / "page.txt").read_text(encoding="utf-8").splitlines())
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE / "read_text.py"), "--expect", str(EXAMPLE / "page.txt")],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{lines} of {lines} expected lines read right, 0 nodes fell back" in ran.stdout
    assert (tmp_path / "ocr-result.png").stat().st_size > 0

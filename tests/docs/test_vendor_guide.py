"""The files printed in docs/vendors.md make a provider that passes the conformance kit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "vendors.md"
FILE_BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)


@pytest.mark.parametrize("tier", ["not full", pytest.param("full", marks=pytest.mark.full)])
def test_the_guide_builds_a_provider_that_passes_the_kit(tmp_path: Path, tier: str) -> None:
    files = dict(FILE_BLOCK.findall(GUIDE.read_text(encoding="utf-8")))
    assert {"pyproject.toml", "mace_tiny/provider.py", "mace_tiny/backend.py"} <= set(files)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    site = tmp_path / "site"
    build = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*build, str(tmp_path)], check=True, capture_output=True, text=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "MACE_CACHE_DIR": str(tmp_path / "cache"),
        "MACE_PLUGINS": "tiny",  # and the core's reference behind it: no kernels are compiled for what it declines
    }
    options = ["-q", "-p", "no:cacheprovider", "-m", tier, "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, "tests"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert re.search(r"\d{2,} passed", ran.stdout), ran.stdout[-500:]

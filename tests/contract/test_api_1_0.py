"""A provider made for api 1.0 runs on this core: its wheel is built from the pinned source and put to the kit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PINNED = Path(__file__).parent / "vendor_1_0"

CONFORMANCE = """
from mace_core.testing import Declaration, ProviderConformance


class TestPinned(ProviderConformance):
    declaration = Declaration(
        provider="pinned",
        device="sim0",
        operators=dict.fromkeys(("Add", "Sub", "Mul", "Relu", "Sigmoid", "MatMul"), ["float32"]),
        declines={name: "the second operand is not constant" for name in ("MatMul batched", "MatMul broadcast batch")},
        serializes=True,
        streams=True,
    )
"""


@pytest.mark.parametrize("tier", ["not full", pytest.param("full", marks=pytest.mark.full)])
def test_the_pinned_vendor_wheel_passes_the_kit(tmp_path: Path, tier: str) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(PINNED)]
    built = subprocess.run(build, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = wheels.iterdir()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    (tmp_path / "test_pinned.py").write_text(CONFORMANCE, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "MACE_CACHE_DIR": str(tmp_path / "cache"),
        "MACE_PLUGINS": "pinned",  # and the core's reference behind it: no kernels are compiled for what it declines
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        tier,
        "--rootdir",
        str(tmp_path),
        "test_pinned.py",
    ]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert " passed" in ran.stdout

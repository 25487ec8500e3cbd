"""The diff that docs/cpu-provider.md shows: it applies to one folder, and the kernel that it adds is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mace_cpu
import pytest

HERE = Path(__file__).parent
DIFF = HERE / "kernel_variant.diff"

RUN = """
import mace_cpu, numpy as np
from harness import check_node
x = np.random.default_rng(1).standard_normal((5, 2, 2)).astype(np.float32)
expected = np.linalg.det(x.astype(np.float64)).astype(np.float32)
from mace_cpu.shared.parts.steps import Steps
used, emit = [], Steps.emit
def noting(self, kernel, arguments, **options):
    used.append(kernel.symbol)
    emit(self, kernel, arguments, **options)
Steps.emit = noting
check_node("Det", [x], expected=[expected])
print(mace_cpu.__file__, *used)
"""


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the patch command")
def test_a_kernel_variant_touches_one_folder(tmp_path: Path) -> None:
    shutil.copytree(Path(mace_cpu.__file__).parent, tmp_path / "mace_cpu", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["patch", "-p0", "--quiet", "-i", DIFF], cwd=tmp_path, check=True)
    touched = {
        line.split()[1].rpartition("/")[0] for line in DIFF.read_text("utf-8").splitlines() if line[:4] == "+++ "
    }
    assert touched == {"mace_cpu/linear_algebra"}
    path = os.pathsep.join((str(tmp_path), str(HERE)))
    environment = {**os.environ, "PYTHONPATH": path, "MACE_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, *used = done.stdout.split()
    assert where.startswith(str(tmp_path))
    assert used and all("determinant_of_two" in symbol for symbol in used)

"""`import mace_core` is cheap: no parser, no compiler, no plugin machinery."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("onnx", "numba", "llvmlite", "pyopencl", "stevedore", "pluggy", "typer", "rich", "pydantic", "google.protobuf")


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import mace_core",
        "import mace_core; mace_core.graph, mace_core.tensor, mace_core.provider, mace_core.errors",
        "from mace_core import Session",
    ],
)
def test_importing_the_core_imports_nothing_heavy(code: str) -> None:
    assert loaded_by(code).isdisjoint(HEAVY)


def test_listing_plugins_imports_no_plugin() -> None:
    modules = loaded_by("from mace_core.provider import default_registry; default_registry().names()")
    assert not [name for name in modules if name.startswith("mace_") and not name.startswith("mace_core")]
    assert modules.isdisjoint({"onnx", "numba", "llvmlite"})


def test_importing_the_core_costs_at_most_20_ms_over_numpy() -> None:
    script = "import numpy, time\nstart = time.process_time()\nimport mace_core\nprint(time.process_time() - start)"
    times = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.020

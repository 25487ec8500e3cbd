"""Importing a large model holds its weights at most once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_models import info, model

WEIGHTS, WEIGHT_MB = 25, 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_SCRIPT = """
import re, sys, time
import mace_core.frontend.onnx.importer
from mace_core.frontend import load_model

def megabytes(key):
    with open("/proc/self/status") as file:
        return int(re.search(key + r":\\s+(\\d+)", file.read())[1]) / 1024

path, mode = sys.argv[1:]
anonymous, peak = megabytes("RssAnon"), megabytes("VmHWM")
graph = load_model(open(path, "rb").read() if mode == "bytes" else path, mmap=mode == "mmap")
total = sum(v.constant.numpy().sum() for v in graph.initializers.values())
print(megabytes("RssAnon") - anonymous, megabytes("VmHWM") - peak, total)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "m.onnx"
    weights = [
        numpy_helper.from_array(np.full((WEIGHT_MB << 18,), i, np.float32), f"w{i}") for i in range(WEIGHTS)
    ]  # 1 MB is 2**18 float32
    nodes = [helper.make_node("Identity", [f"w{i}"], [f"y{i}"]) for i in range(WEIGHTS)]
    made = model(nodes, [], [info(f"y{i}", None) for i in range(WEIGHTS)], weights)
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize(("mode", "anonymous_mb"), [("mmap", 0), ("copy", 100), ("bytes", 100)])
def test_weights_are_resident_once(large: Path, mode: str, anonymous_mb: int) -> None:
    """100 MB of weights, all of them read: as pages of the file when mapped, as one copy otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_SCRIPT), str(large), mode], check=True, capture_output=True, text=True
    )
    anonymous, peak, total = map(float, done.stdout.split())
    assert total == sum(range(WEIGHTS)) * (WEIGHT_MB << 18)
    assert anonymous < anonymous_mb + 15
    assert peak < 100 + 20

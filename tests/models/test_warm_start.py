"""The second process: what it does not import, and what it does with damaged cache files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mace_core.testing.models import PP_OCR_CLS, find_packaged_model

SCRIPT = """
import json, sys
import numpy as np
import mace_core as mace
with mace.Session(sys.argv[1], devices=["cpu"], strict=True) as session:
    (output,) = session.run({"x": np.load(sys.argv[2])}).values()
heavy = [name for name in ("onnx", "numba", "ml_dtypes", "stevedore", "pluggy", "typer") if name in sys.modules]
print(json.dumps({"heavy": heavy, "output": output.tolist()}))
"""


def runner(cache: Path, feed: Path):
    """Runs the orientation model in a fresh process over one cache folder."""

    def run() -> dict[str, list]:
        command = [sys.executable, "-c", SCRIPT, str(find_packaged_model(*PP_OCR_CLS)), str(feed)]
        environment = {**os.environ, "MACE_CACHE_DIR": str(cache)}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run.cache = cache
    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory, picture):
    """What runs the model, whose cache is filled; and what the cold start told."""
    folder = tmp_path_factory.mktemp("first")
    np.save(folder / "x.npy", picture(48, 192))
    run = runner(folder / "cache", folder / "x.npy")
    return run, run()


@pytest.fixture
def run_process(first, tmp_path: Path):
    """Runs the model over a copy of the cache that the cold start filled."""
    run, _ = first
    shutil.copytree(run.cache, tmp_path / "cache")
    return runner(tmp_path / "cache", run.cache.parent / "x.npy")


def entries(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(cache.rglob("*")) if path.is_file() and path.stat().st_size}


def test_a_second_process_imports_neither_onnx_nor_numba(first, run_process) -> None:
    _, cold = first
    warm = run_process()
    assert "onnx" in cold["heavy"], "the cold start is expected to parse with onnx"
    assert not {"onnx", "numba"} & set(warm["heavy"])
    assert warm["output"] == cold["output"]


@pytest.mark.parametrize(
    "damage",
    [
        "bit flipped",
        "another version",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("truncated", "emptied")),
    ],
)
def test_damaged_cache_files_are_rebuilt(first, run_process, damage: str) -> None:
    _, right = first
    whole = entries(run_process.cache)
    assert len(whole) > 5
    for number, (path, content) in enumerate(whole.items()):
        spoilt = bytearray(content)
        if damage == "truncated":
            del spoilt[len(spoilt) * 2 // 3 :]
        elif damage == "bit flipped":
            spoilt[(number * 7919) % len(spoilt)] ^= 0x10
        elif damage == "another version":
            spoilt[:16] = bytes(16)
        else:
            spoilt.clear()
        path.write_bytes(spoilt)
    again = run_process()
    assert again["output"] == right["output"]
    spoilt_then = {path for path, content in entries(run_process.cache).items() if whole.get(path) != content}
    assert not spoilt_then & set(whole), "some damaged entries were left in place"
    assert not {"onnx", "numba"} & set(run_process()["heavy"]), "the rebuilt cache serves a warm start"

"""The command on files that are not what they seem."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from robust_models import small


def mace(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mace_core.cli.main", *arguments]
    environment = {**os.environ, "MACE_PLUGINS": "reference", "MACE_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=240, env=environment)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.count("mace: error: ") == 1
    assert "Traceback" not in done.stderr and "defect" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(small())
    np.save(tmp_path / "a.npy", np.ones(2, np.float32))
    return tmp_path


def test_an_array_file_that_declares_more_than_it_holds(folder: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
    (folder / "lie.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(mace(folder, "run", "m.onnx", "-i", "x=lie.npy", "-i", "z=a.npy"), 2, "lie.npy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.npy")
    os.mkfifo(folder / "pipe.onnx")
    refused(mace(folder, "run", "m.onnx", "-i", "x=pipe.npy", "-i", "z=a.npy"), 2, "pipe.npy")
    refused(mace(folder, "run", "pipe.onnx", "--random"), 1, "pipe.onnx")


def test_an_input_given_twice(folder: Path) -> None:
    refused(mace(folder, "run", "m.onnx", "-i", "x=a.npy", "-i", "x=a.npy", "--random"), 2, "'x' is given twice")


def test_an_output_folder_that_can_not_be_is_told_before_the_run(folder: Path) -> None:
    refused(mace(folder, "run", "m.onnx", "--random", "-o", "m.onnx/results"), 2, "--output-dir", "m.onnx")


def test_names_in_any_script_and_links_work(folder: Path) -> None:
    odd = folder / "модель 🎉"
    odd.mkdir()
    (odd / "m ö.onnx").write_bytes(small())
    (folder / "link.onnx").symlink_to(odd / "m ö.onnx")
    for path in (str(odd / "m ö.onnx"), "link.onnx"):
        done = mace(folder, "run", path, "--random", "-o", str(odd / "results"))
        assert done.returncode == 0, done.stderr
    assert (odd / "results" / "a.npy").exists()
    (folder / "dangling.onnx").symlink_to("nowhere")
    refused(mace(folder, "run", "dangling.onnx", "--random"), 2, "dangling.onnx")

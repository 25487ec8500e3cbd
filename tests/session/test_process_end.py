"""The end of a process in which daemon threads still work with sessions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")

PROGRAM = """
import atexit, sys, threading


def last():
    # registered before the core is imported, so called after its own hook: daemon threads are out of their sessions
    from mace_core.host import process_end

    own = threading.get_ident()
    print("inside", sum(thread != own for thread in process_end._inside))
    session.close()
    print("closed")


atexit.register(last)

import numpy as np
from onnx import TensorProto, helper

import mace_core as mace

info = helper.make_tensor_value_info
nodes = [helper.make_node("MatMul", ["x", "x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
graph = helper.make_graph(nodes, "g", [info("x", 1, [64, 64])], [info("y", 1, [64, 64])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
device = sys.argv[1]
feeds = {"x": np.ones((64, 64), np.float32)}
session = mace.Session(model, devices=[device])
started = threading.Barrier(4)


def run_on():
    started.wait()
    while True:
        session.run(feeds)


def open_on():
    started.wait()
    while True:
        with mace.Session(model, devices=[device]) as own:
            own.run(feeds)


for work in (run_on, run_on, open_on):
    threading.Thread(target=work, daemon=True).start()
started.wait()
for _ in range(20):
    session.run(feeds)
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("opencl:0", id="opencl")])
def test_daemon_threads_leave_their_sessions_before_the_process_ends(device: str, tmp_path: Path) -> None:
    if device != "cpu":
        pytest.importorskip("mace_opencl", reason="the OpenCL provider is not installed: pip install ./plugins/opencl")
        from mace_opencl.provider import OpenClProvider

        if not OpenClProvider().probe().devices:
            pytest.skip("no OpenCL device on this machine")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, str(program), device], capture_output=True, text=True, timeout=240, check=False
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "inside 0\nclosed\n", "")

"""Ctrl-C ends a run in the main thread within a second, however deep in a single step it is; so does the cancel flag
between the turns of loops and the nodes of the reference provider."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.errors import CancelledError
from mace_core.provider.execution import CancelFlag

MOST_CPU_SECONDS = 2.0
"""Between the signal and the exception, by two threads; uninterrupted, each model computes for hours."""


@pytest.fixture
def own_cache() -> Iterator[None]:
    """None of its own: kernels that are built already serve."""
    yield None


def einsum() -> onnx.ModelProto:
    """Each element of the result is one unit of work, of 10**11 products."""
    node = helper.make_node("Einsum", ["x", "x", "x"], ["y"], equation="abcd,efgh,ijkl->a")
    return _model([node], [12, 12, 12, 12])


def convolution() -> onnx.ModelProto:
    """A step of many units, for two threads."""
    taps = numpy_helper.from_array(np.zeros((64, 16, 101, 101), np.float32), "w")
    return _model([helper.make_node("Conv", ["x", "w"], ["y"])], [16, 16, 512, 512], [taps])


def loop() -> onnx.ModelProto:
    """A loop of many short turns, run by the core."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Cos", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [4]),
        ],
    )
    turns = numpy_helper.from_array(np.array(10**9), "turns")
    return _model([helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)], [4], [turns])


def _model(
    nodes: list[onnx.NodeProto], shape: list[int], constants: list[onnx.TensorProto] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "long",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        constants or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9)


MODELS = {"einsum": einsum, "convolution": convolution, "loop": loop}

INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import mace_core as mace

session = mace.Session(sys.argv[1], devices=["cpu"], options={"cpu": {"threads": 2}})
feeds = {"x": np.zeros(session.inputs[0].shape, np.float32)}
for _ in range(2):
    sent = []
    def interrupt():
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)
    try:  # the timer may be through before the run begins
        threading.Timer(0.3, interrupt).start()
        session.run(feeds)
    except KeyboardInterrupt:
        print(time.process_time() - sent[0], flush=True)
print("again", flush=True)
session.run(feeds)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("name", MODELS)
def test_ctrl_c_ends_a_long_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "long.onnx"
    onnx.save(MODELS[name](), path)
    running = subprocess.Popen(
        [sys.executable, "-I", "-c", INTERRUPTED, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            if line.strip() == "again":
                break
            lines.append(line.strip())
        assert len(lines) == 2, running.communicate()[1]
        assert max(float(seconds) for seconds in lines) < MOST_CPU_SECONDS
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert errors.strip().endswith("KeyboardInterrupt"), errors
    assert "ignored" not in errors, errors


def test_the_cancel_flag_ends_a_loop_of_short_turns() -> None:
    flag = CancelFlag()
    with mace.Session(loop(), devices=["cpu"], cache=False) as session:
        threading.Timer(0.2, flag.set).start()
        with pytest.raises(CancelledError):
            session.run({"x": np.ones(4, np.float32)}, cancel=flag)


def test_the_cancel_flag_ends_a_run_of_the_reference_between_nodes() -> None:
    """Within a node numpy computes, which nothing interrupts; all nodes take seconds on the fastest processor."""
    names = ["x", *(f"t{index}" for index in range(3000)), "y"]
    nodes = [helper.make_node("MatMul", [a, a], [b]) for a, b in itertools.pairwise(names)]
    flag = CancelFlag()
    with mace.Session(_model(nodes, [600, 600]), devices=["reference"], cache=False) as session:
        threading.Timer(0.05, flag.set).start()
        with pytest.raises(CancelledError):
            session.run({"x": np.zeros((600, 600), np.float32)}, cancel=flag)

"""State that a model keeps from run to run, in C and C++: what it begins with, and what feeds it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, link, skip_without

from mace_core.ahead_of_time import build_library


def sums(entry: dict[str, object]) -> onnx.ModelProto:
    """``sum/next = sum + x``, ``twice = 2 * sum/next``, x[1, 2]; ``entry`` is what the metadata say of ``sum``."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "sum", "twice", "sum/next")]
    nodes = [
        helper.make_node("Add", ["sum", "x"], ["sum/next"]),
        helper.make_node("Mul", ["sum/next", "two"], ["twice"]),
    ]
    two = [numpy_helper.from_array(np.array(2, np.float32), "two")]
    model = helper.make_model(
        helper.make_graph(nodes, "sums", ends[:2], ends[2:], two),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    helper.set_model_props(model, {"mace.state": json.dumps({"sum": {"output": "sum/next", **entry}})})
    return model


@pytest.mark.parametrize(
    ("entry", "start", "runs"),
    [
        pytest.param({}, "0 0", "2 6 12", marks=pytest.mark.full),
        ({"fill": 7.0}, "7 7", "16 20 26"),
        pytest.param({"content": "AACAPwAAAEA=", "shape": [1, 2]}, "1 2", "4 8 14", marks=pytest.mark.full),
    ],
    ids=["zeros", "fill", "content"],
)
@pytest.mark.parametrize(
    "target", ["host", *(pytest.param(n, marks=pytest.mark.full) for n in ("arm64-v8a", "armeabi-v7a", "riscv64"))]
)
def test_a_stream_begins_with_the_state_of_the_model(
    target: str, entry: dict[str, object], start: str, runs: str, tmp_path: Path
) -> None:
    skip_without(target)
    library = build_library(sums(entry), tmp_path, target=target, name="sums")
    program = link(library, "sums", source="state.c")
    ran = subprocess.run([*TOOLCHAINS[target].emulator, str(program)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"from {start}: {runs}"] * 2
    header = (tmp_path / "include" / "sums.h").read_text(encoding="utf-8")
    assert "state: inputs[1] is fed what outputs[1] was in the run before" in header


def test_the_wrapper_keeps_state_until_the_program_does(tmp_path: Path) -> None:
    skip_without("host")
    library = build_library(sums({"fill": 7.0}), tmp_path, target="host", name="sums")
    program = tmp_path / "state"
    words = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{tmp_path / 'include'}"]
    words += ["-DMODEL=sums_model", "-include", str(tmp_path / "include" / "sums.h")]
    words += [str(Path(__file__).parent / "state.cpp"), str(tmp_path / "lib/host/libsums.a"), "-lm", "-lpthread"]
    subprocess.run([*words, "-o", str(program)], check=True)
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert library.models[0].states == ((1, 1, b"\x00\x00\xe0\x40"),)
    assert ran.stdout.splitlines() == [
        " 16(8) 20(10) 26(13)",
        " 16(8) 20(10) 26(13)",
        "13",
        " 202(101) 206(103) 212(106)",
        " 2002(1001) 2004(1002) 2006(1003)",
        "12 5",
    ]

"""Qualcomm's Saver library prints the structures it is handed: the fields arrive where they belong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def replay(library_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The C program that Saver wrote for `saver_client`."""
    if not (library_folder / "libQnnSaver.so").is_file():
        pytest.skip(f"libQnnSaver.so is not in {library_folder}")
    folder = tmp_path_factory.mktemp("saver")
    client = Path(__file__).with_name("saver_client.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, str(client), str(library_folder)],
        cwd=folder,
        env=environment,
        check=True,
        timeout=240,
        capture_output=True,
        text=True,
    )
    return (folder / "saver_output" / "saver_output.c").read_text() + done.stdout


def declaration(replay: str, pattern: str) -> str:
    """The one line that declares something."""
    found = re.findall(rf"^.*{pattern}.*$", replay, re.MULTILINE)
    assert found, f"Saver wrote nothing about {pattern}"
    return str(found[0])


def test_every_call_was_understood_in_order(replay: str) -> None:
    calls = re.findall(r"interface\.(\w+)\(", replay)
    steps = ["backendCreate", "deviceCreate", "contextCreate", "graphCreate", "tensorCreateGraphTensor"]
    steps += ["graphAddNode", "graphFinalize", "contextFree", "deviceFree", "backendFree"]
    positions = [calls.index(step) for step in steps]
    assert positions == sorted(positions)
    assert calls.count("graphAddNode") == 3


@pytest.mark.parametrize(
    ("name", "kind", "data_type", "rank"),
    [("x", 0, 0x408, 4), ("w", 4, 0x308, 4), ("y", 3, 0x408, 4), ("z", 1, 0x408, 4)],
)
def test_tensors_arrive_whole(replay: str, name: str, kind: int, data_type: int, rank: int) -> None:
    line = declaration(replay, rf'Qnn_TensorV1_t \w+ = \{{0, "{name}"')
    fields = rf'"{name}", \(Qnn_TensorType_t\){kind}, 0, \(Qnn_DataType_t\){data_type}, \w+, {rank}, '
    assert re.search(fields, line), line


def test_dimensions_arrive(replay: str) -> None:
    assert "{1, 6, 5, 3}" in replay
    assert "{2, 2, 3, 2}" in replay


def test_scale_and_zero_point_arrive(replay: str) -> None:
    """QNN adds its offset where ONNX subtracts the zero point."""
    assert re.search(r"\.scaleOffsetEncoding = \{0\.5\d*, -7\}", replay)
    assert re.search(r"\.scaleOffsetEncoding = \{0\.25\d*, -128\}", replay)


def test_encodings_per_channel_arrive(replay: str) -> None:
    assert re.search(r"Qnn_AxisScaleOffset_t \w+ = \{3, 2, ", replay)
    assert re.search(r"\{\{0\.125\d*, -?0\}, \{0\.0625\d*, -3\}\}", replay)


def test_constants_arrive_with_their_size(replay: str) -> None:
    assert re.search(r"Qnn_ClientBuffer_t \w+ = \{\(void\*\)\w+, 24\}", replay)


def test_scalar_and_tensor_parameters_arrive(replay: str) -> None:
    values = re.findall(r"Qnn_Scalar_t \w+ = \{\(Qnn_DataType_t\)562, \.floatValue = ([-\d.]+)\}", replay)
    names = re.findall(r'\(Qnn_ParamType_t\)0, "(\w+)", \.scalarParam', replay)
    assert dict(zip(names, map(float, values), strict=True)) == {"min_value": -1.5, "max_value": 6.0}
    assert re.search(r'Qnn_TensorV1_t \w+ = \{\d+, "convolution/pad_amount", \(Qnn_TensorType_t\)4, 0, '
                     r"\(Qnn_DataType_t\)306, \w+, 2, ", replay)  # fmt: skip


def test_nodes_arrive_with_their_operands(replay: str) -> None:
    assert re.search(r'Qnn_OpConfigV1_t \w+ = \{"convolution", "qti\.aisw", "Conv2d", 2, \w+, 2, \w+, 1, \w+\}', replay)
    assert re.search(r'Qnn_OpConfigV1_t \w+ = \{"clip", "qti\.aisw", "ReluMinMax", 2, \w+, 1, \w+, 1, \w+\}', replay)


def test_a_tensor_in_registered_memory_is_recognized(replay: str) -> None:
    """Saver records no such tensors, and says that this is one."""
    assert "MemHandle is not supported" in replay


def test_settings_of_a_graph_and_the_level_of_a_profile_arrive(replay: str) -> None:
    assert re.search(r'graphCreate\(context_0, "tuned", (?!NULL)\w+,', replay)
    assert "profileCreate(backend_0, (QnnProfile_Level_t)2, " in replay
    assert "profileGetEvents(profile_0, " in replay
    assert "profileFree(profile_0)" in replay

"""`mace monitor` sees the sessions of other processes of this user, and only of those that live."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mace_core.cli.app import run_command_line
from mace_core.monitoring import board, published

CHILD = """
import time
import numpy as np
from onnx import TensorProto, helper
from mace_core import Session

infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in "xy"]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "products", infos[:1], infos[1:])
model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
with Session(model, devices=["cpu"]) as session:
    print("ready", flush=True)
    while True:
        session.run({"x": np.eye(8, dtype=np.float32)})
        time.sleep(0.01)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "monitor"


@pytest.fixture
def child(folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "MACE_MONITOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def monitor(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run_command_line(["monitor", "--once", *arguments]) == 0
    return capsys.readouterr().out


def test_a_process_is_seen_while_it_lives_and_not_after(
    child: subprocess.Popen[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = json.loads(monitor(capsys, "--json", "--interval", "2.5"))
    (process,) = found["processes"]
    (session,) = process["sessions"]
    assert (process["pid"], session["model"], session["devices"]) == (child.pid, "products", ["cpu:0"])
    assert session["runs"] > 0 and session["runs_per_second"] > 0 and 0 < session["busy"] < 2
    assert (folder / f"{child.pid}.json").stat().st_mode & 0o777 == 0o600

    text = monitor(capsys, "--interval", "0.1")
    assert re.search(rf"{child.pid} .*products .*cpu:0", text)

    child.send_signal(signal.SIGKILL)  # it cannot remove its file
    child.wait()
    assert (folder / f"{child.pid}.json").exists()
    assert "MACE_MONITOR=1" in monitor(capsys)
    assert not (folder / f"{child.pid}.json").exists()


def test_a_process_that_ends_removes_its_file(child: subprocess.Popen[str], folder: Path) -> None:
    assert [each.pid for each in published()] == [child.pid]
    child.send_signal(signal.SIGINT)
    child.wait()
    assert not list(folder.glob("*.json"))


def content(pid: int, started: float) -> dict[str, Any]:
    return {"pid": pid, "started": started, "time": time.time(), "program": "p", "sessions": [], "queues": []}


def test_a_number_that_another_process_has_now_is_not_taken_for_the_first(folder: Path) -> None:
    board.prepare_folder(folder)
    board.write(folder, {**content(os.getpid(), psutil.Process().create_time() - 50.0), "governor": {}})
    assert published() == []
    assert not list(folder.glob("*.json"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 2}', '{"format": 1, "pid": "x"}', "\x00" * 10]
)
def test_files_that_are_none_of_ours_are_passed_over(folder: Path, text: str) -> None:
    board.prepare_folder(folder)
    (folder / "1.json").write_text(text)
    (folder / "1.json").chmod(0o600)
    (folder / "2.json").symlink_to(folder / "1.json")
    assert published() == []


def test_where_others_may_write_nothing_is_read_or_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board.prepare_folder(folder)
    folder.chmod(0o777)
    assert run_command_line(["monitor", "--once"]) == 2
    assert "not to be trusted" in capsys.readouterr().err


def test_it_says_how_to_publish_and_what_the_machine_does_not_show(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal")
    (zone / "temp").write_text("51500")
    monkeypatch.setenv("MACE_SYSFS_ROOT", str(tmp_path / "sys"))
    text = monitor(capsys)
    assert "mace_core.monitoring.publish()" in text
    assert "temperatures: cpu-thermal 51.5 °C" in text
    assert "not shown by this machine: cooling devices, clock rates, batteries, energy counters" in text
    assert json.loads(monitor(capsys, "--json"))["processes"] == []


def test_the_view_fits_eighty_columns(folder: Path) -> None:
    from mace_core.host.sensors import Readings, Temperature
    from mace_core.monitoring.view import Look, View

    sessions = [
        {"number": n, "model": f"/models/a_rather_long_name_of_a_model_{n}.onnx", "devices": ["opencl:gpu0", "cpu:0"]}
        | {"runs": 1234567 * n, "failures": n, "busy_seconds": 3.5 * n}
        for n in range(1, 4)
    ]
    queues = [{"device": "cpu:0", "waiting": 3, "running": 1, "room": 64}]
    state = {"mode": "hot", "does": "1 thread, little processors, 15 frames/s"}
    shown = {"sessions": sessions, "queues": queues, "governor": state}
    process = board.Published(4_000_000, 1.0, 2.0, "mace benchmark", shown)
    later = board.Published(4_000_000, 1.0, 3.0, "mace benchmark", shown)
    readings = Readings(tuple(Temperature(f"zone-{n}", f"thermal_zone{n}", 40.0 + n) for n in range(12)))
    text = View.of(Look(1.0, (later,), readings), Look(0.0, (process,), readings)).text(80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in ("4000000", "cpu:0", "zone-11 51.0 °C", "mode 'hot'"):
        assert words in text

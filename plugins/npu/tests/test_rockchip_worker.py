"""The worker process of the Rockchip driver, with a stand-in for the toolkit: crashes, hangs, refusals, cleaning up."""

from __future__ import annotations

import errno
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from mace_npu.rockchip import discovery, wire
from mace_npu.rockchip.process import WorkerGoneError, WorkerProcess

from mace_core.errors import CancelledError, OutOfMemoryError, UsageError
from mace_core.faults import FaultLimits
from mace_core.provider import CancelFlag
from mace_core.quantization import quantize
from mace_core.session import Session
from mace_core.testing.models import sample_image
from mace_core.testing.network import NetworkBuilder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="environments are laid out otherwise")

DEVICE = "npu:rockchip-rk3588"
SHAPE = (1, 3, 16, 16)


def network() -> onnx.ModelProto:
    net = NetworkBuilder("net", SHAPE, seed=1)
    x = net.relu6(net.conv("x", 3, 8, 3))
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 8, 4), (1, 4))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the stand-in in the place of the toolkit."""
    root = tmp_path_factory.mktemp("environment")
    packages = root / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (root / "bin").mkdir()
    interpreter = root / "bin" / "python"
    interpreter.symlink_to(Path(sys.executable).resolve())
    (root / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (packages / "rknn").symlink_to(Path(__file__).parent / "rknn_stand_in" / "rknn")
    (packages / "tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # numpy, onnxruntime
    return interpreter


@pytest.fixture
def order(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells the stand-in what is to go wrong."""
    path = tmp_path / "order"
    path.write_text("")
    monkeypatch.setenv("RKNN_STAND_IN", str(path))
    monkeypatch.setenv(discovery.VARIABLE, str(python))
    return path


def session(*devices: str, **options: object) -> Session:
    """One whose runs do not go on elsewhere, so that errors are seen."""
    unmoved = FaultLimits(move=False)
    return Session(network(), devices=list(devices or (DEVICE,)), cache=False, options={"npu": options}, faults=unmoved)


def workers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if any(word.endswith("worker.py") for word in child.cmdline())]


FEEDS = {"x": sample_image(SHAPE, 3)}


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    with Session(network(), devices=["cpu"], cache=False) as cpu:
        return np.asarray(cpu.run(FEEDS)["y"])


def is_right(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-5 * np.ptp(expected))


def test_a_model_runs_in_the_worker(order: Path, expected: np.ndarray) -> None:
    with session() as opened:
        for _ in range(3):
            assert is_right(opened.run(FEEDS)["y"], expected)
        assert len(workers()) == 1
        assert "a simulation by rknn-toolkit2" in str(opened.explain())


def test_a_quantized_model_is_handed_over_as_the_toolkit_reads_it(order: Path, tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    quantize(network(), path, data=[{"x": sample_image(SHAPE, seed)} for seed in range(3)])
    results = []
    for devices in ([DEVICE], ["cpu"]):
        with Session(path, devices=devices, strict=True, cache=False) as opened:
            results.append(opened.run(FEEDS)["y"])
    found, right = results
    assert np.abs(found - right).max() <= 0.02 * np.ptp(right)


def test_nothing_is_left_behind(order: Path) -> None:
    shared = Path("/dev/shm")
    before = set(shared.iterdir()) if shared.is_dir() else set()
    with session() as opened:
        opened.run(FEEDS)
    assert not workers()
    assert (set(shared.iterdir()) if shared.is_dir() else set()) <= before


def test_a_worker_that_crashes_in_a_run_is_replaced_and_the_run_repeated(
    order: Path, expected: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with session() as opened:
        opened.run(FEEDS)
        (first,) = workers()
        order.write_text("crash once")
        with caplog.at_level(logging.WARNING):
            assert is_right(opened.run(FEEDS)["y"], expected)
        (second,) = workers()
    assert first.pid != second.pid
    assert "ended with signal 11" in caplog.text
    assert "the run is repeated" in caplog.text


def test_a_worker_killed_between_runs_is_replaced(order: Path, expected: np.ndarray) -> None:
    with session() as opened:
        opened.run(FEEDS)
        (worker,) = workers()
        worker.kill()
        worker.wait()
        assert is_right(opened.run(FEEDS)["y"], expected)


def test_a_worker_that_always_crashes_is_an_error_and_the_session_stays_usable(
    order: Path, expected: np.ndarray
) -> None:
    with session() as opened:
        opened.run(FEEDS)
        order.write_text("crash")
        with pytest.raises(WorkerGoneError, match=r"the worker of rknn-toolkit2 is gone: it ended with signal 11"):
            opened.run(FEEDS)
        order.write_text("")
        assert is_right(opened.run(FEEDS)["y"], expected)


def test_a_worker_that_hangs_is_ended(order: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is repeated with other workers, so the limit, short from then on, is waited for several times."""
    plain = WorkerProcess._answer

    def soon(worker: WorkerProcess, process: Any, seconds: float, cancelled: Callable[[], bool]) -> dict[str, Any]:
        return plain(worker, process, 0.3 if seconds == 30 else seconds, cancelled)

    with session(rockchip_timeout=30) as opened:
        opened.run(FEEDS)
        order.write_text("hang")
        with monkeypatch.context() as patch:
            patch.setattr(WorkerProcess, "_answer", soon)
            with pytest.raises(WorkerGoneError, match=r"it did not answer for 0\.3 seconds and was ended"):
                opened.run(FEEDS)
        order.write_text("")
        assert is_right(opened.run(FEEDS)["y"], expected)


def test_a_run_is_cancelled(order: Path, expected: np.ndarray) -> None:
    with session() as opened:
        opened.run(FEEDS)
        order.write_text("hang")
        flag = CancelFlag()
        timer = threading.Timer(0.2, flag.set)
        timer.start()
        with pytest.raises(CancelledError):
            opened.run(FEEDS, cancel=flag)
        timer.join()
        order.write_text("")
        assert is_right(opened.run(FEEDS)["y"], expected)


def test_what_the_toolkit_refuses_runs_elsewhere(order: Path, expected: np.ndarray) -> None:
    order.write_text("refuse")
    with session(DEVICE, "cpu") as opened:
        assert is_right(opened.run(FEEDS)["y"], expected)
        placement = opened.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert "rknn-toolkit2's build returned -1" in str(placement)


def test_a_toolkit_that_crashes_while_it_builds_is_a_reason(order: Path, expected: np.ndarray) -> None:
    order.write_text("crash in build")
    with session(DEVICE, "cpu") as opened:
        assert is_right(opened.run(FEEDS)["y"], expected)
        placement = opened.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert "is gone: it ended with signal 11" in str(placement)


def test_a_worker_killed_from_outside_in_the_middle_of_a_run_is_replaced(order: Path, expected: np.ndarray) -> None:
    with session() as opened:
        opened.run(FEEDS)
        (worker,) = workers()
        order.write_text("hang")

        def kill() -> None:
            order.write_text("")
            worker.kill()

        timer = threading.Timer(0.3, kill)
        timer.start()
        assert is_right(opened.run(FEEDS)["y"], expected)
        timer.join()
        (another,) = workers()
        assert another.pid != worker.pid


def test_shared_memory_that_is_full_is_an_error_and_the_session_stays_usable(
    order: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with session() as opened:
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(OutOfMemoryError, match="bytes of shared memory for the tensors of a run"):
                opened.run(FEEDS)
        assert is_right(opened.run(FEEDS)["y"], expected)


def test_a_worker_of_another_protocol_is_refused(order: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "VERSION", 3)
    with session(DEVICE, "cpu") as opened:
        opened.run(FEEDS)
        assert "it speaks version 2 of the protocol, not 3" in str(opened.explain())


def test_an_environment_whose_toolkit_does_not_import_is_a_reason(
    order: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    packages = broken / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "rknn").mkdir(parents=True)
    (broken / "bin").mkdir()
    (broken / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (broken / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    monkeypatch.setenv(discovery.VARIABLE, str(broken / "bin" / "python"))
    with session(DEVICE, "cpu") as opened:
        opened.run(FEEDS)
        assert "No module named" in str(opened.explain())


@pytest.mark.parametrize(
    ("python", "reason"),
    [("", "MACE_RKNN_PYTHON is not set"), ("/nowhere/bin/python", "/nowhere/bin/python is not a file")],
)
def test_without_the_toolkit_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, python: str, reason: str) -> None:
    from mace_npu.rockchip.driver import RockchipDriver

    monkeypatch.setenv(discovery.VARIABLE, python)
    found = RockchipDriver().probe({})
    assert not found.devices
    assert [item.reason for item in found.missing] == [reason]
    assert "python3.11 -m venv" in found.missing[0].hint


def test_its_devices_are_simulations_and_say_so(order: Path) -> None:
    from mace_npu.rockchip.driver import RockchipDriver

    found = RockchipDriver().probe({})
    assert found.devices
    assert all(device.is_virtual and "simulated" in device.name for device in found.devices)


def test_a_message_that_is_cut_is_an_error() -> None:
    ends = os.pipe()
    with os.fdopen(ends[0], "rb") as reading, os.fdopen(ends[1], "wb") as writing:
        writing.write(b'{"ok": true, "bytes": 5}\nabc')
        writing.close()
        with pytest.raises(wire.WireError, match="in the middle of a message"):
            wire.receive(reading)


def test_closing_a_session_whose_worker_hangs_or_has_gone_raises_nothing(order: Path) -> None:
    opened = session(rockchip_timeout=3)
    opened.run(FEEDS)
    (worker,) = workers()
    worker.suspend()  # it answers nothing any more
    opened.close()
    assert not workers()


def test_the_file_for_the_chip_is_written_whole(order: Path, tmp_path: Path, expected: np.ndarray) -> None:
    folder = tmp_path / "made" / "here"
    for _ in range(2):  # a second session replaces it
        with session(rockchip_export=str(folder)) as opened:
            assert is_right(opened.run(FEEDS)["y"], expected)
    (file,) = folder.iterdir()
    assert file.name == "net_0.rk3588.rknn"
    assert file.read_bytes().startswith(b"RKNN")


def test_a_folder_that_cannot_be_written_is_a_reason(order: Path, tmp_path: Path, expected: np.ndarray) -> None:
    (tmp_path / "file").write_text("")
    with session(DEVICE, "cpu", rockchip_export=str(tmp_path / "file")) as opened:
        assert is_right(opened.run(FEEDS)["y"], expected)
        assert "rockchip_export" in str(opened.explain())


@pytest.mark.parametrize("name", ["rockchip_export", "rockchip_python"])
def test_a_path_that_is_none_is_told(order: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' takes the path of a"):
        session(**{name: 3}).run(FEEDS)

"""A native library that takes signals, or the stack they are handled on, does not take them from the application."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from mace_core.host import signals
from mace_core.host.signals import signals_kept

heard: list[int] = []


def _hear(number: int, frame: FrameType | None) -> None:
    heard.append(number)


def _hear_too(number: int, frame: FrameType | None) -> None:
    heard.append(-number)


@pytest.fixture(autouse=True)
def signals_of_a_user() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    heard.clear()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _taken_by_native_code(number: int) -> None:
    """What LLVM does: a handler in C, of which Python is not told; one that does not end the process."""
    faulthandler.register(number, file=Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process


def test_what_an_application_handles_it_handles_afterwards() -> None:
    signal.signal(signal.SIGUSR1, _hear)
    with signals_kept():
        _taken_by_native_code(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not heard, "it was not taken"
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]


def test_what_python_code_changes_meanwhile_stays() -> None:
    signal.signal(signal.SIGUSR1, _hear)
    with signals_kept():
        signal.signal(signal.SIGUSR1, _hear_too)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [-signal.SIGUSR1]


def test_signals_that_nobody_handles_are_left_to_the_library(capfd: pytest.CaptureFixture[str]) -> None:
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    with signals_kept():
        _taken_by_native_code(signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR2)  # by default the end of the process
    faulthandler.unregister(signal.SIGUSR2)


def test_a_library_that_takes_them_while_two_threads_are_inside() -> None:
    signal.signal(signal.SIGUSR1, _hear)
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with signals_kept():
            entered.set()
            assert leave.wait(60)

    other = threading.Thread(target=stay)
    with signals_kept():
        other.start()
        assert entered.wait(60)
        _taken_by_native_code(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1], "the first that leaves puts them back"
    leave.set()
    other.join()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1] * 2


def test_a_session_that_is_thrown_away_meanwhile_may_close_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is collected at any moment, and closing a device comes here too."""
    look, closed = signals.action_of, []

    class Dropped:
        def __del__(self) -> None:
            with signals_kept():
                closed.append(None)

    def look_and_collect(number: int) -> bytes:
        if not closed:
            Dropped()
        return look(number)

    monkeypatch.setattr(signals, "action_of", look_and_collect)

    def work() -> None:
        with signals_kept():
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert closed
    assert not signals._inside


class _Stack(ctypes.Structure):
    _fields_ = (
        [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
        if sys.platform == "linux"
        else [("address", ctypes.c_void_p), ("size", ctypes.c_size_t), ("flags", ctypes.c_int)]
    )


def test_signals_are_handled_on_the_stack_that_was_there() -> None:
    """OpenVINO gives a thread a stack of its own, which it frees later."""
    call, before, found = ctypes.CDLL(None).sigaltstack, _Stack(), _Stack()
    room = ctypes.create_string_buffer(1 << 16)
    assert call(None, ctypes.byref(before)) == 0
    with signals_kept():
        assert call(ctypes.byref(_Stack(ctypes.addressof(room), flags=0, size=len(room))), None) == 0
    assert call(None, ctypes.byref(found)) == 0
    assert found.address == before.address


_OPENS_A_DEVICE = """
import os, signal, sys, time
import numpy as np
from onnx import TensorProto, helper
import mace_core as mace
from mace_core.host.signals import _ADDRESS, action_of

before = action_of(signal.SIGINT)[_ADDRESS]
node = helper.make_node("Relu", ["x"], ["y"])
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
model = helper.make_model(helper.make_graph([node], "g", infos[:1], infos[1:]), ir_version=9,
                          opset_imports=[helper.make_opsetid("", 17)])
sessions = [mace.Session(model, devices=[sys.argv[1]]) for _ in range(2)]
for session in sessions:
    session.run({"x": np.ones(4, np.float32)})
print("kept" if action_of(signal.SIGINT)[_ADDRESS] == before else "taken")
for session in sessions:
    session.close()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.parametrize("device", ["opencl:0", "hexagon:v75", "npu:openvino-cpu", "acme:sim0"])
def test_ctrl_c_is_heard_after_sessions_on_a_device(device: str) -> None:
    """In a process of its own, since a library takes signals once; PoCL takes them when it compiles.  The first session
    is closed first: a library that puts back what it found would put back the other's stack, which is gone."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _OPENS_A_DEVICE, device],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (0, "kept\nheard\n"), done.stderr

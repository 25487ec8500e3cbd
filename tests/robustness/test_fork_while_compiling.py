"""Children of a fork compile, whatever other threads of their parent were compiling at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mace_core.errors import UsageError
from mace_core.host import fork_safe
from mace_core.host.fork_safe import unforked

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]

SECONDS = 120

COMPILING = """
    import faulthandler, itertools, os, signal, sys, threading, warnings
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    from mace_core import Session
    from mace_core.native import kernel
    warnings.simplefilter("ignore")
    numbers = itertools.count()

    def model(number):
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 4]) for n in ("x", "y")]
        nodes = [helper.make_node("Mul", ["x", "factor"], ["z"]),
                 helper.make_node("CumSum", ["z", "axis"], ["y"], exclusive=number % 2)]
        constants = [numpy_helper.from_array(np.array(number, np.float32), "factor"),
                     numpy_helper.from_array(np.array(0), "axis")]
        graph = helper.make_graph(nodes, "g", info[:1], info[1:], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

    def compile_one(number):
        with kernel._lock:
            kernel._loaded.clear()  # nothing is remembered, and nothing is in the cache
            kernel._images.clear()
        with Session(model(number), devices=["cpu"], strict=True, cache=False) as session:
            session.run({"x": np.ones((3, 4), np.float32)})

    os.environ["MACE_BUILD_PROCESSES"] = "1"
    stop = threading.Event()

    def loop():
        while not stop.is_set():
            os.environ["MACE_CACHE_DIR"] = f"{sys.argv[1]}/{next(numbers)}"
            compile_one(next(numbers) % 7 + 1)

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    bad = []
    for count in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            faulthandler.dump_traceback_later(30)  # where it hangs, if it does
            os.environ["MACE_CACHE_DIR"] = f"{sys.argv[1]}/child{count}"
            code = 1
            try:
                compile_one(count % 7 + 1)
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            bad.append(code)
            break
    stop.set()
    print("bad", bad, flush=True)
    os._exit(0)
"""


def test_children_forked_while_threads_compile_compile_too(tmp_path: Path) -> None:
    """From the very start, when compilers are being imported, on."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(COMPILING))
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "caches"), "3"],
        capture_output=True, text=True, timeout=SECONDS * 4, check=False,
    )  # fmt: skip
    assert done.stdout == "bad []\n", done.stderr


# --- the gate itself --------------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[threading.Event]:
    """Another thread is at something that no fork may cut in two, until the event is set."""
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with unforked(), unforked():
            inside.set()
            leave.wait(SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(SECONDS)
    yield leave
    leave.set()
    thread.join(SECONDS)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def enters() -> int:
    try:
        with unforked():
            return 0
    except UsageError:
        return 7


def test_a_fork_waits_for_another_thread(busy: threading.Event) -> None:
    released: list[float] = []

    def release() -> None:
        time.sleep(0.2)
        released.append(time.monotonic())
        busy.set()

    threading.Thread(target=release).start()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os._exit(enters())
    assert time.monotonic() >= released[0]
    assert exit_code(child) == 0


def test_a_child_that_could_not_wait_for_it_refuses_to_compile(
    busy: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_safe, "LONGEST_WAIT_SECONDS", 0.1)
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os._exit(enters())
    assert exit_code(child) == 7
    assert enters() == 0, "the parent goes on"


def test_a_thread_may_fork_in_the_midst_of_its_own_work() -> None:
    with unforked():
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            os._exit(enters())
        assert exit_code(child) == 0
    assert enters() == 0


MANY = """
    import os, signal, threading, time, warnings
    from mace_core.host.fork_safe import unforked
    warnings.simplefilter("ignore")
    codes = []

    def work(number):
        for _ in range(5):
            with unforked():
                time.sleep(0.001)
                with unforked():
                    time.sleep(0.001)
            if number % 2:
                child = os.fork()
                if child == 0:
                    signal.alarm(60)
                    with unforked():
                        os._exit(0)
                codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(codes)
"""


def test_many_threads_that_work_and_fork_all_get_on() -> None:
    """In a process of its own: other packages that a test process imports may refuse forks by two threads at once."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MANY)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.stdout == f"{[0] * 15}\n", done.stderr

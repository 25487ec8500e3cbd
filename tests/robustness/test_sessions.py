"""Sessions under rough treatment: closed while running, forked, interrupted, made and dropped many times."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.testing.models import PP_OCR_DET, PP_OCR_REC, find_packaged_model

THREADS = 4
GROWTH_BYTES = 24 << 20


@pytest.fixture
def own_cache() -> Iterator[None]:
    """None of its own: kernels that are built already serve."""
    yield None


@pytest.fixture
def recognizer() -> str:
    return str(find_packaged_model(*PP_OCR_REC))


def picture(width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((1, 3, 48, width), np.float32)


def test_threads_with_shapes_of_their_own_that_are_new_to_the_session(recognizer: str) -> None:
    feeds = [{"x": picture(64 + 32 * index)} for index in range(THREADS)]
    found: list[list[dict[str, npt.NDArray[np.float32]]]] = [[] for _ in feeds]
    start = threading.Barrier(THREADS)
    with mace.Session(recognizer, devices=["cpu"], max_signatures=2) as session:

        def run(index: int) -> None:
            start.wait()
            for turn in range(3):
                found[index].append(session.run(feeds[(index + turn) % THREADS]))

        threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert [len(runs) for runs in found] == [3] * THREADS
        expected = [session.run(each) for each in feeds]
    for index, runs in enumerate(found):
        for turn, outputs in enumerate(runs):
            for name, array in expected[(index + turn) % THREADS].items():
                np.testing.assert_array_equal(outputs[name], array)


Outputs = dict[str, npt.NDArray[np.float32]]


def run_until_closed(session: mace.Session, feeds: Outputs, expected: Outputs, ends: list[str]) -> None:
    """Note how it ended: with the error of a closed session, or with a wrong result."""
    try:
        while True:
            outputs = session.run(feeds)
            if not all(np.array_equal(outputs[name], expected[name]) for name in expected):
                ends.append("a wrong result")
                return
    except Exception as error:
        ends.append(type(error).__name__)


def test_closing_while_others_run_lets_each_run_end_or_says_that_it_is_closed(recognizer: str) -> None:
    feeds = {"x": picture(64)}
    for delay_s in (0.0, 0.01, 0.03):
        session = mace.Session(recognizer, devices=["cpu"])
        ends: list[str] = []
        given = (session, feeds, session.run(feeds), ends)
        threads = [threading.Thread(target=run_until_closed, args=given) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(delay_s)
        session.close()
        for thread in threads:
            thread.join(240)
        assert ends == [UsageError.__name__] * THREADS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_session_works_on_in_a_forked_child_and_in_the_parent(recognizer: str) -> None:
    feeds = {"x": picture(64)}
    with mace.Session(recognizer, devices=["cpu"], options={"cpu": {"threads": 2}}) as session:
        expected = session.run(feeds)
        child = os.fork()
        if child == 0:
            signal.alarm(240)
            outputs = session.run(feeds)
            os._exit(0 if all(np.array_equal(outputs[name], expected[name]) for name in expected) else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        np.testing.assert_array_equal(next(iter(session.run(feeds).values())), next(iter(expected.values())))


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import mace_core as mace

session = mace.Session(sys.argv[1], devices=["cpu"], options={"cpu": {"threads": 2}})
feeds = {"x": np.random.default_rng(0).random((1, 3, 960, 960), np.float32)}
expected = session.run(feeds)
for delay in (0.05, 0.11, 0.23):
    sent = []
    def interrupt():
        time.sleep(delay)
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)
    try:
        threading.Thread(target=interrupt).start()
        while True:
            session.run(feeds)
    except KeyboardInterrupt:
        print(time.process_time() - sent[0])  # of both threads
    outputs = session.run(feeds)
    assert all(np.array_equal(outputs[name], expected[name]) for name in expected)
print("looping", flush=True)
while True:
    session.run(feeds)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_an_interrupt_stops_a_long_run_at_once_and_the_session_works_on(tmp_path: Path) -> None:
    detector = str(find_packaged_model(*PP_OCR_DET))
    running = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, detector], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line.strip())
            if lines[-1] == "looping":
                break
        assert lines[-1:] == ["looping"], running.communicate()[1]
        assert max(float(seconds) for seconds in lines[:-1]) < 0.6
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert running.returncode in (130, -signal.SIGINT)


def test_sessions_made_and_dropped_leave_nothing(recognizer: str) -> None:
    feeds = {"x": picture(64)}
    process = psutil.Process()

    def use(close: bool) -> None:
        session = mace.Session(recognizer, devices=["cpu"])
        session.run(feeds)
        if close:
            session.close()

    for _ in range(4):
        use(close=True)
    gc.collect()
    before = process.memory_info().rss, process.num_threads()
    for turn in range(12):
        use(close=turn % 2 == 0)
    gc.collect()
    assert process.memory_info().rss - before[0] < GROWTH_BYTES
    assert process.num_threads() <= before[1]

"""Many runs and many threads over sessions, and what is left when they are idle or gone."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

import mace_core as mace
from mace_core.errors import InputError
from mace_core.native import pool
from mace_core.testing.models import PP_OCR_CLS, PP_OCR_REC, find_packaged_model
from mace_core.testing.network import NetworkBuilder

RUNS = 10_000
WIDTH = 64
GROWTH_BYTES = 8 << 20
THREADS = 8


def recognizer() -> str:
    return str(find_packaged_model(*PP_OCR_REC))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file: x (1, 16, 24, 24), a convolution that is split over threads, y."""
    net = NetworkBuilder("small", (1, 16, 24, 24), seed=3)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(net.build(net.op("Relu", net.conv("x", 16, 32, 3)), (1, 32, 24, 24)), path)
    return path


def small_feeds(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((1, 16, 24, 24)).astype(np.float32)}


def two_threads(path: Path | str) -> mace.Session:
    return mace.Session(str(path), devices=["cpu"], options={"cpu": {"threads": 2}}, strict=True)


def grown_bytes(session: mace.Session, feeds: dict[str, np.ndarray], runs: int) -> int:
    """Resident memory after so many runs, over that after a few."""
    process = psutil.Process()
    for _ in range(50):
        session.run(feeds)
    gc.collect()
    before = process.memory_info().rss
    for _ in range(runs):
        session.run(feeds)
    gc.collect()
    return process.memory_info().rss - before


@pytest.fixture
def worker_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Tells the names of the shared pool's threads; a pool that other tests of this process hold is left out."""
    gc.collect()
    monkeypatch.setattr(pool, "_shared", {})
    earlier = set(threading.enumerate())
    return lambda: sorted(t.name for t in set(threading.enumerate()) - earlier if t.name.startswith("mace-worker"))


class TestMemory:
    def test_10000_runs_leave_it_flat(self, small: Path) -> None:
        with two_threads(small) as session:
            assert grown_bytes(session, small_feeds(), RUNS) < GROWTH_BYTES / 4

    def test_300_runs_of_a_real_model_leave_it_flat(self, picture) -> None:
        with mace.Session(recognizer(), devices=["cpu"], strict=True) as session:
            assert grown_bytes(session, {"x": picture(48, WIDTH)}, 300) < GROWTH_BYTES

    @pytest.mark.full
    def test_10000_runs_of_a_real_model_leave_it_flat(self, picture) -> None:
        with mace.Session(recognizer(), devices=["cpu"], strict=True) as session:
            assert grown_bytes(session, {"x": picture(48, WIDTH)}, RUNS) < GROWTH_BYTES

    def test_runs_that_fail_leave_it_flat(self, small: Path) -> None:
        with two_threads(small) as session:
            session.run(small_feeds())
            before = psutil.Process().memory_info().rss
            for _ in range(1000):
                with pytest.raises(InputError):
                    session.run({"x": np.zeros((1, 16, 24), np.float32)})
            assert psutil.Process().memory_info().rss - before < GROWTH_BYTES


class TestThreads:
    def test_8_threads_give_the_results_of_one(self, picture) -> None:
        feeds = [{"x": picture(48, 96 if i % 2 else 160, seed=i)} for i in range(THREADS)]
        with mace.Session(recognizer(), devices=["cpu"], strict=True) as session:
            alone = [session.run(each) for each in feeds]
            with ThreadPoolExecutor(THREADS) as threads:
                together = list(threads.map(lambda i: [session.run(feeds[i]) for _ in range(4)], range(THREADS)))
        for expected, runs in zip(alone, together, strict=True):
            for found in runs:
                for name, array in expected.items():
                    np.testing.assert_array_equal(found[name], array)

    def test_two_sessions_in_two_threads_at_once(self, picture) -> None:
        models = [recognizer(), str(find_packaged_model(*PP_OCR_CLS))]
        feeds = [{"x": picture(48, 160)}, {"x": picture(48, 192)}]
        sessions = [two_threads(model) for model in models]
        alone = [session.run(each) for session, each in zip(sessions, feeds, strict=True)]
        start = threading.Barrier(2)

        def run(index: int) -> list[dict[str, np.ndarray]]:
            start.wait()
            return [sessions[index].run(feeds[index]) for _ in range(30)]

        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(run, range(2)))
        for session in sessions:
            session.close()
        for expected, runs in zip(alone, together, strict=True):
            for found in runs:
                for name, array in expected.items():
                    np.testing.assert_array_equal(found[name], array)


class TestWhatIsLeft:
    @pytest.mark.parametrize(
        "closed", [pytest.param(True, id="closed", marks=pytest.mark.full), pytest.param(False, id="collected")]
    )
    def test_a_session_that_is_gone_leaves_no_thread_and_no_open_file(
        self, small: Path, closed: bool, worker_threads: Callable[[], list[str]]
    ) -> None:
        gc.collect()
        assert worker_threads() == []
        process = psutil.Process()
        count = process.num_fds if hasattr(process, "num_fds") else process.num_handles
        two_threads(small).close()  # what the process opens once
        files = count()
        for _ in range(5):
            session = two_threads(small)
            session.run(small_feeds())
            assert worker_threads() == ["mace-worker-0"]
            if closed:
                session.close()
            del session
            gc.collect()
            assert worker_threads() == []
        assert count() <= files

    def test_threads_stay_while_another_session_needs_them(
        self, small: Path, worker_threads: Callable[[], list[str]]
    ) -> None:
        first, second = two_threads(small), two_threads(small)
        first.run(small_feeds())
        second.run(small_feeds())
        first.close()
        assert worker_threads() == ["mace-worker-0"]
        expected = second.run(small_feeds())
        second.close()
        assert worker_threads() == []
        with two_threads(small) as third:
            np.testing.assert_array_equal(third.run(small_feeds())["y"], expected["y"])

    def test_an_idle_session_uses_no_processor_time(self, small: Path) -> None:
        """In a process of its own, so that nothing else's time is counted."""
        code = (
            "import sys, time, numpy as np, mace_core as mace\n"
            "session = mace.Session(sys.argv[1], devices=['cpu'], options={'cpu': {'threads': 2}}, strict=True)\n"
            "for _ in range(20): session.run({'x': np.ones((1, 16, 24, 24), np.float32)})\n"
            "time.sleep(0.1)\n"
            "before = time.process_time()\n"
            "time.sleep(2)\n"
            "print(time.process_time() - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(small)], capture_output=True, text=True, check=True)
        assert float(done.stdout) < 0.02


def test_an_interrupt_during_a_run_ends_the_process_at_once(tmp_path: Path) -> None:
    """At once: within a second of its own processor time, whatever else the machine does."""
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGINT for one process")
    code = (
        "import sys, threading, time, numpy as np, mace_core as mace\n"
        "session = mace.Session(sys.argv[1], devices=['cpu'], options={'cpu': {'threads': 2}}, strict=True)\n"
        "feeds = {'x': np.random.default_rng(0).random((1, 3, 48, 1600), np.float32)}\n"
        "session.run(feeds)\n"
        "print('running', flush=True)\n"
        "try:\n"
        "    while True: session.run(feeds)\n"
        "except KeyboardInterrupt:\n"
        "    print(time.process_time())\n"
        "    session.close()\n"
        "    print([thread.name for thread in threading.enumerate()])\n"
        "    raise\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, recognizer()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "running\n", running.communicate()[1]
        time.sleep(0.1)
        used = psutil.Process(running.pid).cpu_times()
        running.send_signal(2)
        printed, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    at_the_end, threads = printed.splitlines()
    assert float(at_the_end) - used.user - used.system < 1
    assert threads == "['MainThread']"
    assert errors.strip().endswith("KeyboardInterrupt"), errors
    assert running.returncode in (130, -2)

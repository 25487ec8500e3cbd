"""Sessions and child processes: forked and spawned after use, while the parent is idle and while it runs."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.testing.network import NetworkBuilder

SECONDS = 600
Outputs = dict[str, np.ndarray]

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")

inherited: mace.Session | None = None
"""The session that a forked child finds."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = NetworkBuilder("children", ("n", 16, 32, 32), seed=5)
    x = net.op("Relu", net.conv("x", 16, 32, 3))
    path = tmp_path_factory.mktemp("children") / "children.onnx"
    onnx.save(net.build(net.conv(x, 32, 16, 3, stride=2), ("n", 16, 16, 16)), path)
    return path


def feeds(batch: int = 1) -> Outputs:
    return {"x": np.random.default_rng(batch).standard_normal((batch, 16, 32, 32)).astype(np.float32)}


def open_session(path: Path | str) -> mace.Session:
    return mace.Session(str(path), devices=["cpu"], options={"cpu": {"threads": 2}}, strict=True)


@pytest.fixture
def session(model: Path) -> Iterator[mace.Session]:
    """Used already, and what `inherited` is meanwhile."""
    global inherited
    with open_session(model) as made:
        made.run(feeds())
        inherited = made
        yield made
    inherited = None


@pytest.fixture
def busy(session: mace.Session) -> Iterator[list[int]]:
    """Two threads run the session all the while, one of them with ever new shapes; how many runs each did."""
    stop, counts = threading.Event(), [0, 0]

    def work(index: int) -> None:
        while not stop.is_set():
            session.run(feeds(1 + index * (counts[index] % 5)))
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    yield counts
    stop.set()
    for thread in threads:
        thread.join(SECONDS)


def in_child(method: str, function: Any, *arguments: Any) -> Any:
    """What the function puts into the pipe it is given."""
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=function, args=(sender, *arguments))
    child.start()
    sender.close()
    try:
        assert receiver.poll(SECONDS), "the child hangs"
        found = receiver.recv()
        child.join(SECONDS)
        assert child.exitcode == 0, "the child did not end well"
        return found
    finally:
        child.kill()
        child.join()
        receiver.close()


def run_inherited(sender: Any, batches: list[int]) -> None:
    assert inherited is not None
    sender.send([inherited.run(feeds(batch)) for batch in batches])


def run_new(sender: Any, path: str, batches: list[int]) -> None:
    with open_session(path) as session:
        found = [session.run(feeds(batch)) for batch in batches]
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("mace-worker")]
    assert (names == []) == (inherited is None)  # an inherited session holds the threads
    sender.send(found)


def check(found: list[Outputs], expected: list[Outputs]) -> None:
    assert len(found) == len(expected)
    for mine, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine["y"], right["y"])


BATCHES = [1, 3]
"""The second is new to the session."""


@needs_fork
class TestFork:
    def test_a_session_made_before_runs_in_the_child(self, session: mace.Session) -> None:
        found = in_child("fork", run_inherited, BATCHES)
        check(found, [session.run(feeds(batch)) for batch in BATCHES])

    def test_a_new_session_runs_in_the_child(self, session: mace.Session, model: Path) -> None:
        found = in_child("fork", run_new, str(model), BATCHES)
        check(found, [session.run(feeds(batch)) for batch in BATCHES])

    def test_children_made_while_the_parent_runs(self, session: mace.Session, busy: list[int], model: Path) -> None:
        """Many of them, so that locks are held at the moment of some forks."""
        expected = [session.run(feeds(batch)) for batch in BATCHES]
        for turn in range(12):
            check(in_child("fork", run_inherited, BATCHES), expected)
            if turn % 4 == 0:
                check(in_child("fork", run_new, str(model), BATCHES), expected)
        before = list(busy)
        check([session.run(feeds(batch)) for batch in BATCHES], expected)
        assert all(before)

    def test_a_child_of_a_child(self, session: mace.Session) -> None:
        found = in_child("fork", grandchild, BATCHES)
        check(found, [session.run(feeds(batch)) for batch in BATCHES])


def grandchild(sender: Any, batches: list[int]) -> None:
    assert inherited is not None
    inherited.run(feeds())
    sender.send(in_child("fork", run_inherited, batches))


class TestSpawn:
    def test_a_new_session_runs_in_the_child(self, session: mace.Session, model: Path) -> None:
        found = in_child("spawn", run_new, str(model), BATCHES)
        check(found, [session.run(feeds(batch)) for batch in BATCHES])

    def test_a_session_can_not_be_sent_and_the_error_says_what_to_do(self, session: mace.Session) -> None:
        with pytest.raises(UsageError, match="open one there"):
            pickle.dumps(session)


@needs_fork
def test_a_process_that_forks_itself_and_ends_leaves_no_child_behind(model: Path) -> None:
    """The ends of parent and child, with the atexit functions of both."""
    import subprocess

    code = (
        "import os, sys, numpy as np, mace_core as mace\n"
        "session = mace.Session(sys.argv[1], devices=['cpu'], options={'cpu': {'threads': 2}}, strict=True)\n"
        "feeds = {'x': np.ones((1, 16, 32, 32), np.float32)}\n"
        "session.run(feeds)\n"
        "child = os.fork()\n"
        "session.run(feeds)\n"
        "if child:\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "    print('both')\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "both\n", "")

"""A plugin that hangs, wherever: it is given up after a time, named, and the session goes on without it."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scheduler_models import chain
from scheduler_stand_ins import StandInBackend, StandInProvider, make_provider, registry_of

from mace_core import Session
from mace_core.discovery import entry_points as entry_points_module
from mace_core.discovery.entry_points import HOOK_GROUP, PROVIDER_GROUP, PluginEntry
from mace_core.errors import (
    CancelledError,
    MaceError,
    PluginError,
    StrictPlacementError,
    UsageError,
)
from mace_core.faults import FaultLimits
from mace_core.frontend.load import installed_frontends
from mace_core.graph import GraphView
from mace_core.host import waiting
from mace_core.host.waiting import GivenUpError
from mace_core.provider import Capability, CompiledSubgraph, Device
from mace_core.provider import hooks as hooks_module
from mace_core.provider import registry as registry_module
from mace_core.provider.hooks import HookManager
from mace_core.provider.plugin_status import PluginState
from mace_core.provider.registry import Registry

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)
WIDE = np.ones((3, 4), np.float32)
LONG = 60.0
"""Only a hang takes so many seconds."""
SHORT = FaultLimits(
    import_seconds=0.2,
    probe_seconds=0.2,
    open_seconds=0.2,
    compile_seconds=1.0,
    rest_seconds=1e6,
    longest_rest_seconds=1e6,
)


class Held:
    """Calls wait here while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.inside = 0
        self._gone = threading.Event()

    def wait(self) -> None:
        if self.is_on:
            self.inside += 1
            assert self._gone.wait(LONG * 3)

    def release(self) -> None:
        self.is_on = False
        self._gone.set()


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """What the stand-ins compute with."""
    with Session(chain("Neg", "Exp"), registry=registry_of()) as session:
        session.run({"x": X})


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.release()
    until(lambda: not any(waiting.hangs(name) for name in ("slow", "swift")))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class SlowBackend(StandInBackend):
    """Hangs in one of its calls."""

    held: Held
    call: str

    def capability(self, view: GraphView) -> Capability:
        if self.call == "capability":
            self.held.wait()
        return super().capability(view)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        made = super().compile(subgraphs)
        if self.call == "compile":
            self.held.wait()
        return made

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        if self.call == "serialize":
            self.held.wait()
        return None


def slow(held: Held, call: str, **attributes: Any) -> type[StandInProvider]:
    backend = type("Slow", (SlowBackend,), {"held": held, "call": call})

    def opened(self: StandInProvider, device: Device, options: object) -> StandInBackend:
        if call == "open":
            held.wait()
        made = backend(type(self), device)
        type(self).opened.append(made)
        return made

    def probe(self: StandInProvider) -> Any:
        if call == "probe":
            held.wait()
        return StandInProvider.probe(self)

    return make_provider("slow", open=opened, probe=probe, **attributes)


def pair(held: Held, call: str, **arguments: Any) -> Session:
    given = {"devices": ["slow", "swift"], "faults": SHORT, **arguments}
    return Session(chain("Neg", "Exp"), registry=registry_of(slow(held, call), make_provider("swift")), **given)


# --- while a session is planned ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [["slow", "swift"], None], ids=["named", "not named"])
@pytest.mark.parametrize("call", ["capability", "compile", "serialize"])
def test_a_device_that_hangs_while_it_plans_is_given_up_and_named(
    call: str, devices: list[str] | None, held: Held
) -> None:
    held.is_on = True
    with pair(held, call, devices=devices, policy="order") as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.exp(-X))
        found = session.explain()
        if call == "serialize":  # what it compiled is good
            return
        assert set(found.nodes_per_device) == {"swift:0"}
        assert "it hangs: it had not come back after 1 s; set compile_seconds" in found.refused["slow:0"]
        session.run({"x": WIDE})
        assert held.inside == 1, "it is not called again"


def test_one_that_runs_already_is_left_alone_while_it_hangs_and_used_again_afterwards(held: Held) -> None:
    limits = FaultLimits(compile_seconds=1.0, rest_seconds=0.05, longest_rest_seconds=0.1)
    with pair(held, "compile", faults=limits) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.exp(-X))
        assert set(session.explain().nodes_per_device) == {"slow:0"}
        held.is_on = True
        np.testing.assert_array_equal(session.run({"x": WIDE})["y"], np.exp(-WIDE))
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.exp(-X))
        assert set(session.explain().nodes_per_device) == {"swift:0"}
        held.release()
        until(lambda: not waiting.hangs("slow"))

        def is_back() -> bool:
            session.run({"x": X})
            return set(session.explain().nodes_per_device) == {"slow:0"}

        until(is_back)


def test_what_comes_too_late_is_closed_and_what_was_to_be_closed_meanwhile_too(held: Held) -> None:
    provider = slow(held, "compile")
    session = Session(
        chain("Neg"), devices=["slow", "swift"], registry=registry_of(provider, make_provider("swift")), faults=SHORT
    )
    session.run({"x": X})
    held.is_on = True
    session.run({"x": WIDE})
    session.close()  # does not wait
    (backend,) = provider.opened
    assert not backend.closed and held.inside == 1
    held.release()
    until(lambda: backend.closed)
    assert backend.compiled_alive == backend.executions == 0


def test_a_strict_session_says_so_in_one_sentence(held: Held) -> None:
    held.is_on = True
    with (
        pair(held, "compile", devices=["slow"], strict=True) as session,
        pytest.raises(StrictPlacementError, match=r"slow:0: not used: it hangs: it had not come back after 1 s"),
    ):
        session.run({"x": X})


def test_other_shapes_and_threads_go_on_once_it_is_given_up(held: Held) -> None:
    held.is_on = True
    with pair(held, "compile") as session:
        results: list[Any] = []
        threads = [
            threading.Thread(
                target=lambda rows=rows: results.append(session.run({"x": np.ones((rows, 4), np.float32)}))
            )
            for rows in (1, 2, 3, 4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert len(results) == 4


def test_other_sessions_do_not_wait_for_what_hangs(held: Held) -> None:
    held.is_on = True
    registry = registry_of(slow(held, "compile"), make_provider("swift"))
    with Session(chain("Neg"), devices=["slow", "swift"], registry=registry, faults=SHORT) as first:
        first.run({"x": X})
        with pytest.raises(MaceError, match=r"the plugin 'slow' has been preparing .* for \d s without an end"):
            Session(chain("Neg", shape=(1, 4)), devices=["slow"], registry=registry, faults=SHORT)
    assert held.inside == 1


def test_no_limit_calls_it_in_the_calling_thread() -> None:
    threads: list[str] = []

    def open_(self: StandInProvider, device: Device, options: object) -> StandInBackend:
        threads.append(threading.current_thread().name)
        return StandInProvider.open(self, device, {})

    for seconds in (np.inf, 60.0):
        registry = registry_of(make_provider("slow", open=open_))
        with Session(
            chain("Neg"), devices=["slow"], registry=registry, faults=FaultLimits(open_seconds=seconds)
        ) as made:
            made.run({"x": X})
    assert threads == [threading.current_thread().name, "mace-call-slow"]


# --- before -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["probe", "open"])
def test_a_device_that_is_named_and_hangs_is_an_error_that_names_it(call: str, held: Held) -> None:
    held.is_on = True
    with pytest.raises(MaceError, match=r"it had not come back after 0\.2 s") as caught:
        pair(held, call).run({"x": X})
    assert "slow" in str(caught.value) and f"{call}_seconds in MACE_FAULT_LIMITS" in str(caught.value)


def test_one_that_hangs_on_import_is_given_up_and_named(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mace_hanging_plugin.py").write_text(
        "import mace_hanging_gate\nmace_hanging_gate.held.wait()\nC = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    held.is_on = True
    monkeypatch.setitem(sys.modules, "mace_hanging_gate", type("Gate", (), {"held": held}))
    entry = PluginEntry(PROVIDER_GROUP, "slow", "mace_hanging_plugin:C", "mace-slow", "1.0")
    monkeypatch.setattr(registry_module, "discover", lambda group: [entry])
    monkeypatch.setenv("MACE_FAULT_LIMITS", "import_seconds=0.2")
    registry = Registry()
    registry.register(make_provider("swift"))
    with Session(chain("Neg"), registry=registry) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
    status = registry.status("slow")
    assert status.state is PluginState.FAILED
    assert status.reason == (
        "importing mace_hanging_plugin:C was given up: it had not come back after 0.2 s; set import_seconds in "
        "MACE_FAULT_LIMITS to wait longer, or MACE_DISABLE_PLUGINS=slow to leave it out at once"
    )
    with pytest.raises(PluginError, match=r"'slow' \(from mace-slow 1\.0\) cannot be used: importing .* was given up"):
        Session(chain("Neg"), devices=["slow"], registry=registry)


def test_a_hook_plugin_that_hangs_on_import_is_given_up_and_named(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(entry: PluginEntry) -> object:
        held.wait()
        return None

    held.is_on = True
    entry = PluginEntry(HOOK_GROUP, "slow", "somewhere:hooks", "mace-slow", "1.0")
    monkeypatch.setattr(hooks_module, "discover", lambda group: [entry])
    monkeypatch.setattr(entry_points_module, "_loaded", hang)
    monkeypatch.setenv("MACE_FAULT_LIMITS", "import_seconds=0.2")
    manager = HookManager()
    assert manager.caller("mace_on_compile") is None
    (status,) = manager.plugins()
    assert status.state is PluginState.FAILED
    assert "importing somewhere:hooks was given up: it had not come back after 0.2 s" in status.reason


def test_a_frontend_that_hangs_on_import_costs_its_files_alone(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name, value = "slow", "somewhere:Frontend"
        dist = None

        def load(self) -> object:
            held.wait()
            raise AssertionError("nobody waits for it any more")

    held.is_on = True
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry()])
    monkeypatch.setenv("MACE_FAULT_LIMITS", "import_seconds=0.2")
    frontends, failures = installed_frontends()
    assert {"OnnxFrontend", "TfliteFrontend"} <= {type(frontend).__name__ for frontend in frontends}
    assert "'slow' of an unknown distribution cannot be loaded" in failures[0]
    assert "it had not come back after 0.2 s" in failures[0]


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted() -> Iterator[type[Exception]]:
    """A signal comes in a moment, and its handler raises this."""

    class StopError(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise StopError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    yield StopError
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_an_interrupted_call_is_interrupted_in_the_plugin_too(interrupted: type[Exception]) -> None:
    ended = threading.Event()

    def work() -> None:
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended.set()

    with pytest.raises(interrupted):
        waiting.within(LONG, "slow", "working", work, limit="compile_seconds")
    assert ended.is_set() and not waiting.hangs("slow")
    assert waiting.within(LONG, "slow", "working", lambda: 3, limit="compile_seconds") == 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_the_next_call_waits_for_one_that_could_not_be_interrupted(
    interrupted: type[Exception], held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[int] = []

    def work() -> int:
        while held.is_on:
            try:
                held.wait()
            except KeyboardInterrupt:  # as native code, which hears nothing of it
                continue
        return 3

    held.is_on = True
    monkeypatch.setattr(waiting, "INTERRUPT_SECONDS", 0.1)
    with pytest.raises(interrupted):
        waiting.within(LONG, "slow", "working", work, limit="compile_seconds", late=late.append)
    assert "has been working" in waiting.hangs("slow")
    with pytest.raises(GivenUpError, match="has been working"):
        waiting.within(0.1, "slow", "working", lambda: 4, limit="compile_seconds")
    threading.Timer(0.2, held.release).start()
    assert waiting.within(LONG, "slow", "working", lambda: 5, limit="compile_seconds") == 5
    assert late == [3]


def test_errors_of_the_call_are_raised_as_they_are() -> None:
    def work() -> None:
        raise CancelledError("no")

    with pytest.raises(CancelledError, match="no"):
        waiting.within(LONG, "slow", "working", work, limit="compile_seconds")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_fork_does_not_wait_for_what_was_given_up(held: Held) -> None:
    held.is_on = True
    with pair(held, "compile") as session:
        session.run({"x": X})
        before = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert time.monotonic() - before < 30


@pytest.mark.parametrize("text", ["compile_seconds=0", "probe_seconds=-1", "open_seconds=nan", "import_seconds=soon"])
def test_limits_that_cannot_be(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_FAULT_LIMITS", text)
    with pytest.raises(UsageError, match=text.split("=")[0]):
        FaultLimits.from_environment()

"""Session events: plugins observe, add passes, choose devices; a bad plugin is reported and breaks nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mace_core.discovery.entry_points import Switches
from mace_core.errors import PluginError
from mace_core.graph import Graph
from mace_core.provider import (
    CompileEvent,
    Device,
    DeviceKind,
    PartitionEvent,
    PluginState,
    Registry,
    RunProfile,
    Span,
    hookimpl,
    hooks,
)
from mace_core.provider.hooks import HookManager

Install = Callable[..., Path]

PARTITION = PartitionEvent("m.onnx", {"x": (1, 3)}, (("cpu:0", ("a", "b")),))
COMPILE = CompileEvent("m.onnx", "cpu:0", ("a",), 0.1)
PROFILE = RunProfile("m.onnx", (Span("cpu:0", "conv", ("a",), 0, 5),))
UNIT = Device("unit", "0", DeviceKind.NPU, "Unit", "acme")


@pytest.fixture(autouse=True)
def fresh_hooks() -> Iterator[None]:
    hooks.default_hooks().refresh()
    yield
    hooks.default_hooks().refresh()


class Observer:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    def mace_on_partition(self, event: PartitionEvent) -> None:
        self.seen.append(event)

    @hookimpl
    def mace_on_compile(self, event: CompileEvent) -> None:
        self.seen.append(event)

    @hookimpl
    def mace_on_run_profile(self, event: RunProfile) -> None:
        self.seen.append(event)


def test_without_plugins_nothing_happens(site: Path) -> None:
    hooks.emit_partition(PARTITION)
    assert not hooks.has_observers("mace_on_partition")
    assert hooks.registered_passes() == []
    assert hooks.select_devices([UNIT], Graph()) is None


def test_without_hook_plugins_pluggy_is_not_imported() -> None:
    code = (
        "import sys; from mace_core.provider import hooks; hooks.registered_passes(); "
        "assert hooks.default_hooks().plugins() == []; print('pluggy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_observers_are_told_each_event() -> None:
    observer = Observer()
    hooks.default_hooks().register(observer, "observer")
    hooks.emit_partition(PARTITION)
    hooks.emit_compile(COMPILE)
    hooks.emit_run_profile(PROFILE)
    assert observer.seen == [PARTITION, COMPILE, PROFILE]


def test_an_observer_that_raises_is_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    class Raising:
        @hookimpl
        def mace_on_partition(self) -> None:
            raise ValueError("boom")

    hooks.default_hooks().register(Raising(), "raising")
    hooks.emit_partition(PARTITION)
    assert "ValueError: boom" in caplog.text


def test_passes_come_in_the_order_of_registration() -> None:
    class First:
        @hookimpl
        def mace_register_passes(self) -> list[str]:
            return ["a", "b"]

    class Second:
        @hookimpl
        def mace_register_passes(self) -> list[str]:
            return ["c"]

    hooks.default_hooks().register(First(), "first")
    hooks.default_hooks().register(Second(), "second")
    assert hooks.registered_passes() == ["a", "b", "c"]


def test_a_plugin_that_can_not_name_its_passes_is_an_error() -> None:
    class Raising:
        @hookimpl
        def mace_register_passes(self) -> list[str]:
            raise ValueError("boom")

    hooks.default_hooks().register(Raising(), "raising")
    with pytest.raises(PluginError, match=r"raising.*boom"):
        hooks.registered_passes()


def test_the_first_plugin_with_an_opinion_chooses_the_devices() -> None:
    other = Device("unit", "1", DeviceKind.NPU, "Unit", "acme")

    class Chooser:
        @hookimpl
        def mace_select_device(self, devices: tuple[Device, ...]) -> list[Device]:
            return [devices[1]]

    class Undecided:
        @hookimpl(tryfirst=True)
        def mace_select_device(self) -> None:
            return None

    hooks.default_hooks().register(Chooser(), "chooser")
    hooks.default_hooks().register(Undecided(), "undecided")
    assert hooks.select_devices([UNIT, other], Graph()) == [other]


def test_a_device_that_was_not_offered_can_not_be_chosen() -> None:
    class Chooser:
        @hookimpl
        def mace_select_device(self) -> list[Device]:
            return [Device("elsewhere", "0", DeviceKind.NPU, "x", "y")]

    hooks.default_hooks().register(Chooser(), "chooser")
    with pytest.raises(PluginError, match="not among the devices offered"):
        hooks.select_devices([UNIT], Graph())


MISSPELT = """
from mace_core.provider import hookimpl

@hookimpl
def mace_on_partitoin(event):
    pass
"""
WRONG_ARGUMENT = """
from mace_core.provider import hookimpl

@hookimpl
def mace_on_partition(partition):
    pass
"""
GOOD = """
from mace_core.provider import hookimpl

seen = []

@hookimpl
def mace_on_partition(event):
    seen.append(event)
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (MISSPELT, "unknown hook 'mace_on_partitoin'; did you mean 'mace_on_partition'?"),
        (WRONG_ARGUMENT, "partition"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_bad_hook_plugin_is_reported_and_the_others_work(install: Install, source: str, reason: str) -> None:
    install("acme-watch", "1.0", {"mace.hooks": "watch = acme_watch"}, {"acme_watch.py": source})
    install("good-watch", "1.0", {"mace.hooks": "good = good_watch"}, {"good_watch.py": GOOD})
    rows = {row.name: row for row in hooks.default_hooks().plugins()}
    assert rows["watch"].state is PluginState.FAILED
    assert (rows["watch"].distribution, rows["watch"].version) == ("acme-watch", "1.0")
    assert reason in rows["watch"].reason
    assert rows["good"].state is PluginState.OK
    hooks.emit_partition(PARTITION)
    assert sys.modules["good_watch"].seen == [PARTITION]


def test_a_hook_plugin_can_be_switched_off(install: Install) -> None:
    install("acme-watch", "1.0", {"mace.hooks": "watch = acme_watch"}, {"acme_watch.py": MISSPELT})
    (row,) = HookManager(Switches(disabled=frozenset({"watch"}))).plugins()
    assert row.state is PluginState.DISABLED
    assert "acme_watch" not in sys.modules


def test_a_provider_class_may_carry_hooks(install_provider: Install, site: Path) -> None:
    install_provider("zap")
    path = site / "acme_zap.py"
    path.write_text(
        path.read_text()
        + "\n    from mace_core.provider import hookimpl\n    seen = []\n\n"
        + "    @hookimpl\n    def mace_on_compile(self, event):\n        self.seen.append(event)\n"
    )
    registry = Registry(Switches())
    hooks.emit_compile(COMPILE)
    provider = registry.provider("zap")
    hooks.emit_compile(COMPILE)
    assert provider.seen == [COMPILE]  # type: ignore[attr-defined]


def test_a_provider_with_a_misspelt_hook_is_a_failed_plugin(install_provider: Install, site: Path) -> None:
    install_provider("zap")
    path = site / "acme_zap.py"
    path.write_text(
        path.read_text()
        + "\n    from mace_core.provider import hookimpl\n\n"
        + "    @hookimpl\n    def mace_on_compiled(self, event):\n        pass\n"
    )
    with pytest.raises(PluginError, match="did you mean 'mace_on_compile'"):
        Registry(Switches()).provider("zap")
    hooks.emit_compile(COMPILE)

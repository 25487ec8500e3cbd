"""The registry: what is installed, what of it can be used, and why the rest cannot."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mace_core.discovery.entry_points import Switches
from mace_core.errors import DeviceNotFoundError, PluginError
from mace_core.provider import (
    API_VERSION,
    ApiVersion,
    Backend,
    Device,
    ExecutionProvider,
    PluginState,
    PluginStatus,
    ProbeResult,
    Registry,
)

Install = Callable[..., Path]
NO_SWITCHES = Switches()


def status(registry: Registry, name: str) -> PluginStatus:
    return next(row for row in registry.plugins(load_all=True) if row.name == name)


def test_listing_names_imports_no_plugin(install_provider: Install) -> None:
    install_provider("zap", source="raise RuntimeError('imported')")
    registry = Registry(NO_SWITCHES)
    assert "zap" in registry.names()
    assert "acme_zap" not in sys.modules
    row = next(row for row in registry.plugins() if row.name == "zap")
    assert row.state is PluginState.NOT_LOADED
    assert (row.distribution, row.version) == ("acme-zap", "1.0")


def test_a_provider_is_loaded_once_and_shows_where_it_comes_from(install_provider: Install) -> None:
    install_provider("zap")
    registry = Registry(NO_SWITCHES)
    provider = registry.provider("zap")
    assert provider.name == "zap"
    assert registry.provider("zap") is provider
    assert status(registry, "zap") == PluginStatus("zap", "acme-zap", "1.0", "1.0", PluginState.OK)


def test_only_the_provider_asked_for_is_imported(install_provider: Install) -> None:
    install_provider("zap")
    install_provider("zip")
    Registry(NO_SWITCHES).provider("zap")
    assert "acme_zap" in sys.modules
    assert "acme_zip" not in sys.modules


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_sdk", "ModuleNotFoundError: No module named 'no_such_sdk'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("assert False, 'an assertion'", "AssertionError: an assertion"),
        ("raise BaseException('anything')", "BaseException: anything"),
        ("x = 1", "AttributeError"),
        ("from mace_core.provider import NoSuchName", "ImportError: cannot import name 'NoSuchName'"),
        ("Provider = 7", "not a subclass of mace_core.provider.ExecutionProvider"),
    ],
)
def test_whatever_a_plugin_does_on_import_becomes_a_reason(
    install_provider: Install, source: str, expected: str
) -> None:
    install_provider("bad", source=source)
    install_provider("good")
    registry = Registry(NO_SWITCHES)
    with pytest.raises(PluginError, match=r"acme-bad 1\.0") as caught:
        registry.provider("bad")
    assert expected in str(caught.value)
    row = status(registry, "bad")
    assert row.state is PluginState.FAILED
    assert expected in row.reason
    assert "bad" not in registry.names()
    assert registry.provider("good").name == "good"
    assert [failure.name for failure in registry.failures] == ["bad"]


def test_a_failed_plugin_is_not_imported_again(install_provider: Install, site: Path) -> None:
    log = site / "imports"
    install_provider("bad", source=f"open({str(log)!r}, 'a').write('x')\nraise ImportError('no')")
    registry = Registry(NO_SWITCHES)
    for _ in range(3):
        with pytest.raises(PluginError):
            registry.provider("bad")
    assert log.read_text() == "x"


def test_a_plugin_for_a_newer_contract_is_refused_with_the_command_that_mends_it(install_provider: Install) -> None:
    install_provider("next", api="(2, 0)")
    registry = Registry(NO_SWITCHES)
    with pytest.raises(PluginError, match=r"contract 2\.0.*contract 1\.3.*pip install --upgrade mace-core"):
        registry.provider("next")
    row = status(registry, "next")
    assert row.state is PluginState.INCOMPATIBLE
    assert row.api_version == "2.0"


def test_a_plugin_for_an_older_major_is_told_to_upgrade_itself() -> None:
    from mace_core.discovery.entry_points import PROVIDER_GROUP, PluginEntry
    from mace_core.provider.registry import _version_advice

    entry = PluginEntry(PROVIDER_GROUP, "old", "old:Provider", "acme-old", "0.9")
    assert "pip install --upgrade acme-old" in _version_advice(entry, ApiVersion(-1, 0))


def test_minor_versions_are_accepted_downwards_only() -> None:
    assert API_VERSION.accepts(ApiVersion(API_VERSION.major, 0))
    assert not API_VERSION.accepts(ApiVersion(API_VERSION.major, API_VERSION.minor + 1))


def test_two_distributions_with_one_name_are_both_named_and_neither_is_used(install_provider: Install) -> None:
    install_provider("twin", distribution="acme-twin")
    install_provider("between")  # stevedore's own check only sees neighbors
    install_provider("twin", distribution="rival-twin")
    install_provider("good")
    registry = Registry(NO_SWITCHES)
    with pytest.raises(PluginError) as caught:
        registry.provider("twin")
    assert "acme-twin 1.0" in str(caught.value)
    assert "rival-twin 1.0" in str(caught.value)
    rows = [row for row in registry.plugins() if row.name == "twin"]
    assert sorted(row.distribution for row in rows) == ["acme-twin", "rival-twin"]
    assert {row.state for row in rows} == {PluginState.CONFLICT}
    assert "acme_twin" not in sys.modules
    assert registry.provider("good").name == "good"


def test_the_name_of_the_last_fallback_can_not_be_taken(install_provider: Install) -> None:
    install_provider("reference", distribution="evil")
    registry = Registry(NO_SWITCHES)
    assert registry.entry("reference").distribution == "mace-core"
    rows = [row for row in registry.plugins() if row.distribution == "evil"]
    assert [row.state for row in rows] == [PluginState.CONFLICT]


def test_a_shadowed_copy_of_a_distribution_is_no_conflict(
    install_provider: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = install_provider("zap")
    older = tmp_path / "older"
    (older / info.name).mkdir(parents=True)
    for file in info.iterdir():
        (older / info.name / file.name).write_text(file.read_text())
    monkeypatch.setattr(sys, "path", [*sys.path, str(older)])
    assert Registry(NO_SWITCHES).provider("zap").name == "zap"


def test_switched_off_plugins_are_listed_and_not_loaded(install_provider: Install) -> None:
    install_provider("zap")
    registry = Registry(Switches(disabled=frozenset({"zap"})))
    assert "zap" not in registry.names()
    row = status(registry, "zap")
    assert (row.state, row.reason) == (PluginState.DISABLED, "switched off by MACE_DISABLE_PLUGINS")
    assert "acme_zap" not in sys.modules
    with pytest.raises(PluginError, match="MACE_DISABLE_PLUGINS"):
        registry.provider("zap")


def test_the_allow_list_leaves_only_its_names_and_the_reference(install_provider: Install) -> None:
    install_provider("zap")
    install_provider("zip")
    assert Registry(Switches(allowed=frozenset({"zap"}))).names() == ["reference", "zap"]


def test_switches_come_from_the_environment(install_provider: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install_provider("zap")
    install_provider("zip")
    monkeypatch.setenv("MACE_PLUGINS", "zap, zip")
    monkeypatch.setenv("MACE_DISABLE_PLUGINS", "zip")
    assert Registry().names() == ["reference", "zap"]


def test_a_name_in_the_switches_that_is_not_installed_is_logged(caplog: pytest.LogCaptureFixture, site: Path) -> None:
    Registry(Switches(disabled=frozenset({"opnecl"}))).names()
    assert "'opnecl'" in caplog.text


def test_tracing_tells_each_step_on_standard_error(
    install_provider: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_provider("zap")
    monkeypatch.setenv("MACE_TRACE_PLUGINS", "1")
    Registry(NO_SWITCHES).provider("zap")
    told = capsys.readouterr().err
    assert "loading zap = acme_zap:Provider from acme-zap 1.0" in told
    assert "zap: ok" in told


def test_a_damaged_entry_points_file_hides_nobody_else(install: Install, install_provider: Install) -> None:
    info = install("broken", "2.0", {})
    (info / "entry_points.txt").write_text("[mace.execution_providers]\nnonsense without an equals sign\n")
    install_provider("good")
    registry = Registry(NO_SWITCHES)
    assert registry.provider("good").name == "good"
    (row,) = [row for row in registry.plugins(load_all=True) if row.distribution == "broken"]
    assert row.state is PluginState.FAILED
    assert row.reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("    name = ", "    label = "), "name is None"),
        (('name = "zap"', 'name = "zop"'), "name is 'zop', but its entry point is called 'zap'"),
        (("    api_version = ", "    api = "), "api_version"),
        (("    vendor = ", "    seller = "), "`vendor`"),
        (("def open(", "def unlock("), "does not implement open"),
        (("    def probe(", "    def __init__(self):\n        raise OSError('no')\n\n    def probe("), "OSError: no"),
    ],
)
def test_a_class_that_does_not_keep_to_the_contract_is_refused(
    install_provider: Install, site: Path, change: tuple[str, str], expected: str
) -> None:
    install_provider("zap")
    path = site / "acme_zap.py"
    source = path.read_text()
    assert change[0] in source
    path.write_text(source.replace(*change))
    assert expected in status(Registry(NO_SWITCHES), "zap").reason


def test_unknown_names_get_the_nearest_one_or_the_package_to_install(install_provider: Install) -> None:
    install_provider("zapper")
    registry = Registry(NO_SWITCHES)
    with pytest.raises(DeviceNotFoundError, match="did you mean 'zapper'"):
        registry.provider("zaper")
    with pytest.raises(DeviceNotFoundError, match=r"installed: .*reference.*zapper"):
        registry.provider("quux")


class Local(ExecutionProvider):
    name = "local"
    vendor = "me"
    version = "0"
    api_version = ApiVersion(1, 0)

    def probe(self) -> ProbeResult:
        return ProbeResult()

    def open(self, device: Device, options: object) -> Backend:
        raise NotImplementedError


def test_an_application_registers_a_provider_of_its_own(site: Path) -> None:
    registry = Registry(NO_SWITCHES)
    registry.register(Local)
    assert isinstance(registry.provider("local"), Local)
    assert status(registry, "local").state is PluginState.OK
    registry.unregister("local")
    assert "local" not in registry.names()


def test_an_installed_provider_comes_back_when_what_replaced_it_goes(install_provider: Install) -> None:
    install_provider("local")
    registry = Registry(NO_SWITCHES)
    registry.register(Local)
    registry.register(Local)
    assert isinstance(registry.provider("local"), Local)
    registry.unregister("local")
    assert registry.provider("local").name == "local"
    assert not isinstance(registry.provider("local"), Local)


def test_registering_something_else_is_refused(site: Path) -> None:
    class Unfinished(ExecutionProvider):
        name = "unfinished"
        vendor = "me"
        version = "0"
        api_version = ApiVersion(1, 0)

    with pytest.raises(PluginError, match="does not implement open, probe"):
        Registry(NO_SWITCHES).register(Unfinished)  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("api_version", "1.0", "api_version"),
        ("api_version", 1, "api_version"),
        ("api_version", (1,), "api_version"),
        ("api_version", (1, 0, 0), "api_version"),
        ("api_version", (1.0, 0), "api_version"),
        ("api_version", (True, False), "api_version"),
        ("api_version", (1, -1), "api_version"),
        ("api_version", (1, 99), "contract 1.99"),
        ("api_version", (0, 1), "contract 0.1"),
        ("options", None, "options is None"),
        ("options", ["speed"], r"options is \['speed'\]"),
        ("options", {"speed": None}, "options has 'speed': None"),
        ("options", {3: "how fast"}, "options has 3"),
        ("probe_options", ["speed"], r"probe_options is \['speed'\]"),
        ("probe_options", {3}, r"probe_options is \{3\}"),
        ("probe_options", "speed", "probe_options is 'speed'"),
        ("policy_options", ["power"], r"policy_options is \['power'\]"),
        ("policy_options", {"power": "low"}, "policy_options is .* not a mapping from policy to some of its options"),
        ("policy_options", {"power": {"no_such_option": 1}}, "policy_options is .* some of its options"),
        ("vendor", 3, "`vendor`"),
        ("version", None, "`version`"),
        ("name", 3, "no name"),
        ("name", "", "no name"),
    ],
)
def test_a_class_whose_attributes_are_of_another_type_is_refused(
    site: Path, attribute: str, value: object, words: str
) -> None:
    odd = type("Odd", (Local,), {attribute: value})
    with pytest.raises(PluginError, match=words):
        Registry(NO_SWITCHES).register(odd)


def test_something_that_is_no_class_is_refused(site: Path) -> None:
    for thing in (Local(), None, "local", object, int):
        with pytest.raises(PluginError):
            Registry(NO_SWITCHES).register(thing)  # type: ignore[arg-type]


def test_threads_that_ask_at_once_get_one_instance(install_provider: Install) -> None:
    install_provider("zap")
    registry = Registry(NO_SWITCHES)
    barrier = threading.Barrier(8)
    got: list[ExecutionProvider] = []

    def ask() -> None:
        barrier.wait()
        got.append(registry.provider("zap"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1


@pytest.mark.parametrize(
    ("word", "provider"),
    [
        ("gpu", "opencl"), ("GPU", "opencl"), ("cuda:0", "opencl"), ("CUDAExecutionProvider", "opencl"),
        ("vulkan", "opencl"), ("mps", "opencl"), ("dsp", "hexagon"), ("QNNExecutionProvider", "hexagon"),
        ("CPU", "cpu"), ("CPUExecutionProvider", "cpu"), ("openvino", "npu"), ("onnxruntime", "reference"),
        ("mediatek", "apu"),
    ],
)  # fmt: skip
def test_words_for_devices_lead_to_a_provider(word: str, provider: str) -> None:
    from mace_core.provider.registry import Registry

    with pytest.raises(DeviceNotFoundError, match=f"'{provider}'"):
        Registry().provider(word.partition(":")[0])

"""The device inventory: finding devices by name, and results kept between processes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mace_core.caching.cache import CheckedCache
from mace_core.discovery.entry_points import Switches
from mace_core.errors import DeviceNotFoundError, PluginError
from mace_core.provider import (
    ApiVersion,
    Backend,
    Device,
    DeviceKind,
    ExecutionProvider,
    Missing,
    ProbeResult,
    Registry,
    find_device,
    inventory,
    probe,
)
from mace_core.provider.probe_cache import ProbeCache
from mace_core.tensor import DType, MemoryKind

Install = Callable[..., Path]


def device(
    provider: str, id: str, *, kind: DeviceKind = DeviceKind.NPU, virtual: bool = False, can: bool = True
) -> Device:
    return Device(provider, id, kind, f"{provider} {id}", "acme", is_virtual=virtual, can_execute=can)


def registry_with(*results: tuple[str, ProbeResult]) -> Registry:
    """A registry in which each name has a provider that finds just that."""
    registry = Registry(Switches())

    for label, found in results:

        class Fixed(ExecutionProvider):
            name = label
            vendor = "acme"
            version = "1"
            api_version = ApiVersion(1, 0)
            result = found

            def probe(self) -> ProbeResult:
                return self.result

            def open(self, device: Device, options: object) -> Backend:
                raise NotImplementedError

        registry.register(Fixed)
    return registry


@pytest.fixture
def registry(site: Path) -> Registry:
    return registry_with(
        (
            "unit",
            ProbeResult((device("unit", "sim", virtual=True), device("unit", "v73", can=False), device("unit", "v75"))),
        ),
        ("only-sim", ProbeResult((device("only-sim", "sim", virtual=True),))),
        ("absent", ProbeResult(missing=(Missing("libAbsent.so", "not found in /lib", "install absent-driver"),))),
        ("host", ProbeResult((device("host", "0", kind=DeviceKind.CPU),))),
    )


def test_a_provider_name_means_its_first_real_device(registry: Registry) -> None:
    assert find_device("unit", registry).id == "v75"


def test_a_virtual_device_is_only_had_by_its_full_name(registry: Registry) -> None:
    assert find_device("unit:sim", registry).is_virtual
    with pytest.raises(DeviceNotFoundError, match="named in full: only-sim:sim"):
        find_device("only-sim", registry)


def test_a_compile_only_target_is_not_for_running(registry: Registry) -> None:
    with pytest.raises(DeviceNotFoundError, match="target to compile for"):
        find_device("unit:v73", registry)
    assert find_device("unit:v73", registry, for_execution=False).id == "v73"


def test_missing_hardware_says_what_was_looked_for_and_what_to_do(registry: Registry) -> None:
    for name in ("absent", "absent:0"):
        with pytest.raises(DeviceNotFoundError, match=r"libAbsent\.so: not found in /lib \(install absent-driver\)"):
            find_device(name, registry)


def test_an_unknown_device_gets_the_nearest_one(registry: Registry) -> None:
    with pytest.raises(DeviceNotFoundError, match="did you mean 'unit:v75'"):
        find_device("unit:v7", registry)
    with pytest.raises(DeviceNotFoundError, match="did you mean 'unit'"):
        find_device("unti", registry)


def test_a_first_party_provider_that_is_not_installed_names_its_package() -> None:
    registry = Registry(Switches())
    registry.unregister("opencl")
    with pytest.raises(DeviceNotFoundError, match="pip install mace-opencl"):
        find_device("opencl:0", registry)


def test_the_inventory_lists_accelerators_then_cpus_then_the_reference(registry: Registry) -> None:
    names = [d.provider for d in inventory(registry).devices]
    own = [name for name in names if name in ("unit", "host", "reference")]
    assert own == ["unit", "unit", "unit", "host", "reference"]


def test_only_real_devices_are_chosen_by_themselves(registry: Registry) -> None:
    chosen = {d.qualified_name for d in inventory(registry).real_devices}
    assert {"unit:v75", "host:0"} <= chosen
    assert not chosen & {"unit:sim", "unit:v73", "only-sim:sim"}


def test_what_is_missing_is_kept_per_provider(registry: Registry) -> None:
    assert inventory(registry).missing["absent"][0].what == "libAbsent.so"


def test_a_probe_that_raises_is_reported_and_hides_nobody(install_provider: Install, site: Path) -> None:
    install_provider("raises")
    path = site / "acme_raises.py"
    path.write_text(
        path.read_text().replace(
            "        return ProbeResult(", "        raise OSError('bus')\n        return ProbeResult("
        )
    )
    install_provider("good")
    found = inventory(Registry(Switches()))
    assert "OSError: bus" in found.missing["raises"][0].reason
    assert "good" in {d.provider for d in found.devices}


def test_a_provider_may_not_speak_for_another(site: Path) -> None:
    registry = registry_with(("thief", ProbeResult((device("cpu", "0"),))))
    assert "belongs to 'cpu'" in inventory(registry).missing["thief"][0].reason


def test_a_plugin_that_fails_is_among_the_failures(install_provider: Install) -> None:
    install_provider("bad", source="import no_such_sdk")
    registry = Registry(Switches())
    assert "bad" in {failure.name for failure in inventory(registry).failures}
    with pytest.raises(PluginError, match="no_such_sdk"):
        find_device("bad", registry)


# --- kept between processes --------------------------------------------------------------------------------------

FULL = ProbeResult(
    (
        Device(
            "zap",
            "0",
            DeviceKind.GPU,
            "Zap 9000",
            "acme",
            memory_bytes=1 << 33,
            dtypes=frozenset({DType.FLOAT16, DType.INT8}),
            memory_kinds=(MemoryKind.DEVICE, MemoryKind.PINNED),
            is_virtual=True,
            can_execute=False,
            default_threads=3,
            properties={"driver": "1.2"},
        ),
    ),
    (Missing("libzap.so", "too old", "upgrade"),),
)


def counted_provider(site: Path, install_provider: Install) -> Path:
    """The provider ``zap``, whose probe notes each call in the file returned and depends on a driver and a variable."""
    install_provider("zap")
    calls, driver = site / "calls", site / "driver.so"
    path = site / "acme_zap.py"
    source = path.read_text()
    source = source.replace(
        "        return ProbeResult(", f"        open({str(calls)!r}, 'a').write('x')\n        return ProbeResult("
    )
    source = source.replace('"acme"),))', f'"acme"),), depends_on=({str(driver)!r},), environment=("ZAP_HOME",))')
    path.write_text(source)
    return calls


def probes(calls: Path) -> int:
    return len(calls.read_text()) if calls.exists() else 0


def test_a_result_survives_storing_unchanged(install_provider: Install) -> None:
    install_provider("zap")
    registry = Registry(Switches())
    ProbeCache(registry).put("zap", FULL)
    assert ProbeCache(registry).get("zap") == FULL


def test_a_second_start_neither_probes_nor_imports(install_provider: Install, site: Path) -> None:
    calls = counted_provider(site, install_provider)
    first = probe("zap", Registry(Switches()))
    again = Registry(Switches())
    assert probe("zap", again) == first
    assert probes(calls) == 1
    assert [row.state.value for row in again.plugins() if row.name == "zap"] == ["not loaded"]


def test_refresh_probes_again(install_provider: Install, site: Path) -> None:
    calls = counted_provider(site, install_provider)
    registry = Registry(Switches())
    probe("zap", registry)
    inventory(registry, refresh=True)
    assert probes(calls) == 2


@pytest.mark.parametrize("change", ["driver installed", "driver replaced", "variable", "plugin edited", "version"])
def test_whatever_the_result_depends_on_makes_it_stale(
    install_provider: Install, site: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    calls = counted_provider(site, install_provider)
    if change == "driver replaced":
        (site / "driver.so").write_text("old")
    probe("zap", Registry(Switches()))
    if change.startswith("driver"):
        (site / "driver.so").write_text("new driver")
    elif change == "variable":
        monkeypatch.setenv("ZAP_HOME", "/opt/zap")
    elif change == "plugin edited":
        stamp = (site / "acme_zap.py").stat().st_mtime_ns + 10**9
        os.utime(site / "acme_zap.py", ns=(stamp, stamp))
    else:
        info = site / "acme_zap-1.0.dist-info"
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-zap\nVersion: 1.1\n")
        code = site / "acme_zap.py"
        before = code.stat()
        code.write_text(code.read_text().replace('version = "1.0"', 'version = "1.1"'))
        os.utime(code, ns=(before.st_atime_ns, before.st_mtime_ns))
        Path(importlib.util.cache_from_source(str(code))).unlink(missing_ok=True)  # of the same size and time
        sys.modules.pop("acme_zap")
        importlib.invalidate_caches()
    probe("zap", Registry(Switches()))
    assert probes(calls) == 2


def test_a_damaged_entry_is_looked_up_again(install_provider: Install, site: Path, tmp_path: Path) -> None:
    calls = counted_provider(site, install_provider)
    probe("zap", Registry(Switches()))
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-5])
    assert probe("zap", Registry(Switches())).devices
    assert probes(calls) == 2


def test_an_entry_of_another_form_is_looked_up_again(install_provider: Install, site: Path) -> None:
    calls = counted_provider(site, install_provider)
    registry = Registry(Switches())
    probe("zap", registry)
    cache = ProbeCache(registry)
    key = cache._store.entries()[0]
    record = json.loads(cache._store.get(key) or b"")
    record["result"] = {"devices": [{"unknown": 1}]}
    assert isinstance(cache._store, CheckedCache)
    cache._store.put(key, json.dumps(record).encode())
    assert probe("zap", Registry(Switches())).devices
    assert probes(calls) == 2


def test_an_application_s_own_provider_is_never_stored(registry: Registry, tmp_path: Path) -> None:
    probe("unit", registry)
    assert not list((tmp_path / "cache" / "inventory").rglob("*.entry"))


def test_a_cache_folder_that_can_not_be_written_only_costs_time(
    install_provider: Install, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted_provider(site, install_provider)
    (site / "a-file").write_text("")
    monkeypatch.setenv("MACE_CACHE_DIR", str(site / "a-file" / "below"))
    for _ in range(2):
        assert probe("zap", Registry(Switches())).devices
    assert probes(calls) == 2

"""Fixtures: real fake distributions, as pip would have left them, in a folder on ``sys.path``."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., Path]

PROVIDER = """
from mace_core.provider import ApiVersion, Device, DeviceKind, ExecutionProvider, Missing, ProbeResult

class Provider(ExecutionProvider):
    name = "{name}"
    vendor = "acme"
    version = "1.0"
    api_version = ApiVersion{api}

    def probe(self):
        return ProbeResult(devices=(Device("{name}", "0", DeviceKind.NPU, "Unit", "acme"),))

    def open(self, device, options):
        raise NotImplementedError
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path``; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def install(site: Path) -> Install:
    """``install(distribution, version, {group: "name = module:attribute"}, {file: source})``: its dist-info folder."""

    def install(
        distribution: str, version: str, entry_points: dict[str, str], files: dict[str, str] | None = None
    ) -> Path:
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"[{group}]\n{line}\n" for group, line in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name, source in (files or {}).items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return info

    return install


@pytest.fixture
def install_provider(install: Install) -> Install:
    """``install_provider(name, source=…, api=…)``: the distribution ``acme-<name>`` 1.0 with one provider."""

    def install_provider(name: str, source: str | None = None, api: str = "(1, 0)", distribution: str = "") -> Path:
        module = f"acme_{name}" if not distribution else distribution.replace("-", "_")
        return install(
            distribution or f"acme-{name}",
            "1.0",
            {"mace.execution_providers": f"{name} = {module}:Provider"},
            {f"{module}.py": PROVIDER.format(name=name, api=api) if source is None else source},
        )

    return install_provider

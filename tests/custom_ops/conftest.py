"""Each test starts without custom operators and leaves none behind."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mace_core.custom_ops import registered_ops, unregister
from mace_core.operators import packages
from mace_core.provider.registry import default_registry

sys.path.insert(0, str(Path(__file__).parent))
from custom_models import DOMAIN


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "_asked", {})
    monkeypatch.setattr(packages, "loaded", {""})
    monkeypatch.setattr(packages, "_published", set())
    yield
    for op in registered_ops():
        unregister(op.domain, op.op_type)
    default_registry().unregister("custom")


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``publish(source)``: an installed package that publishes the domain's operators with this source."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def publish(source: str) -> None:
        info = site / "acme_ops-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-ops\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mace.custom_ops]\n{DOMAIN} = acme_ops\n")
        (site / "acme_ops.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()

    yield publish
    sys.modules.pop("acme_ops", None)

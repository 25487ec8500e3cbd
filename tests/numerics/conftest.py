"""The example vendor's provider made importable, and caches of each test's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "scheduler"))
sys.path.insert(0, str(ROOT / "examples" / "vendor_plugin"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MACE_CACHE_DIR", str(folder))
    return folder

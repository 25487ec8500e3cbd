"""Makes the stand-ins and small models importable whatever way pytest imports the tests, and keeps caches apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scheduler"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What stand-ins compile stays out of the user's cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MACE_CACHE_DIR", str(folder))
    yield folder

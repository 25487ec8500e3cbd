"""Makes the models importable, and keeps caches apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bound_cases import CASES, Case


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    folder = tmp_path_factory.mktemp("bound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACE_CACHE_DIR", str(folder / "cache"))
        found: dict[str, Case] = {}

        class Lazily(dict[str, Case]):
            def __missing__(self, name: str) -> Case:
                found[name] = self[name] = CASES[name](folder)
                return found[name]

        yield Lazily()
        for case in found.values():
            case.session.close()

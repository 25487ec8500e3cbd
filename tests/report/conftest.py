"""Profiles of small models, and a browser that looks at their pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chains import chain, profiled
from headless_chromium import Chromium, Page, find_chromium

from mace_core.report import ModelProfile


@pytest.fixture(scope="session")
def small() -> ModelProfile:
    return profiled(chain(30))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed here: the page cannot be looked at")
    with Chromium(program, tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def page(browser: Chromium) -> Page:
    found = browser.page()
    found.resize(1200, 900)
    return found


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "page.html"

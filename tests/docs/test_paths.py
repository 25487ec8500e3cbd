"""Files of the repository that the documentation names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .blocks import ROOT, pages

NAMED = re.compile(r"`((?:mace_core|plugins|tests|docs|testing|benchmarks|examples)/[\w./-]+)`")
PAGES = [page for page in pages() if "decisions" not in page.parts]  # which name files as they were on their date


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    assert sorted(name for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()) == []


def test_some_are_named() -> None:
    assert len({name for page in PAGES for name in NAMED.findall(page.read_text(encoding="utf-8"))}) > 10

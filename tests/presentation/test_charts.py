"""Charts: pictures that are well formed whatever the figures and texts are, and scales with round numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.errors import UsageError
from mace_core.presentation import Column, Table
from mace_core.presentation.chart_page import chart_page, write_charts
from mace_core.presentation.charts import Line, Lines, PartBars, charts_svg, ticks

SIZES = st.floats(0, 1e12)
NAMES = st.text(max_size=30)


def words(value: float) -> str:
    return f"{value:g}"


@given(st.lists(st.tuples(NAMES, SIZES, SIZES), min_size=1, max_size=8), st.lists(st.tuples(SIZES, NAMES), max_size=5))
def test_any_figures_and_texts_give_a_well_formed_picture(
    rows: list[tuple[str, float, float]], marks: list[tuple[float, str]]
) -> None:
    labels = [name for name, _, _ in rows]
    bars = PartBars("parts", labels, [("a", [a for _, a, _ in rows]), ("<b>", [b for _, _, b in rows])], words)
    line = Line("line & band", [a for _, a, _ in rows], [b for _, _, b in rows], [0.0] * len(rows), [1e12] * len(rows))
    root = ET.fromstring(charts_svg([bars, Lines("lines", [line], words, words, marks)], "a chart"))
    assert root.tag.endswith("svg")


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
def test_ticks_are_round_and_within_the_scale(low: float, width: float, count: int) -> None:
    found = ticks(low, low + width, count)
    assert all(low - width * 1e-6 <= tick <= low + width * (1 + 1e-6) for tick in found)
    assert len(found) <= 3 * count + 1


def test_a_page_holds_the_tables_and_runs_nothing(tmp_path: Path) -> None:
    table = Table((Column("name"),), [("<script>alert(1)</script>",)], "rows")
    page = chart_page("<title>", ["a note"], [PartBars("p", ["x"], [("a", [1.0])], words)], [table])
    assert "<script" not in page
    assert "default-src 'none'" in page
    write_charts(tmp_path / "c.html", "t", [], [], [table])
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_charts(tmp_path / "no" / "c.svg", "t", [], [], [])

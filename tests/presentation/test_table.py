"""Tables fit what they are shown on: figures stay whole, columns go by rank, files get everything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mace_core.presentation import Column, Table, fold, number, prose
from mace_core.presentation.table import ROWS_SHOWN

COLUMNS = (
    Column("operation"),
    Column("type", 3),
    Column("device", 4),
    number("ms"),
    number("%", 1),
    number("GMAC/s", 2),
    prose("reason", 5),
)
ROWS = [
    (
        f"/model/layers.{index}/attention/self/MatMul_output",
        "MatMul+Add+Softmax",
        "opencl:0",
        f"{1234.5678 + index:.4f}",
        "12.5",
        "98.7",
        "the first choice, for its kernels are the fastest of all that were measured",
    )
    for index in range(12)
]
TABLE = Table(COLUMNS, ROWS, "operations")


def headings(text: str) -> list[str]:
    return re.split(r"\s{2,}", text.splitlines()[1].strip())


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_figures_stay_whole(width: int) -> None:
    text = TABLE.text(width)
    assert max(map(cell_len, text.splitlines())) <= width
    for row in ROWS:
        assert any(row[3] in line for line in text.splitlines())


@pytest.mark.parametrize(
    ("width", "kept"),
    [
        (40, ["operation", "ms"]),
        (60, ["operation", "ms", "%", "GMAC/s"]),
        (80, ["operation", "type", "device", "ms", "%", "GMAC/s"]),
        (120, [column.name for column in COLUMNS]),
    ],
)
def test_columns_go_by_rank_and_are_named(width: int, kept: list[str]) -> None:
    text = TABLE.text(width)
    assert headings(text) == kept
    told = " ".join(text.split()).partition("not shown for lack of room: ")[2]
    assert told == ", ".join(column.name for column in COLUMNS if column.name not in kept)


def test_forty_columns_tell_rows_apart() -> None:
    lines = TABLE.text(40).splitlines()[3:15]
    assert len(set(lines)) == len(ROWS)
    assert all("…" in line for line in lines)


def test_a_file_gets_every_character_and_one_line_for_each_row() -> None:
    lines = TABLE.text(None).splitlines()
    assert len(lines) == 3 + len(ROWS)
    for line, row in zip(lines[3:], ROWS, strict=True):
        assert re.split(r"\s{2,}", line) == list(row)


def test_ten_rows_are_shown_unless_all_are_asked_for() -> None:
    text = TABLE.top(hint="--all shows them").text(80)
    assert sum("MatMul_" in line or "output" in line for line in text.splitlines()) == ROWS_SHOWN
    assert text.endswith("… and 2 more (--all shows them)")
    assert "more" not in Table(COLUMNS, ROWS[:10]).top(hint="x").text(80)


def test_columns_that_say_nothing_are_left_out() -> None:
    table = Table((Column("a"), Column("b", 1), number("c")), [("x", "", "1"), ("y", "", "")])
    assert headings("\n" + table.text(80)) == ["a", "c"]


def test_wide_characters_and_control_characters_keep_their_place() -> None:
    table = Table((Column("name"), number("n")), [("日本語の名前", "1"), ("evil\x1b[2J\nname", "2")])
    lines = table.text(None).splitlines()
    assert len(lines) == 4
    assert "\x1b" not in table.text(None)
    assert len({cell_len(line) for line in lines}) == 1


@given(st.lists(st.tuples(st.text(max_size=30), st.integers(), st.text(max_size=80)), max_size=6), st.integers(40, 130))
def test_any_text_fits(rows: list[tuple[str, int, str]], width: int) -> None:
    columns = (Column("name"), number("count"), prose("why", 1))
    table = Table(columns, [(name, str(count % 10**9), why) for name, count, why in rows])
    lines = table.text(width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    for _, count, _ in rows:
        assert any(str(count % 10**9) in line for line in lines)


@given(st.text(alphabet="abc de", max_size=200), st.integers(20, 80))
def test_folding_keeps_all_words(text: str, width: int) -> None:
    lines = fold(text, width, indent="  ")
    assert all(cell_len(line) <= width for line in lines)
    if max(map(len, text.split()), default=0) <= width - 2:
        assert " ".join(lines).split() == text.split()

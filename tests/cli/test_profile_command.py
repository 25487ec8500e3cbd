"""`mace profile`: a page and a trace, whole or not there; wrong wishes are refused before anything is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mace = Callable[..., Any]


def test_it_writes_a_page_and_a_trace_and_tells_what_they_show(mace: Mace, model: Path, tmp_path: Path) -> None:
    done = mace(
        "profile",
        "model.onnx",
        "--no-graph",
        "--shape",
        "x=2x3",
        "--runs",
        "2",
        "-o",
        "page.html",
        "--trace",
        "t.json",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["page"], found["trace"], len(found["latency_seconds"])) == ("page.html", "t.json", 2)
    assert sum(len(step["nodes"]) for step in found["steps"]) == 2
    assert found["memory"]["weight_bytes"] == 4 * (6 + 2)
    assert found["memory"]["peak_alive_bytes"] >= 4 * 2 * 2
    assert found["memory"]["peak_resident_bytes"] > 1 << 20
    assert found["partitions"][0]["measured_seconds"] > 0
    runs = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e["name"].startswith("run ")]
    assert len(runs) == 2
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "model.onnx" in text and str(tmp_path) not in text  # a page may be sent to others
    assert not list(tmp_path.glob(".*.part"))


def test_the_page_is_called_after_the_model(mace: Mace, model: Path, tmp_path: Path) -> None:
    done = mace("profile", "model.onnx", "--no-graph", "--shape", "x=2x3", "--runs", "1")
    assert "model.profile.html written" in done.stdout, done.stderr
    assert (tmp_path / "model.profile.html").is_file()


def test_files_that_cannot_be_written_are_refused_at_once(mace: Mace, model: Path, tmp_path: Path) -> None:
    for option, file, why in (
        ("-o", "page.txt", "its name must end in .html or .htm"),
        ("-o", "none/page.html", "there is no folder 'none'"),
        ("--trace", "t.html", "its name must end in .json"),
    ):
        done = mace("profile", "model.onnx", "--no-graph", option, file)
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.glob("*.html")) == []

"""`mace memory`, `mace tune-threads` and `mace benchmark --seconds`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LINUX = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what mappings hold")


@LINUX
@pytest.mark.full
def test_memory_is_shown_by_kind_and_step_and_drawn(mace: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    ran = mace("memory", str(model), "--runs", "4", "--shape", "x=2x3", "--chart", "m.svg", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    names = [moment["name"] for moment in found["moments"]]
    assert names == ["Python", "numpy", "mace_core", "load", "inputs", "compile", "first run", "steady runs", "close"]
    assert found["moments"][0]["total"]["pss"] < found["moments"][-2]["total"]["pss"] <= found["most_resident_bytes"]
    assert len(found["steady"]) == 4
    assert found["weight_bytes"] == 8 * 4
    assert (tmp_path / "m.svg").read_text().startswith("<svg")


def test_a_model_that_is_not_there_is_one_sentence(mace: Callable[..., Any]) -> None:
    ran = mace("memory", "missing.onnx")
    assert (ran.returncode, ran.stderr) == (2, "mace: error: there is no model file 'missing.onnx'\n")


@pytest.mark.full
def test_advice_on_threads_is_printed_as_json_and_drawn(mace: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    arguments = (str(model), "--most", "2", "--rounds", "3", "--shape", "x=2x3", "--chart", "t.html")
    ran = mace("tune-threads", *arguments, "--json", plugins="cpu")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["rounds"] == 3
    assert {each["threads"] for each in found["candidates"]} <= {1, 2}
    assert len(found["conclusions"]) == 4
    assert "<svg" in (tmp_path / "t.html").read_text()


def test_the_number_of_threads_may_not_be_given_to_what_looks_for_it(mace: Callable[..., Any], model: Path) -> None:
    ran = mace("tune-threads", str(model), "--threads", "2")
    assert ran.returncode == 2
    assert "--most N limits" in ran.stderr


def test_throughput_is_measured_and_drawn_and_other_options_have_no_place(
    mace: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    ran = mace(
        "benchmark", str(model), "--seconds", "0.3", "--streams", "2", "--shape", "x=2x3", "--chart", "t.svg", "--json",
        plugins="cpu",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)["throughput"]
    assert found["streams"] == 2 and found["total"]["runs"] >= 2
    assert found["total"]["p50"] <= found["total"]["p99"]
    assert (tmp_path / "t.svg").is_file()
    for wrong in (["--seconds", "1", "--trace", "t.json"], ["--chart", "t.svg"], ["--spread", "--seconds", "1"]):
        assert mace("benchmark", str(model), *wrong).returncode == 2

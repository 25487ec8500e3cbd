"""The soak finds what it is for: lost, doubled and wrong answers, and whatever grows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.ledger import FAILED, RIGHT, WRONG, Ledger
from benchmarks.soak.loads import differs
from benchmarks.soak.watching import Sample, growth, verdict


def samples(memory: Callable[[float], float] = lambda t: 300.0, **others: Callable[[float], int]) -> list[Sample]:
    """Half an hour, with noise."""
    draw = random.Random(0)
    steady = {name: others.get(name, lambda t: 20) for name in ("threads", "files", "temporary")}
    return [
        Sample(t, memory(t) + draw.random() * 20, **{name: found(t) for name, found in steady.items()}, answered=0)
        for t in np.linspace(0, 1800, 900).tolist()
    ]


def test_a_ledger_tells_what_is_lost_wrong_and_answered_twice() -> None:
    ledger = Ledger()
    numbers = [ledger.ask("load") for _ in range(5)]
    ledger.end(numbers[0], RIGHT)
    assert ledger.verdict() == "" and ledger.waiting == 4
    ledger.end(numbers[0], RIGHT)
    ledger.end(numbers[1], WRONG, "off by 3")
    ledger.end(numbers[2], FAILED, "RuntimeError()")
    ledger.close()
    assert ledger.verdict() == (
        "of 5 requests 1 wrong, 1 failed, 1 answered twice, 2 lost (all: answered twice: request 0: right)"
    )


def test_answers_are_compared_value_by_value() -> None:
    right = {"y": np.linspace(0, 1, 10)}
    assert differs({"y": right["y"] + 1e-5}, right) == ""
    assert "off by" in differs({"y": right["y"] + 0.1}, right)
    assert "off by" in differs({"y": np.full(10, np.nan)}, right)
    assert "shape" in differs({"y": right["y"][:5]}, right)


@pytest.mark.parametrize("warming", [0.0, 500.0], ids=["at once", "after warming up"])
def test_what_is_flat_passes(warming: float) -> None:
    flat = samples(lambda t: 300 + warming * min(t / 300, 1.0))
    assert verdict(flat) == ""


@pytest.mark.parametrize(
    ("grown", "words"),
    [
        (samples(lambda t: 300 + t / 60), "memory_mb grew by"),
        (samples(lambda t: 300 + 40 * (t > 900)), "memory_mb grew by"),
        (samples(threads=lambda t: 20 + int(t / 300)), "threads grew by"),
        (samples(files=lambda t: 20 + int(t / 300)), "files grew by"),
        (samples(temporary=lambda t: int(t / 300)), "temporary grew by"),
    ],
    ids=["memory", "a step of memory", "threads", "files", "temporary files"],
)
def test_what_grows_is_told(grown: list[Sample], words: str) -> None:
    assert words in verdict(grown)


def test_what_comes_and_goes_is_no_growth() -> None:
    assert abs(growth(samples(lambda t: 300 + 200 * (t % 60 < 20)), "memory_mb")) < 8


@pytest.mark.full
def test_a_short_soak_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("acme_npu")
    from benchmarks.soak.__main__ import main

    main(["--minutes", "0.3", "--fault-rate", "0.1", "--csv", str(tmp_path / "samples.csv")])
    told = capsys.readouterr().out  # so short a run says nothing of growth
    assert "injected: " in told and "no fault" not in told
    for bad in ("lost", "wrong", "failed,", "answered twice", "requests 1 failed"):
        assert bad not in told, told
    assert (tmp_path / "samples.csv").read_text().startswith("seconds,memory_mb")

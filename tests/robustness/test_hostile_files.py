"""Hostile files: each runs or is refused in one sentence; the process lives on, in bounded time and memory."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hostile.__main__ import wrong_with
from hostile.case import Case
from hostile.corpus import corpus
from hostile.judge import faults
from hostile.runner import Outcome, Worker, outcomes

SEED = 0
LEAST = 800
PARTS = 20

SLOW = ("doubling chains: StringConcat 40 times", "functions: doubling fourteen times", "turns doubling")
"""Names of cases that take seconds each; they run with the full tests."""


def is_slow(case: Case) -> bool:
    return any(part in f"{case.family}: {case.name}" for part in SLOW)


def check(cases: list[Case], scratch: Path) -> Counter[str]:
    """Ask for every case; what is wrong with any of them fails the test, with all of it told."""
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    for outcome in outcomes(cases, scratch):
        counts[outcome.outcome] += 1
        wrong += [f"{outcome.case.family}: {outcome.case.name}: {p}: {outcome.told}" for p in wrong_with(outcome)]
    assert not wrong, "\n".join(wrong)
    return counts


@pytest.fixture(autouse=True)
def own_cache() -> None:
    """The cache of the whole run, not one for each test: kernels are compiled once."""


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.full] if part else []) for part in range(PARTS)]
)
def test_every_hostile_file_loads_or_is_refused_in_one_sentence(tmp_path: Path, part: int) -> None:
    """In parts, each with a process of its own, so that several can be at work."""
    cases = [case for case in corpus(SEED, bytewise=64, fieldwise=64) if not is_slow(case)]
    assert len(cases) >= LEAST
    counts = check(cases[part::PARTS], tmp_path)
    assert counts["refused when loaded"] > 100 / PARTS
    assert counts["refused when run"] > 20 / PARTS
    assert counts["ran"] > 20 / PARTS


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_more_of_them_and_the_slow_ones(tmp_path: Path, seed: int) -> None:
    by_hand = [case for case in corpus(seed, 0, 0) if is_slow(case)]
    at_random = list(corpus(seed, bytewise=300, fieldwise=400))[-700:]
    check([*by_hand, *at_random], tmp_path)


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    def content(folder: str) -> list[bytes]:
        made = []
        for number, case in enumerate(list(corpus(7, 12, 12))[-24:]):
            (tmp_path / folder / str(number)).mkdir(parents=True)
            made.append(case.write(tmp_path / folder / str(number)).read_bytes())
        return made

    assert content("one") == content("two")
    assert len(set(content("three"))) > 12


# --- the tests' own tools: they would notice ------------------------------------------------------------------------


def written(name: str, text: str) -> Case:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return Case("tools", name, write)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "KeyError: 'x'",
        "model.onnx: node 'n' failed: list index out of range",
        "model.onnx: node 'n' is at 0x7f3a2b4c5d6e in memory",
        "model.onnx: node 'n'\nTraceback (most recent call last):",
        "something went wrong somewhere",
        "model.onnx: node '\x1b[31m' cannot be read",
        "model.onnx bad",
        "model.onnx: node 'n' " + "n" * 2000,
    ],
)
def test_a_message_that_is_no_sentence_is_noticed(message: str) -> None:
    assert faults(message)


def test_a_good_message_is_not_objected_to() -> None:
    assert not faults("model '/tmp/model.onnx': initializer 'w' has a negative size in its shape [-1]")
    assert not faults("'/tmp/model.onnx': no device runs these nodes:\n  node 'a' (X): cpu:0: no kernel")


def test_a_worker_that_dies_or_hangs_is_noticed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import mace_core.session, os, pathlib, time\n"
        "plain = mace_core.session.Session.__init__\n"
        "def init(self, model, **more):\n"
        "    name = pathlib.Path(model).stem\n"
        "    if name == 'dies': os.abort()\n"
        "    if name == 'hangs': time.sleep(100)\n"
        "    if name == 'escapes': raise KeyError('x')\n"
        "    plain(self, model, **more)\n"
        "mace_core.session.Session.__init__ = init\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("hostile.runner.WALL_LIMIT_SECONDS", 3.0)
    with Worker(tmp_path) as worker:
        found = [worker.ask(written(f"{what}.onnx", "x")) for what in ("dies", "plain", "hangs", "escapes", "plain")]
    kinds = ["died", "refused when loaded", "hung", "escaped", "refused when loaded"]
    assert [outcome.outcome for outcome in found] == kinds
    assert all(wrong_with(outcome) for outcome in found if not outcome.outcome.startswith("refused"))


def test_memory_beyond_the_limit_and_tracebacks_are_noticed() -> None:
    case = written("a.onnx", "x")
    assert wrong_with(Outcome(case, "ran", peak_bytes=3 << 30))
    assert wrong_with(Outcome(case, "ran", printed="Traceback (most recent call last):"))
    assert not wrong_with(Outcome(case, "ran"))

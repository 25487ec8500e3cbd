"""The options `threads` and `affinity`: how many threads run, where, and what the user is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mace_cpu import workers
from mace_cpu.workers import choose_workers

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.host import processors
from mace_core.host.processors import can_pin
from mace_core.native.machine import default_threads, usable_processors
from mace_core.testing.network import NetworkBuilder


def small_network() -> bytes:
    """A convolution large enough to be split over threads."""
    build = NetworkBuilder("small", (1, 16, 40, 40), seed=3)
    weights = build.constant(build.normal((32, 16, 3, 3), 0.1))
    y = build.op("Relu", build.op("Conv", "x", weights, pads=[1, 1, 1, 1]))
    return build.build(y, (1, 32, 40, 40)).SerializeToString()


@pytest.fixture(scope="module")
def model() -> bytes:
    return small_network()


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((1, 16, 40, 40)).astype(np.float32)}


@pytest.fixture
def big_and_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[set[int], set[int]]]:
    """(little, big) of a machine whose last processor is said to be fast."""
    usable = sorted(usable_processors())
    if len(usable) < 2 or not can_pin():
        pytest.skip("needs two processors and a system that lets a program choose among them")
    little, big = set(usable[:-1]), {usable[-1]}
    monkeypatch.setattr(processors, "processor_kinds", lambda root=Path("/"): (frozenset(little), frozenset(big)))
    yield little, big


def session(model: bytes, **options: object) -> mace.Session:
    return mace.Session(model, devices=["cpu"], options={"cpu": options}, strict=True)


class TestThreads:
    def test_automatic_is_what_the_system_grants(self) -> None:
        for automatic in (None, 0):
            found = choose_workers(automatic, "none")
            assert (found.threads, found.processors, found.notes) == (default_threads(), None, ())

    @pytest.mark.parametrize("value", [-1, 1.5, "2", True])
    def test_other_values_are_refused(self, value: object) -> None:
        with pytest.raises(UsageError, match="'threads' takes a whole number"):
            choose_workers(value, "none")

    def test_more_than_processors_are_right_and_told(
        self, model: bytes, feeds: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
    ) -> None:
        with session(model, threads=1) as alone:
            expected = alone.run(feeds)
            assert alone.explain().notes == {}
        many = 4 * len(usable_processors())
        with session(model, threads=many) as crowded:
            for _ in range(50):
                found = crowded.run(feeds)
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array)
            (note,) = crowded.explain().notes["cpu:0"]
        assert note.startswith(f"{many} threads are more than the {len(usable_processors())} processor")
        assert f"note of cpu:0: {note}" in str(crowded_explanation(model, many))
        assert note in caplog.text

    def test_more_than_the_control_group_grants_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "cgroup_quota", lambda: 0.5)
        assert choose_workers(1, "none").notes == ()  # one is the least
        monkeypatch.setattr(workers, "usable_processors", lambda: {0, 1})
        (note,) = choose_workers(2, "none").notes
        assert "more than the 0.5 processors that the control group" in note

    def test_the_control_group_limits_the_automatic_number(self, tmp_path: Path) -> None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("0::/box\n")
        (tmp_path / "sys/fs/cgroup/box").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/box/cpu.max").write_text("100000 100000\n")
        assert default_threads(tmp_path) == 1
        assert default_threads(tmp_path, processors={0, 1}) == 1

    def test_a_session_uses_no_more_than_its_own_number(self, model: bytes, feeds: dict[str, np.ndarray]) -> None:
        with session(model, threads=4) as other, session(model, threads=1) as alone:
            other.run(feeds)
            assert {part.worker for part in alone.profile(feeds).parts} == {"MainThread"}


def crowded_explanation(model: bytes, threads: int) -> object:
    with session(model, threads=threads) as crowded:
        return crowded.explain()


class TestAffinity:
    def test_other_values_are_refused(self) -> None:
        with pytest.raises(UsageError, match="'affinity' takes one of none, big, little, not 'fast'"):
            choose_workers(None, "fast")

    @pytest.mark.parametrize("affinity", ["big", "little"])
    def test_threads_keep_to_the_kind_and_are_as_many(
        self, affinity: str, big_and_little: tuple[set[int], set[int]], model: bytes, feeds: dict[str, np.ndarray]
    ) -> None:
        kind = big_and_little[affinity == "big"]
        found = choose_workers(None, affinity)
        assert (found.processors, found.threads, found.notes) == (kind, len(kind), ())
        before = os.sched_getaffinity(0)
        with session(model) as free, session(model, affinity=affinity) as kept:
            for name, array in free.run(feeds).items():
                np.testing.assert_array_equal(kept.run(feeds)[name], array)
            assert kept.explain().notes == {}
        assert os.sched_getaffinity(0) == before

    def test_more_threads_than_processors_of_the_kind_are_told(self, big_and_little: tuple[set[int], set[int]]) -> None:
        (note,) = choose_workers(2, "big").notes
        assert note.startswith("2 threads are more than the 1 processor of the kind asked for")

    def test_a_wish_that_can_not_be_kept_is_told(
        self, model: bytes, feeds: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processors, "processor_kinds", lambda root=Path("/"): (frozenset(usable_processors()),))
        with session(model, affinity="little") as kept:
            kept.run(feeds)
            (note,) = kept.explain().notes["cpu:0"]
        assert note.startswith("affinity 'little' changes nothing:")

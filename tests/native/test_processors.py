"""Fast and frugal processors: found, chosen, and threads kept to them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mace_core.errors import CancelledError
from mace_core.host.processors import (
    can_pin,
    choose_processors,
    describe_kinds,
    pin_this_thread,
    pinned,
    processor_kinds,
    usable_processors,
)
from mace_core.native.plan import NativePlan, PlanStep
from mace_core.native.pool import ThreadPool, release_shared, shared_pool
from mace_core.provider.execution import CancelFlag

needs_pinning = pytest.mark.skipif(not can_pin(), reason="this system does not let a program choose processors")


def machine(root: Path, name: str, values: list[int | None]) -> Path:
    """A ``/sys`` in which processor i has the speed ``values[i]``."""
    for number, value in enumerate(values):
        path = root / f"sys/devices/system/cpu/cpu{number}" / name
        path.parent.mkdir(parents=True)
        if value is not None:
            path.write_text(f"{value}\n")
    (root / "sys/devices/system/cpu/cpufreq").mkdir(parents=True, exist_ok=True)  # its name begins like a processor's
    return root


class TestKinds:
    @pytest.mark.parametrize("name", ["cpu_capacity", "cpufreq/cpuinfo_max_freq"])
    def test_little_and_big(self, tmp_path: Path, name: str) -> None:
        found = processor_kinds(machine(tmp_path, name, [381, 381, 381, 381, 1024, 1024]))
        assert found == ({0, 1, 2, 3}, {4, 5})

    def test_the_widest_gap_divides_three_speeds(self, tmp_path: Path) -> None:
        found = processor_kinds(machine(tmp_path, "cpu_capacity", [325, 325, 828, 828, 1024]))
        assert found == ({0, 1}, {2, 3, 4})

    def test_favored_cores_are_no_kind_of_their_own(self, tmp_path: Path) -> None:
        found = processor_kinds(machine(tmp_path, "cpufreq/cpuinfo_max_freq", [4_900_000, 4_900_000, 5_100_000]))
        assert found == ({0, 1, 2},)

    def test_capacity_goes_over_the_clock_rate(self, tmp_path: Path) -> None:
        machine(tmp_path, "cpu_capacity", [400, 1024])
        for number, rate in enumerate([3_000_000, 3_000_000]):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
            folder.mkdir()
            (folder / "cpuinfo_max_freq").write_text(str(rate))
        assert processor_kinds(tmp_path) == ({0}, {1})

    def test_hybrid_x86_machines_name_their_designs(self, tmp_path: Path) -> None:
        machine(tmp_path, "cpu_capacity", [1024] * 8)
        for name, text in (("cpu_core", "0-1,4"), ("cpu_atom", "2-3,5-7")):
            (tmp_path / "sys/devices" / name).mkdir()
            (tmp_path / "sys/devices" / name / "cpus").write_text(f"{text}\n")
        assert processor_kinds(tmp_path) == ({2, 3, 5, 6, 7}, {0, 1, 4})
        assert describe_kinds(tmp_path) == "efficient 2-3, 5-7, fast 0-1, 4"

    @pytest.mark.parametrize("values", [[], [None, None]])
    def test_a_system_that_does_not_tell(self, tmp_path: Path, values: list[int | None]) -> None:
        assert processor_kinds(machine(tmp_path, "cpu_capacity", values)) == ()
        assert describe_kinds(tmp_path) == "of unknown kinds"

    def test_nonsense_is_not_believed(self, tmp_path: Path) -> None:
        machine(tmp_path, "cpu_capacity", [100, 0])
        (tmp_path / "sys/devices/system/cpu/cpu0/cpu_capacity").write_text("fast")
        for name in ("cpu_core", "cpu_atom"):
            (tmp_path / "sys/devices" / name).mkdir()
            (tmp_path / "sys/devices" / name / "cpus").write_text("0-x")
        assert processor_kinds(tmp_path) == ()


class TestChoice:
    def test_none_leaves_it_to_the_system(self) -> None:
        choice = choose_processors("none")
        assert (choice.processors, choice.note) == (None, "")

    @needs_pinning
    def test_big_and_little_of_those_that_the_process_may_use(self, tmp_path: Path) -> None:
        machine(tmp_path, "cpu_capacity", [400, 400, 1024, 1024])
        assert choose_processors("big", tmp_path, [0, 1, 3]).processors == {3}
        assert choose_processors("little", tmp_path, [0, 1, 3]).processors == {0, 1}

    @needs_pinning
    @pytest.mark.parametrize(
        ("values", "allowed", "reason"),
        [
            ([1024, 1024], [0, 1], "all processors of this machine are of one kind"),
            ([], [0], "this system does not tell how fast its processors are"),
            ([400, 400, 1024], [0, 1], "this process may only use processors 0-1, none of which is big"),
        ],
    )
    def test_a_wish_that_can_not_be_kept_is_explained(
        self, tmp_path: Path, values: list[int | None], allowed: list[int], reason: str
    ) -> None:
        choice = choose_processors("big", machine(tmp_path, "cpu_capacity", values), allowed)
        assert choice.processors is None
        assert choice.note == f"affinity 'big' changes nothing: {reason}"

    def test_a_system_without_pinning_is_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_setaffinity", raising=False)
        assert "does not let a program choose the processors" in choose_processors("little").note
        assert pin_this_thread([0]) is False


@needs_pinning
class TestThreads:
    def test_a_thread_is_moved_and_comes_back(self) -> None:
        before = usable_processors()
        one = {min(before)}
        with pinned(one):
            assert usable_processors() == one
            with pinned(before):  # already within
                assert usable_processors() == one
        assert usable_processors() == before

    def test_processors_that_are_gone_are_told_and_survived(self, caplog: pytest.LogCaptureFixture) -> None:
        before = usable_processors()
        with pinned({1023}):
            assert usable_processors() == before
        assert "cannot be kept to processors 1023" in caplog.text

    def test_workers_and_the_caller_keep_to_them_during_a_run(self, sleep_kernel: int) -> None:
        before = usable_processors()
        one = frozenset({max(before)})
        marks, flag = np.zeros(3, np.int64), CancelFlag()
        plan = NativePlan([PlanStep(sleep_kernel, 0, 3, 3)] * 1000, [10_000, 0], [(1, 0, 0)])
        seen: dict[str, set[int]] = {}
        others = set(threading.enumerate()) - {threading.main_thread()}  # workers of sessions that were before

        def look() -> None:
            """Until all three keep to the processor, or for ten seconds (then the run ends too, and the test fails)."""
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and [*seen.values()].count(set(one)) < 3:
                for thread in set(threading.enumerate()) - others:
                    if thread.name.startswith(("MainThread", "mace-worker")) and thread.native_id is not None:
                        seen[thread.name] = os.sched_getaffinity(thread.native_id)
                time.sleep(0.005)
            flag.set()

        with ThreadPool(3, processors=one) as pool:
            looker = threading.Thread(target=look)
            looker.start()
            with pytest.raises(CancelledError):
                plan.new_instance().run([marks.ctypes.data], pool=pool, cancel=flag)
            looker.join()
        assert list(seen.values()) == [one] * 3, seen
        assert usable_processors() == before

    def test_sessions_share_a_pool_where_they_keep_to_the_same_processors(self) -> None:
        one = frozenset({min(usable_processors())})
        free, kept = shared_pool(2), shared_pool(2, one)
        assert free is not kept
        assert kept is shared_pool(3, one)
        assert kept.processors == one
        assert free.processors is None
        for pool in (free, kept, kept):
            release_shared(pool)

    def test_a_pool_has_as_many_threads_as_processors_by_default(self) -> None:
        assert ThreadPool(processors=frozenset({min(usable_processors())})).threads == 1

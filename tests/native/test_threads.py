"""The default number of threads: affinity and cgroup quotas count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mace_core.host.threads import cgroup_quota, default_threads


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_processors")
class TestDefaultThreads:
    def test_without_limits_it_is_the_number_of_processors(self, tmp_path: Path) -> None:
        assert default_threads(tmp_path) == 8

    def test_affinity_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
        assert default_threads(tmp_path) == 3

    def test_a_system_without_affinity(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        assert default_threads(tmp_path) == 8

    @pytest.mark.parametrize(
        ("quota", "threads"), [("150000 100000", 2), ("400000 100000", 4), ("10000 100000", 1), ("max 100000", 8)]
    )
    def test_a_quota_of_cgroup_v2_is_rounded_up(self, tmp_path: Path, quota: str, threads: int) -> None:
        write(tmp_path, {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": quota + "\n"})
        assert default_threads(tmp_path) == threads

    @pytest.mark.parametrize(("quota", "threads"), [("250000", 3), ("-1", 8)])
    def test_a_quota_of_cgroup_v1_is_rounded_up(self, tmp_path: Path, quota: str, threads: int) -> None:
        folder = "sys/fs/cgroup/cpu,cpuacct/docker/abc/"
        files = {
            "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
            folder + "cpu.cfs_quota_us": quota + "\n",
            folder + "cpu.cfs_period_us": "100000\n",
        }
        assert default_threads(write(tmp_path, files)) == threads


def test_a_limit_on_a_parent_group_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/app\n",
        "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
    }
    assert cgroup_quota(write(tmp_path, files)) == 1.5


def test_in_a_container_the_mount_itself_is_the_group(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/not/visible/here\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    assert cgroup_quota(write(tmp_path, files)) == 0.5


@pytest.mark.parametrize("content", ["", "nonsense", "max", "1 0", "-5 100000"])
def test_unreadable_limits_are_no_limits(tmp_path: Path, content: str) -> None:
    files = {"proc/self/cgroup": "0::/\nbroken\n", "sys/fs/cgroup/cpu.max": content}
    assert cgroup_quota(write(tmp_path, files)) is None


def test_this_machine() -> None:
    assert 1 <= default_threads() <= (os.cpu_count() or 1)

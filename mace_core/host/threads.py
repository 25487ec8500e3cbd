"""How many threads this process should use: what the machine has, less what affinity and cgroups take away."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path

from mace_core.host.processors import usable_processors


def default_threads(root: Path = Path("/"), *, processors: Collection[int] | None = None) -> int:
    """The least of: processors, processors this process may run on, and the cgroup's quota rounded up; at least 1.

    Args:
        root: where ``proc`` and ``sys`` are looked for.
        processors: those that the threads are kept to; None: all that the process may run on.
    """
    limits = [os.cpu_count() or 1, len(usable_processors() if processors is None else processors)]
    quota = cgroup_quota(root)
    if quota is not None:
        limits.append(math.ceil(quota))
    return max(1, min(limits))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Processors that the tightest cgroup limit (v1 or v2) on the way to the top grants; None where there is none."""
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            quotas += [_quota_v2(folder) for folder in _upwards(root / "sys/fs/cgroup", group)]
        elif "cpu" in controllers.split(","):
            for mount in (f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"):
                quotas += [_quota_v1(folder) for folder in _upwards(root / mount, group)]
    known = [quota for quota in quotas if quota is not None]
    return min(known) if known else None


def _upwards(mount: Path, group: str) -> list[Path]:
    """The group's folder and its parents up to the mount: a limit on any of them counts.  In a container the group
    named in ``/proc`` may not be visible; the mount itself then is the container's group."""
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """Processors; None for "max", -1 and anything unreadable."""
    if not (quota.isdigit() and period.isdigit()) or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

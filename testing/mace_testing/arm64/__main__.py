"""``python -m mace_testing.arm64``: an emulated arm64 machine with this checkout, and a command that runs there."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from mace_core.errors import MaceError, UsageError
from mace_testing.arm64 import debian, wheels
from mace_testing.arm64.machine import PROCESSOR, Machine, choose_machine, find_qemu, write_cpuinfo
from mace_testing.arm64.models import write_models
from mace_testing.arm64.stages import staged

CHECKOUT, EXPECTED = "/mnt/checkout", "/mnt/models"

_MAKERS_OF_MODELS = ("mace_core/testing", "testing/mace_testing/arm64/models.py", "constraints.txt")

_EPILOG = "Without a command, the tests that the checkout names in tests/arm64/chosen.txt run."


def main(arguments: list[str] | None = None) -> int:
    """The command's exit code; 2 where the machine cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m mace_testing.arm64", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--project", type=Path, default=Path(), help="the checkout (default: this folder)")
    parser.add_argument("--folder", type=Path, help="where the machine is kept (default: .cache/arm64 of the checkout)")
    parser.add_argument("--processor", default=PROCESSOR, help=f"as qemu names it (default {PROCESSOR})")
    parser.add_argument(
        "--no-mounts", action="store_true", help="let qemu start each program, even if mounts would work"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="tests at once")
    parser.add_argument("command", nargs="*", help="what runs there, after --: -- python3 -m mace_core.cli.main doctor")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        project = options.project.resolve()
        folder = (options.folder or project / ".cache/arm64").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            machine = prepare(project, folder, console, options.processor, mounts=not options.no_mounts)
            command = options.command or _chosen_tests(project, options.jobs)
            start = time.monotonic()
            code = machine.run(command, CHECKOUT)
            console.print(f"arm64 ({options.processor}): exit code {code} after {time.monotonic() - start:.0f} s")
            return code
    except Timeout:
        console.print(f"error: the machine in {folder} is in use; wait for it, or give another --folder")
    except (MaceError, OSError) as error:
        console.print(f"error: {error}")
    return 2


def prepare(project: Path, folder: Path, console: Console, processor: str, *, mounts: bool) -> Machine:
    """The machine, made of what is kept from the last time as far as that still holds.

    Raises:
        MaceError: where it cannot be made.
    """
    if not (project / "constraints.txt").exists():
        raise UsageError(f"--project {project}: this is no checkout of MACE, there is no constraints.txt")
    find_qemu()
    for part in folder.glob("*-part*"):
        shutil.rmtree(part)
    clock = _Clock(console)

    root = staged(folder, "root", "\n".join(debian.PACKAGES), debian.unpack_root)
    clock.tell("root folder")
    version, glibc = debian.python_version(root), wheels.glibc_minor(root)
    needed, constraints = wheels.requirements(project), project / "constraints.txt"
    key = "\n".join([*needed, constraints.read_text(encoding="utf-8"), f"{version} {glibc}"])
    site = staged(
        folder, "site", key, lambda target: wheels.install_wheels(target, needed, constraints, version, glibc)
    )
    clock.tell("wheels of others")
    own = ["mace_core", "plugins/cpu/mace_cpu", "testing/mace_testing", "*pyproject.toml", "README.md"]
    installed = staged(
        folder, "project", wheels.content_key(project, own), lambda target: wheels.install_project(target, project)
    )
    clock.tell("wheels of the project")
    checkout = _copy_tests(project, folder / "checkout")
    expected = staged(folder, "models", wheels.content_key(project, _MAKERS_OF_MODELS), write_models)
    clock.tell("models, with onnxruntime's results")
    write_cpuinfo(root)
    machine, reasons = choose_machine(
        root,
        {CHECKOUT: checkout, EXPECTED: expected},
        [site, installed],
        processor,
        {"PYTHONDONTWRITEBYTECODE": ""},
        mounts=mounts,
    )
    for reason in reasons:
        console.print(f"arm64: not run in a namespace of its own: {reason}")
    return machine


def _chosen_tests(project: Path, jobs: int) -> list[str]:
    return ["python3", "-m", "pytest", "-n", str(jobs), "--dist", "worksteal", "-m", "", "@tests/arm64/chosen.txt"]


def _copy_tests(project: Path, target: Path) -> Path:
    """What tests read of the checkout, as it is now; kernels compiled the last time stay in its ``.cache``."""
    wanted = set(wheels.sources(project))
    for path in wanted:
        source, copy = project / path, target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copy2(source, copy)
    for path in target.rglob("*"):
        relative = path.relative_to(target)
        if path.is_file() and relative.parts[0] != ".cache" and relative not in wanted:
            path.unlink()
    return target


class _Clock:
    """Tells what is done and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, time.monotonic()

    def tell(self, what: str) -> None:
        now = time.monotonic()
        self._console.print(f"arm64: {what} ({now - self._last:.1f} s)")
        self._last = now


if __name__ == "__main__":
    sys.exit(main())

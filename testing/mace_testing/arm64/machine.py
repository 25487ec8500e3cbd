"""Running programs of the root folder: in a namespace of mounts of their own, or each by qemu directly."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mace_core.errors import MaceError

PROCESSOR = "neoverse-n1"
"""qemu's "max" has SVE, with which numpy tells of floating-point errors that did not happen."""

CPUINFO = """processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0c
CPU revision\t: 1

"""
"""What Linux says of a Neoverse N1; qemu 7.2 would show the host's."""

_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

_OWN_BINFMT = """mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ':mace-arm64:M::{magic}:{mask}:{qemu}:PF' > /proc/sys/fs/binfmt_misc/register
"""

_MOUNTS = """mount --rbind /dev {root}/dev
mount --rbind /sys {root}/sys
mount -t proc proc {root}/proc
mount --bind {cpuinfo} {root}/proc/cpuinfo
{binds}exec chroot {root} /usr/bin/env -i {environment} /bin/sh -c 'cd "$0" && exec "$@"' {folder} "$@"
"""


def find_qemu() -> str:
    """The emulator of user programs, linked statically.

    Raises:
        MaceError: where there is none.
    """
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if found is None:
        raise MaceError("there is no qemu-aarch64-static here; install it: apt-get install qemu-user-static")
    return found


@dataclass(frozen=True)
class Machine:
    """An emulated machine.

    Attributes:
        root: its root folder.
        shared: folders of the host by their path on the machine. Without mounts they keep the host's path.
        packages: folders that Python finds packages in, of the host.
        processor: qemu's name.
    """

    root: Path
    shared: Mapping[str, Path]
    packages: Sequence[Path]
    processor: str = PROCESSOR
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """Where a shared folder is, for a program on the machine."""
        return name

    def command(self, arguments: Sequence[str], folder: str) -> list[str]:
        """The host's command that runs this one.

        Args:
            folder: where it runs, of those that are shared.
        """
        raise NotImplementedError

    def run(self, arguments: Sequence[str], folder: str) -> int:
        """Run a command, whose input and output are this process's; its exit code."""
        with subprocess.Popen(self.command(arguments, folder), env=self._host_environment(folder)) as process:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:  # it has heard it too, and ends in its own time
                    continue

    def works(self) -> str:
        """Why a command of the machine cannot be run this way; "" where it can."""
        command = self.command(["python3", "-c", "import sys; print(sys.version)"], "/")
        done = subprocess.run(command, capture_output=True, text=True, env=self._host_environment("/"), check=False)
        complaint = done.stderr.strip().splitlines()
        return "" if done.returncode == 0 else complaint[-1] if complaint else f"exit code {done.returncode}"

    def _host_environment(self, folder: str) -> dict[str, str]:
        return dict(os.environ)

    def _own_environment(self, packages: Sequence[str]) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONPATH": ":".join(packages),
            "QEMU_CPU": self.processor,
            **self.environment,
        }


@dataclass(frozen=True)
class NamespaceMachine(Machine):
    """With mounts and a handler for its programs that only this process and its children see.

    Attributes:
        private: with a user namespace, whose handlers for foreign programs are its own (Linux 6.7 and later; needs no
            rights). Else as root, with a handler that the system has.
    """

    private: bool = True

    def command(self, arguments: Sequence[str], folder: str) -> list[str]:
        packages = {f"/opt/packages{i}": path for i, path in enumerate(self.packages)}
        binds = {**packages, **self.shared}
        for inside in binds:
            (self.root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        cpuinfo = self.root / "cpuinfo"
        environment = [shlex.quote(f"{k}={v}") for k, v in self._own_environment([*packages]).items()]
        script = _MOUNTS.format(
            root=shlex.quote(str(self.root)),
            cpuinfo=shlex.quote(str(cpuinfo)),
            binds="".join(
                f"mount --rbind {shlex.quote(str(outside.resolve()))} {shlex.quote(str(self.root) + inside)}\n"
                for inside, outside in binds.items()
            ),
            environment=" ".join(environment),
            folder=shlex.quote(folder),
        )
        if self.private:
            script = _OWN_BINFMT.format(magic=_MAGIC, mask=_MASK, qemu=Path(find_qemu()).resolve()) + script
        spaces = [
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            *(["--user", "--map-root-user"] if self.private else []),
        ]
        return ["unshare", *spaces, "/bin/sh", "-e", "-c", script, "sh", *arguments]


@dataclass(frozen=True)
class DirectMachine(Machine):
    """Without rights and without mounts: qemu looks for files in the root folder first, and Python starts others of its
    kind through a script of the host."""

    def path(self, name: str) -> str:
        return str(self.shared[name])

    def command(self, arguments: Sequence[str], folder: str) -> list[str]:
        places = (self.root / place / arguments[0] for place in ("usr/bin", "bin"))
        program = next((path for path in places if path.exists()), None)
        if program is None:
            raise MaceError(f"there is no '{arguments[0]}' on the emulated machine")
        if arguments[0] == "python3":
            return [str(self._python()), *arguments[1:]]
        return [find_qemu(), "-cpu", self.processor, "-L", str(self.root), str(program.resolve()), *arguments[1:]]

    def run(self, arguments: Sequence[str], folder: str) -> int:
        """As in the base class; the folder becomes this process's own."""
        os.chdir(self.path(folder))
        return super().run(arguments, folder)

    def _python(self) -> Path:
        """A script that Python takes for itself: what it starts again is emulated too."""
        script = self.root.with_name("python3")
        program = (self.root / "usr/bin/python3").resolve()
        line = [find_qemu(), "-cpu", self.processor, "-L", str(self.root)]
        text = f'#!/bin/sh\nexec {shlex.join(line)} -0 "$0" {shlex.quote(str(program))} "$@"\n'
        if not script.exists() or script.read_text() != text:
            script.write_text(text)
            script.chmod(0o755)
        return script

    def _host_environment(self, folder: str) -> dict[str, str]:
        own = self._own_environment([str(path) for path in self.packages])
        return {**own, "PYTHONHOME": str(self.root / "usr")}


def write_cpuinfo(root: Path) -> None:
    """Put a stand-in for /proc/cpuinfo where each kind of machine reads it."""
    text = "".join(CPUINFO.format(number=i) for i in range(len(os.sched_getaffinity(0))))
    (root / "cpuinfo").write_text(text)
    (root / "proc/cpuinfo").write_text(text)


def choose_machine(
    root: Path,
    shared: Mapping[str, Path],
    packages: Sequence[Path],
    processor: str,
    environment: Mapping[str, str],
    *,
    mounts: bool,
) -> tuple[Machine, list[str]]:
    """The best kind of machine that works here, and why those before it do not.

    Raises:
        MaceError: where none works.
    """
    given = (root, shared, packages, processor, environment)
    kinds: list[Machine] = [DirectMachine(*given)]
    if mounts:
        kinds[:0] = [NamespaceMachine(*given), NamespaceMachine(*given, private=False)]
    reasons: list[str] = []
    for machine in kinds:
        reason = machine.works()
        if not reason:
            return machine, reasons
        reasons.append(reason)
    raise MaceError(f"no program of the emulated machine runs: {'; '.join(reasons)}")

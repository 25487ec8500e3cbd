"""Making a shared library, and looking at it before it takes its place."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.ahead_of_time.linking.checks import clear_float_flags, read_library
from mace_core.ahead_of_time.linking.errors import LinkError
from mace_core.ahead_of_time.linking.linkers import Linker, Machine, find_linker, machine_of

_LINES_TOLD = 3


@dataclass(frozen=True)
class LinkedLibrary:
    """A shared library that was made.

    Attributes:
        linker: what made it, in words.
        undefined: functions of the C library that it calls.
    """

    path: Path
    linker: str
    nbytes: int
    undefined: tuple[str, ...]


def link_shared(
    objects: Sequence[Path], target: str, out: Path, exports: Sequence[str], linker: str | None = None
) -> LinkedLibrary:
    """Make a shared library of objects or archives, named in itself as its file is.

    Args:
        target: as `mace compile` takes it.
        out: ``libNAME.so``; it is whole or what it was before.
        exports: functions that programs may call; all else becomes hidden.
        linker: a program that the user named; None finds one.

    Raises:
        UsageError: for a linker that is not there, or an unknown target.
        LinkerMissingError: where none is found.
        LinkError: where it fails, or what it made would not be loaded or would compute nonsense.
    """
    machine, chosen = machine_of(target), find_linker(target, linker)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made, script = Path(folder) / out.name, Path(folder) / "exports"
        script.write_text(f"{{ global: {''.join(f'{name}; ' for name in exports)}local: *; }};\n", encoding="utf-8")
        command = _command(chosen, machine, objects, made, script, exports)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
            )
        except OSError as error:  # no program after all, or of another system
            raise LinkError(
                f"'{out.name}' for {target}: the linker {chosen} cannot be started: {error.strerror or error}; name "
                "another one with --linker"
            ) from error
        if done.returncode or not made.exists():
            told = "; ".join((done.stderr or done.stdout).strip().splitlines()[:_LINES_TOLD]) or "it says nothing"
            raise LinkError(f"'{out.name}' for {target}: the linker {chosen} failed ({done.returncode}): {told}")
        clear_float_flags(made, machine)
        facts = read_library(made)
        if wrong := list(facts.complaints(machine, exports)):
            raise LinkError(f"'{out.name}' for {target}, made by {chosen}, cannot be used: {'; '.join(wrong)}")
        made.chmod(0o644)
        made.replace(out)
    return LinkedLibrary(out, str(chosen), out.stat().st_size, facts.undefined)


def _command(
    linker: Linker, machine: Machine, objects: Sequence[Path], out: Path, script: Path, exports: Sequence[str]
) -> list[str]:
    options = [
        *("-soname", out.name),
        *("--version-script", str(script)),
        *(option for name in exports for option in ("-u", name)),  # taken out of an archive, too
        *("-z", "text", "-z", "noexecstack", "-z", "relro", "-z", "now", "-z", "noseparate-code"),
        *("-z", f"max-page-size={machine.page_bytes}"),
        *("--hash-style", "both"),  # systems before Android 6 know the old one alone
        *("--build-id=sha1", "--strip-debug"),
    ]
    files = ["-o", str(out), *map(str, objects)]
    if linker.is_driver:
        return [*linker.command, "-shared", "-nostdlib", *(f"-Wl,{option}" for option in options), *files]
    return [*linker.command, "-shared", *options, *files]

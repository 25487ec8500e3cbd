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
from mace_core.native.compiler import compile_module
from mace_core.native.named_targets import named_target

_LINES_TOLD = 3
_NOTHING = "define void @mace_nothing() {\n  ret void\n}\n"


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
    objects: Sequence[Path],
    target: str,
    out: Path,
    exports: Sequence[str],
    linker: str | None = None,
    needed: Sequence[str] = (),
) -> LinkedLibrary:
    """Make a shared library of objects or archives, named in itself as its file is.

    Args:
        target: as `mace compile` takes it.
        out: ``libNAME.so``; it is whole or what it was before.
        exports: functions that programs may call; all else becomes hidden.
        linker: a program that the user named; None finds one.
        needed: libraries that it asks for when it is loaded; usually none, so that it suits any C library.

    Raises:
        UsageError: for a linker that is not there, or an unknown target.
        LinkerMissingError: where none is found.
        LinkError: where it fails, or what it made would not be loaded or would compute nonsense.
    """
    machine, chosen = machine_of(target), find_linker(target, linker)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made, script = Path(folder) / out.name, Path(folder) / "exports"
        script.write_text(f"{{ global: {''.join(f'{name}; ' for name in exports)}local: *; }};\n", encoding="utf-8")
        stubs = [_stub(Path(folder), name, target, chosen) for name in needed]
        _link(chosen, _options(machine, out.name, script, exports), [*objects, *stubs], made, target)
        clear_float_flags(made, machine)
        facts = read_library(made)
        if wrong := list(facts.complaints(machine, exports, needed)):
            raise LinkError(f"'{out.name}' for {target}, made by {chosen}, cannot be used: {'; '.join(wrong)}")
        made.chmod(0o644)
        made.replace(out)
    return LinkedLibrary(out, str(chosen), out.stat().st_size, facts.undefined)


def _stub(folder: Path, name: str, target: str, linker: Linker) -> Path:
    """A library of this name with nothing in it: what is linked with it asks for the real one."""
    empty, out = folder / f"{name}.o", folder / "stubs" / name
    empty.write_bytes(compile_module(_NOTHING, ["mace_nothing"], name, named_target(target).target))
    out.parent.mkdir(exist_ok=True)
    _link(linker, ["-soname", name], [empty], out, target)
    return out


def _link(linker: Linker, options: Sequence[str], files: Sequence[Path], out: Path, target: str) -> None:
    if linker.is_driver:
        options = ["-nostdlib", *(f"-Wl,{option}" for option in options)]
    command = [*linker.command, "-shared", *options, "-o", str(out), *map(str, files)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:  # no program after all, or of another system
        raise LinkError(
            f"'{out.name}' for {target}: the linker {linker} cannot be started: {error.strerror or error}; name "
            "another one with --linker"
        ) from error
    if done.returncode or not out.exists():
        told = "; ".join((done.stderr or done.stdout).strip().splitlines()[:_LINES_TOLD]) or "it says nothing"
        raise LinkError(f"'{out.name}' for {target}: the linker {linker} failed ({done.returncode}): {told}")


def _options(machine: Machine, name: str, script: Path, exports: Sequence[str]) -> list[str]:
    return [
        *("-soname", name),
        *("--version-script", str(script)),
        *(option for name in exports for option in ("-u", name)),  # taken out of an archive, too
        *("-z", "text", "-z", "noexecstack", "-z", "relro", "-z", "now", "-z", "noseparate-code"),
        *("-z", f"max-page-size={machine.page_bytes}"),
        *("--hash-style", "both"),  # systems before Android 6 know the old one alone
        *("--build-id=sha1", "--strip-debug", "--no-as-needed"),
    ]

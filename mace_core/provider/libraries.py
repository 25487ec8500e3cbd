"""Looks for shared libraries where the system's loader would, without loading them: what a cheap probe needs."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

_PATH_VARIABLE = {"win32": "PATH", "cygwin": "PATH", "darwin": "DYLD_LIBRARY_PATH"}.get(sys.platform, "LD_LIBRARY_PATH")
_CONFIGURATION = "/etc/ld.so.conf"


def library_directories() -> list[Path]:
    """Directories the loader searches, in its order, those that exist only.

    A relative one is left out, and so is the current directory, which an empty part of the variable stands for: a
    library that lies beside a downloaded model is not to be loaded.
    """
    given = [Path(part) for part in os.environ.get(_PATH_VARIABLE, "").split(os.pathsep)]
    places = dict.fromkeys((*filter(Path.is_absolute, given), *_system_directories()))
    return [directory for directory in places if directory.is_dir()]


def find_library(names: Iterable[str], *, directories: Sequence[Path] = ()) -> Path | None:
    """The first of ``names`` that is a file; ``directories`` are searched before the loader's own.

    A name outranks a directory: the first name is looked for everywhere before the second.  An absolute name is only
    looked at itself.
    """
    places = [*directories, *library_directories()]
    for name in names:
        candidates = [Path(name)] if Path(name).is_absolute() else [directory / name for directory in places]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None


@functools.cache
def _system_directories() -> tuple[Path, ...]:
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32",)
    if sys.platform == "darwin":
        return tuple(Path(p) for p in ("/usr/local/lib", "/opt/homebrew/lib", "/usr/lib"))
    if hasattr(sys, "getandroidapilevel") or Path("/system/build.prop").exists():
        width = "lib64" if sys.maxsize > 2**32 else "lib"
        return tuple(Path(root) / width for root in ("/vendor", "/odm", "/system", "/system/vendor", "/apex"))
    configured = _read_configuration(Path(_CONFIGURATION), set())
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    usual = [f"/lib/{triplet}", f"/usr/lib/{triplet}"] if triplet else []
    usual += ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"]
    return tuple(dict.fromkeys((*configured, *map(Path, usual))))


def _read_configuration(path: Path, seen: set[Path]) -> list[Path]:
    """Directories named by an ld.so.conf and the files it includes; an unreadable file adds none."""
    if path in seen:
        return []
    seen.add(path)
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                absolute = Path(pattern) if Path(pattern).is_absolute() else path.parent / pattern
                for included in sorted(absolute.parent.glob(absolute.name)):
                    found += _read_configuration(included, seen)
        elif words and words[0] != "hwcap":
            found.append(Path(words[0]))
    return found

"""Starting Python processes that run no code out of the folder in which they happen to be started.

``python -c`` and ``python -m`` put the current folder first on the path of modules, and an empty part of PYTHONPATH
means it too: a ``json.py`` that lies beside a downloaded model would be run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mace_core

_TAKE_PATH = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "

_SAFE_PATH = "PYTHONSAFEPATH"
_environment_lock = threading.Lock()


def python_command(code: str, *arguments: str) -> list[str]:
    """A command line for an isolated interpreter (``-I``) that finds the modules that this process finds.

    Args:
        code: what it is to run; it may be longer than a line.
        arguments: become ``sys.argv[1:]``.
    """
    return [sys.executable, "-I", "-c", _TAKE_PATH + code, json.dumps(module_path()), *arguments]


def module_path() -> list[str]:
    """``sys.path`` for a child: without the current folder, unless PYTHONPATH names it or this program's file lies
    there, but with the folder that this package is in."""
    wanted = {part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(part).is_absolute()}
    main = sys.modules.get("__main__")
    if main is not None and getattr(main, "__spec__", None) is None and getattr(main, "__file__", None):
        wanted.add(os.path.dirname(os.path.realpath(str(main.__file__))))  # noqa: PTH120 - as Python itself made it
    found = [entry for entry in sys.path if entry in wanted or not _is_here(entry)]
    package = str(Path(mace_core.__path__[0]).parent)
    return found if package in found else [*found, package]


class ChildFailedError(Exception):
    """A child ended without an answer.

    Attributes:
        code: its exit code; negative: the number of the signal that ended it.
        said: the end of what it wrote on standard error, where that was kept.
    """

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"it ended with code {code}" + (f": {said.splitlines()[-1]}" if said else ""))
        self.code = code
        self.said = said


def ask_child(code: str, question: Mapping[str, Any], *, keeps_quiet: bool = False) -> Any:
    """Have a fresh Python process answer a question; both are JSON.

    Whatever the process and its libraries print cannot be taken for the answer.  If this process is interrupted, the
    child is ended.

    Args:
        code: what it runs; a function ``answer(question)`` has to be defined by it.
        question: for it.
        keeps_quiet: keep what it writes on standard error for `ChildFailedError`, instead of letting it through.

    Raises:
        ChildFailedError: if it ends without an answer.
        OSError: if it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="mace-") as folder, tempfile.TemporaryFile() as complaints:
        target = Path(folder) / "answer.json"
        process = subprocess.Popen(
            python_command(f"\n{code}\n{_ANSWER}", str(target)),
            stdin=subprocess.PIPE,
            stdout=complaints if keeps_quiet else _STANDARD_ERROR,
            stderr=complaints if keeps_quiet else None,
        )
        try:
            process.communicate(json.dumps(question).encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
        try:
            text = target.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        if process.returncode or not text:
            complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - _MOST_COMPLAINT_BYTES))
            raise ChildFailedError(process.returncode, complaints.read().decode(errors="replace").strip())
        return json.loads(text)


_ANSWER = """
import json as _json, os as _os, sys as _sys
_target = _sys.argv.pop(1)  # what is asked may set others
_found = _json.dumps(answer(_json.load(_sys.stdin)))
with open(_target + ".new", "w", encoding="utf-8") as _file:
    _file.write(_found)
_os.replace(_target + ".new", _target)
"""

_MOST_COMPLAINT_BYTES = 1 << 16
_STANDARD_ERROR = 2
"""The descriptor: `sys.stderr` may be an object that has none."""


@contextlib.contextmanager
def safe_spawn() -> Iterator[None]:
    """While the body runs, processes of ``multiprocessing`` are started without the current folder on their path; they
    get the path of this process afterwards, which is that of `module_path` if it is started as ``mace`` is."""
    with _environment_lock:
        before = os.environ.get(_SAFE_PATH)
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_SAFE_PATH]
            else:
                os.environ[_SAFE_PATH] = before


def _is_here(entry: str) -> bool:
    """Whether an entry of the path of modules stands for the current folder, now or wherever a child is started."""
    if not os.path.isabs(entry):  # noqa: PTH117 - "" is not a Path
        return True
    try:
        return os.path.samefile(entry, os.curdir)  # noqa: PTH121
    except OSError:
        return False

"""Processes of the `mace` command that begin with the packages of others imported, which is most of a short one's time.

One process imports them and forks for each command.  Nothing of MACE is imported before the fork, so that a command
finds its environment, its folder and its arguments as one that a shell starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "OPENBLAS_")
"""Beginnings of variables that are read when an interpreter or a package starts."""

SERVER = """
import contextlib, importlib, json, os, sys

for name in (
    "google.protobuf", "ml_dtypes", "numpy", "onnx", "onnx.reference", "onnx.reference.ops.op_abs", "onnx.numpy_helper",
    "pluggy", "psutil", "pydantic", "rich.console", "rich.table", "rich.progress", "stevedore", "typer",
):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)


def serve():
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    while line := requests.readline():
        child = os.fork()
        if not child:
            for stream in (requests, answers):
                stream.close()
            return json.loads(line)
        print(child, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    os._exit(0)


request = serve()
os.chdir(request["folder"])
os.environ.clear()
os.environ.update(request["environment"])
for number, (name, flags) in enumerate(
    ((os.devnull, os.O_RDONLY), (request["out"], os.O_WRONLY), (request["err"], os.O_WRONLY))
):
    opened = os.open(name, flags)
    os.dup2(opened, number)
    os.close(opened)
sys.argv[1:] = request["arguments"]
sys.path[0] = request["folder"]
del number, name, flags, opened, request, serve

import runpy

runpy.run_module("mace_core.cli.main", run_name="__main__", alter_sys=True)
"""


class Commands:
    """Runs commands, each in a process of its own."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def run(self, arguments: Sequence[str], folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` of the command in ``folder`` with this process's environment.

        Raises:
            subprocess.TimeoutExpired: if it takes longer than ``timeout`` seconds; it is ended.
        """
        command = [sys.executable, "-m", "mace_core.cli.main", *arguments]
        if self._server is None and hasattr(os, "fork"):
            self._environment = _at_start()
            self._server = subprocess.Popen(
                [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        if self._server is None or _at_start() != self._environment:
            return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=timeout)
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            out.touch()
            err.touch()
            code = self._asked(
                self._server,
                {
                    "arguments": list(arguments),
                    "folder": str(folder),
                    "environment": dict(os.environ),
                    "out": str(out),
                    "err": str(err),
                },
                timeout,
            )
            if code is None:
                raise subprocess.TimeoutExpired(command, timeout, out.read_bytes(), err.read_bytes())
            return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())

    def _asked(self, server: subprocess.Popen[bytes], request: dict[str, Any], timeout: float) -> int | None:
        """The exit code; None where the process had to be ended."""
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(request).encode() + b"\n")
        child = int(server.stdout.readline())
        ended = bool(select.select([server.stdout], [], [], timeout)[0])
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = int(server.stdout.readline())
        return code if ended else None

    def close(self) -> None:
        """End the process that forks."""
        if self._server is not None:
            self._server.communicate()
            self._server = None


def _at_start() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(AT_START)}

"""A process that is stopped while it compiles goes without a word of its helpers, and they go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")

SECONDS = 120

KERNELS = """
    import functools, time
    from mace_core.native.source import KernelSource

    def text_of(symbol, target):
        time.sleep(0.1)
        return "define void @" + symbol + "(ptr %a, i64 %b, i64 %e, i64 %c) {\\n ret void\\n}"

    def sources():
        return [KernelSource(f"many_{i}", "1", functools.partial(text_of, f"many_{i}")) for i in range(400)]
"""
PROGRAM = """
    import signal, sys
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which tests may run, has it ignored
    from kernels import sources
    from mace_core.native import builder
    from mace_core.native.target import host_target

    class Work(builder._Work):
        def built(self, source, image):
            super().built(source, image)
            print("built by a helper\\n", end="", flush=True)  # one write: threads do so at once

    builder._Work = Work
    try:
        builder.build_objects(sources(), host_target(), lambda source, image: None)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL"])
@pytest.mark.parametrize("to_all", [False, True], ids=["process", "group"])
def test_stopped_while_compiling(tmp_path: Path, name: str, to_all: bool) -> None:
    (tmp_path / "kernels.py").write_text(textwrap.dedent(KERNELS))
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    environment = {**os.environ, "MACE_BUILD_PROCESSES": "3"}
    running = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "built by a helper\n"
        helpers = psutil.Process(running.pid).children()
        assert helpers
        number = getattr(signal, name)
        (os.killpg if to_all else os.kill)(running.pid, number)
        _, said = running.communicate(timeout=SECONDS)
    finally:
        running.kill()
    assert running.returncode == (130 if name == "SIGINT" else -number)
    assert said == ""
    _, left = psutil.wait_procs(helpers, timeout=SECONDS)
    assert left == []

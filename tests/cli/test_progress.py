"""Lengthy work shows how far it has come, on a terminal only."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from mace_core.cli.progress_bar import progress_bar
from mace_core.progress import listening, report


def shown(patience: float, steps: int = 4) -> str:
    """What a terminal gets while work is done in so many steps of 60 ms."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with progress_bar("Loading [a].onnx", screen=screen, patience=patience):
        for done in range(steps + 1):
            report("compiling kernels", done, steps)
            time.sleep(0.06)
            if done == steps - 1 and patience < 1:
                until_drawn(screen, f"{done}/{steps}")
        time.sleep(0.15)
    text = screen.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def until_drawn(screen: Console, words: str) -> None:
    """Until the bar shows it; whoever draws may have to wait for a turn."""
    assert isinstance(screen.file, io.StringIO)
    limit = time.monotonic() + 60
    while words not in screen.file.getvalue() and time.monotonic() < limit:
        time.sleep(0.01)


def test_work_that_takes_long_gets_a_bar_and_the_bar_goes() -> None:
    text = shown(patience=0.05)
    assert "Loading [a].onnx: compiling kernels" in text
    assert re.search(r"━.* [23]/4", text)
    last = [part for part in re.split(r"\r|\n", text) if "Loading" in part][-1]
    assert "kernels" not in last
    assert "/4" not in last


def test_work_that_is_soon_done_gets_none() -> None:
    text = shown(patience=5)
    assert "Loading [a].onnx" in text
    assert "compiling" not in text


def test_reports_without_a_listener_go_nowhere_and_listeners_end() -> None:
    report("anything", 1, 2)
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *told: heard.append(told)):
        report("work", 1, 3)
    report("work", 2, 3)
    assert heard == [("work", 1, 3)]


def test_kernels_that_are_built_are_reported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from conftest import COUNT, SLEEP\n"
        "from mace_core.native.kernel import load_kernels\n"
        "from mace_core.progress import listening\n"
        "with listening(lambda *told: print(*told, sep='|')):\n"
        "    load_kernels([COUNT, SLEEP])\n"
        "    load_kernels([COUNT, SLEEP])\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1] / "native")]
    environment = os.environ | {"MACE_CACHE_DIR": str(tmp_path)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("\n")
    assert told == ["compiling kernels|0|2", "compiling kernels|1|2", "compiling kernels|2|2", ""]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert again == ""  # from the cache


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_first_run_of_a_model_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    import pty

    from mace_core.testing.models import PP_OCR_REC, find_packaged_model

    model = str(find_packaged_model(*PP_OCR_REC))
    ours, theirs = pty.openpty()
    environment = os.environ | {
        "MACE_CACHE_DIR": str(tmp_path), "MACE_PLUGINS": "cpu", "MACE_BUILD_PROCESSES": "1", "TERM": "xterm",
        "COLUMNS": "120",
    }  # fmt: skip
    command = [sys.executable, "-m", "mace_core.cli.main", "run", model, "--random", "--shape", "1x3x48x320"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # how the end of a pseudo-terminal shows on Linux
        pass
    finally:
        os.close(ours)
    assert running.wait(60) == 0
    assert "compiling kernels" in text.decode(errors="replace")

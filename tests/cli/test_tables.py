"""What commands print fits the terminal that it is printed on."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.cells import cell_len

from mace_core.cli.main import main

Show = Callable[..., str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command sets up logging for its process, which is the tests' here."""
    logger = logging.getLogger("mace")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """``show(40, "run", …)``: what the command prints on a terminal of 40 columns; None: into a pipe."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(width: int | None, *arguments: str) -> str:
        screen = io.StringIO() if width is None else Terminal()
        monkeypatch.setenv("COLUMNS", str(width or 40))
        monkeypatch.setattr(sys, "stdout", screen)
        assert main(arguments) in (0, 3)
        return screen.getvalue()

    return run


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Fifteen nodes with long names, each a result of the model."""
    names = ["x", *(f"a_rather_long_name_of_a_value_number_{index}" for index in range(15))]
    nodes = [
        helper.make_node(
            "Neg" if index % 2 else "Abs", [names[index]], [names[index + 1]], name=f"/block.{index}/{'n' * 30}"
        )
        for index in range(15)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in names]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    path = tmp_path / "chain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    return path


NATIVE = ("--device", "reference")
COMMANDS = [
    ("run", "chain.onnx", "--random", *NATIVE),
    ("inspect", "chain.onnx"),
    ("explain", "chain.onnx", *NATIVE),
    ("accuracy", "chain.onnx", "--against", "reference", "--runs", "1", *NATIVE),
    ("validate", "chain.onnx", "--random", "--layers", *NATIVE),
    ("benchmark", "chain.onnx", "--runs", "2", "--warmup", "0", *NATIVE),
    ("devices",),
    ("plugins",),
    ("doctor",),
    ("cache", "list"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_line_fits_forty_columns(show: Show, chain: Path, command: tuple[str, ...]) -> None:
    text = show(40, *command)
    assert text.strip()
    assert [line for line in text.splitlines() if cell_len(line) > 40] == []


@pytest.mark.parametrize("width", [40, 120])
def test_wider_terminals_show_more_columns(show: Show, chain: Path, width: int) -> None:
    text = show(width, "benchmark", "chain.onnx", "--runs", "1", "--warmup", "0", *NATIVE)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert ("not shown for lack of room" in text) == (width == 40)


def test_a_pipe_gets_whole_names_whatever_the_terminal(show: Show, chain: Path) -> None:
    text = show(None, "benchmark", "chain.onnx", "--runs", "1", "--warmup", "0", "--all", *NATIVE)
    assert "\x1b" not in text
    assert text.count("n" * 30) >= 30  # each operation in both orders
    assert "not shown" not in text


@pytest.mark.parametrize("command", ["run", "explain", "accuracy", "validate", "benchmark"])
def test_ten_rows_unless_all_are_asked_for(show: Show, chain: Path, command: str) -> None:
    (line,) = [line for line in COMMANDS if line[0] == command]
    short, whole = show(None, *line), show(None, *line, "--all")
    assert "--all" in short
    assert "--all" not in whole
    assert len(whole.splitlines()) > len(short.splitlines())


def test_a_real_terminal_is_asked_for_its_width(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are a thing of Unix")
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 40, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    command = [sys.executable, "-P", "-m", "mace_core.cli.main", "plugins"]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment
    ) as process:
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            parts.append(part)
        os.close(leader)
    assert process.returncode == 0
    lines = b"".join(parts).decode().replace("\r\n", "\n").splitlines()
    assert "reference" in "".join(lines)
    assert max(map(cell_len, lines)) <= 40

"""The fenced blocks of the documentation: finding them, and running them as a reader would.

A block is run by its language:

* ``python``: executed; the blocks of a page share their names, in order.
* ``bash``: every line is a command that must succeed.
* ``console``: every ``$ command`` must succeed and print what is shown.  Figures may differ; a line ``…`` stands for
  any number of lines, and ``…`` at the end of a line for the rest of it.
* ``diff``: the lines that it adds stand in the files that it names.
* ``toml``, ``json``, ``yaml``: must parse.
* ``c``: a file that the blocks after it compile.
* ``text``, ``mermaid``: not code; ``text`` may not look like a command.

A comment before the block says otherwise:

* ``<!-- file: PATH -->``: the block is written to PATH, for the blocks after it.
* ``<!-- code: PATH -->``: the block is what the file PATH of this repository holds.
* ``<!-- not run: REASON -->``: the block cannot be run by a test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
LANGUAGES = {"python", "bash", "c", "cpp", "cmake", "console", "diff", "toml", "json", "yaml", "text", "mermaid"}
MARKER = re.compile(r"^<!-- (file|code|not run): (.+) -->$")
FIGURE = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
SPACE = re.compile(r"[ \t]+|─+")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it is, what it is, and what the comment before it says."""

    page: Path
    line: int
    language: str
    text: str
    marker: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page with code for a reader."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    found += [ROOT / folder / "README.md" for folder in ("benchmarks", "testing")]
    for pattern in ("docs/**/*.md", "examples/*/README.md", "plugins/*/README.md"):
        found += ROOT.glob(pattern)
    return sorted(found)


def blocks(page: Path) -> list[Block]:
    """The fenced and indented blocks of ``page``, in order."""
    found, marker, argument = [], "", ""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block" and (read := MARKER.match(token.content.strip())):
            marker, argument = read.groups()
            continue
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip()  # an indented block has none
            found.append(Block(page, token.map[0] + 1, language, token.content, marker, argument))
        if token.nesting != -1:
            marker, argument = "", ""
    return found


@dataclass
class Reader:
    """Somebody who follows a page from top to bottom in ``folder``."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, block: Block) -> bool:
        """Do what ``block`` says.

        Returns:
            Whether it could be done here.

        Raises:
            AssertionError: if it fails, or prints something else.
        """
        match block.marker, block.language:
            case "not run", _:
                return False
            case "file", _:
                path = self.folder / block.argument
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            case "code", _:
                assert block.text == (ROOT / block.argument).read_text(encoding="utf-8"), f"{block}: the file differs"
            case _, "python":
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile("\n" * block.line + block.text, str(block.page), "exec"), self.names)
            case _, "bash":
                for command in commands(block.text):
                    self.run(block, command)
            case _, "console":
                for command, shown in sessions(block.text):
                    printed = self.run(block, command)
                    assert agrees(shown, printed), f"{block}: '{command}' printed\n{printed}\ninstead of\n{shown}"
            case _, "diff":
                for path, added in additions(block.text):
                    assert added in (ROOT / path).read_text(encoding="utf-8"), f"{block}: not in {path}:\n{added}"
            case _, "c":
                raise AssertionError(f"{block}: say which file it is, and compile it")
            case _, "toml":
                tomllib.loads(block.text)
            case _, "json":
                json.loads(block.text)
            case _, "yaml":
                yaml.safe_load(block.text)
        return True

    def run(self, block: Block, command: str) -> str:
        """What ``command`` prints; the `mace` command runs in this process."""
        program, *arguments = shlex.split(command, comments=True)
        if program in ("mace", "mace_run"):
            from mace_core.cli.mace_run import main as mace_run
            from mace_core.cli.main import main

            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                code = (main if program == "mace" else mace_run)(arguments)
            printed = output.getvalue()
        else:
            interpreters = {"python": sys.executable, "bash": "bash"}
            assert program in interpreters, (
                f"{block}: nobody here runs '{program}'; mark the block as not run, with a reason"
            )
            path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # where `mace` is
            ran = subprocess.run(
                [interpreters[program], *arguments],
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            code, printed = ran.returncode, ran.stdout + ran.stderr
        bad = any(word in block.text for word in ("mace: error", "DIVERGES", "not mended: "))
        assert (code != 0) == bad, f"{block}: '{command}' ended with {code}\n{printed}"
        return printed


def commands(text: str) -> Iterator[str]:
    """The lines of a ``bash`` block; a backslash joins a line to the next."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def sessions(text: str) -> Iterator[tuple[str, str]]:
    """Commands of a ``console`` block, and what they are shown to print."""
    assert text.startswith("$ ")
    for part in text.removeprefix("$ ").split("\n$ "):
        command, _, shown = part.replace("\\\n", " ").partition("\n")
        yield command, shown


def additions(text: str) -> Iterator[tuple[str, str]]:
    """The pieces that a diff adds, each with its file."""
    for section in text.split("diff --git ")[1:]:
        path = re.search(r"^\+\+\+ b/(.+)$", section, re.MULTILINE)
        assert path is not None
        body = section[path.end() :]
        for piece in re.findall(r"(?:^\+.*\n)+", body, re.MULTILINE):
            yield path[1], re.sub(r"^\+", "", piece, flags=re.MULTILINE)


def agrees(shown: str, printed: str) -> bool:
    """Whether ``printed`` is what ``shown`` says, but for figures, widths and what ``…`` stands for."""
    lines = [shape(line) for line in shown.splitlines() if line.strip()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line.removesuffix("…")) + (".*\n" if line.endswith("…") else r"\n")
        for line in lines
    )
    whole = "".join(shape(line) + "\n" for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, whole) is not None


def shape(line: str) -> str:
    """A line without its figures and widths."""
    return SPACE.sub(" ", FIGURE.sub("#", line)).strip()

"""Where the Python environment of rknn-toolkit2 is; nothing is started."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MACE_RKNN_PYTHON"
"""Names the Python of the environment that has the toolkit."""

HINT = (
    "make an environment of its own ('python3.11 -m venv rknn', 'rknn/bin/pip install rknn-toolkit2') and set "
    f"{VARIABLE}=.../rknn/bin/python"
)


def interpreter() -> Path | None:
    """The Python that the environment variable names; None where it is not set."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None


def why_unusable(python: Path) -> str | None:
    """Why a Python cannot run the toolkit, as far as its files tell; None if it can."""
    if not python.is_file():
        return f"{python} is not a file"
    if not os.access(python, os.X_OK):
        return f"{python} cannot be executed"
    if package(python) is None:
        return f"rknn-toolkit2 is not installed in the environment of {python}"
    return None


def package(python: Path) -> Path | None:
    """The folder of the package ``rknn`` in the environment of a Python."""
    root = python.parent.parent  # not resolved: the interpreter of a venv is a link out of it
    return next(iter(sorted(root.glob("lib/python3.*/site-packages/rknn"))), None)

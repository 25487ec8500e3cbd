"""The JSON that commands print: one object, whose first keys are the same everywhere.

``schema_version`` counts changes that a reader would notice (a key that goes or changes its meaning; new keys do not
count), ``command`` says who wrote it.  A command that fails writes ``error`` instead of its findings.  Numbers that are
not finite are strings: see `mace_core.json_values`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mace_core.json_values import json_value

SCHEMA_VERSION = 1


def document(command: str, findings: Mapping[str, Any]) -> dict[str, Any]:
    """What a command prints that worked."""
    return {"schema_version": SCHEMA_VERSION, "command": command, **findings}


def error_document(command: str, kind: str, message: str, exit_code: int) -> dict[str, Any]:
    """What a command prints that failed."""
    return document(command, {"error": {"type": kind, "message": message, "exit_code": exit_code}})


def to_json(value: Any) -> str:
    """``value`` as JSON that any reader takes; ends in a newline."""
    return json.dumps(json_value(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def print_json(command: str, findings: Mapping[str, Any]) -> None:
    """The document of ``command`` on standard output."""
    sys.stdout.write(to_json(document(command, findings)))


def write_json(path: Path, command: str, findings: Mapping[str, Any]) -> None:
    """The document of ``command`` in a file; what was there before stays until the new one is whole.

    Raises:
        UsageError: if the file cannot be written.
    """
    from mace_core.cli.written_files import write_whole

    write_whole(path, to_json(document(command, findings)).encode(), "--json-file")

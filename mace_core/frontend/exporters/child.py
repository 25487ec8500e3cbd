"""What runs in the process of an exporter."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LONGEST = 400


def exported(question: Mapping[str, Any]) -> dict[str, str]:
    """Who wrote the file, or what went wrong."""
    export = importlib.import_module(question["module"]).export
    try:
        by = export(Path(question["path"]), Path(question["target"]))
        if not Path(question["target"]).is_file():
            return {"error": "the exporter wrote nothing", "trace": ""}
    except Exception as error:  # frameworks raise anything: it is told to the user
        return {"error": reason(error), "kind": type(_root(error)).__name__, "trace": traceback.format_exc()}
    return {"by": by}


def reason(error: BaseException) -> str:
    """One line: what the innermost cause says, which is what the exporter stumbled on."""
    root = _root(error)
    lines = [line.strip() for line in str(root).splitlines() if line.strip()]
    said = " ".join(lines[:3]) if lines else "it says nothing"
    return f"{type(root).__name__}: {said if len(said) <= _LONGEST else said[:_LONGEST] + '…'}"


def _root(error: BaseException) -> BaseException:
    seen = {id(error)}
    while (inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        if id(inner) in seen:
            break
        seen.add(id(inner))
        error = inner
    return error

"""One HTML page with everything about a profiled model, that needs nothing else to be looked at."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.host.files import replacing
from mace_core.json_values import json_value
from mace_core.report.graph_library import LayoutLibrary, layout_library
from mace_core.report.page_data import page_data

if TYPE_CHECKING:
    from mace_core.report.measuring import ModelProfile

_PROGRAM = (
    "common.js",
    "base.js",
    "details.js",
    "viewport.js",
    "layout.js",
    "graph.js",
    "timeline.js",
    "memory.js",
    "tables.js",
    "main.js",
)
"""The parts of the page's program, in the order in which they build on each other."""


def write_page(path: Path, found: ModelProfile, *, graph: bool = True) -> None:
    """Write the page; what was there before stays as it was until the new one is whole.

    Args:
        graph: with the picture of the graph, which needs a library (``pip install 'mace-core[profile]'``).

    Raises:
        UsageError: if the file cannot be written, or the library is not installed.
    """
    save_page(path, page_html(found, layout_library() if graph else None))


def page_html(found: ModelProfile, library: LayoutLibrary | None) -> str:
    """The page; ``library`` lays out its graph, which is left out without one."""
    return assembled("page.html", ("page.css",), _PROGRAM, f"{found.label} – mace profile", page_data(found), library)


def save_page(path: Path, text: str) -> None:
    """Write a page; what was there before stays as it was until the new one is whole.

    Raises:
        UsageError: if the file cannot be written.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written: {error.strerror or error}") from None


def assembled(
    template: str,
    styles: Sequence[str],
    programs: Sequence[str],
    title: str,
    data: Any,
    library: LayoutLibrary | None,
) -> str:
    """A page out of its parts.

    Names out of the model reach the page as data only, and its program shows them as text.  The page's own policy lets
    no other program run, and nothing be fetched.
    """
    program = "\n".join(_asset(name) for name in programs)
    parts = {
        "body": _asset(template),
        "policy": _policy(program),
        "title": html.escape(title),
        "style": "\n".join(_asset(name) for name in styles),
        "data": _json(data),
        "library": _json(None if library is None else {"source": library.source, "version": library.version}),
        "notice": "" if library is None else html.escape(library.notice),
        "program": program,
    }
    pieces = _asset("frame.html").split("@@")  # text, name, text, name, …: what is filled in is never looked at again
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _policy(program: str) -> str:
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; worker-src blob:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(data: Any) -> str:
    """JSON that may stand within a script element whatever its texts are."""
    text = json.dumps(json_value(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _asset(name: str) -> str:
    return (files("mace_core.report") / "assets" / name).read_text(encoding="utf-8")

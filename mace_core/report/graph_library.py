"""The library that lays graphs out: dagre, as the package netron carries it.

A page holds a copy of it, with its notice.  It is read, never imported.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mace_core.errors import UsageError

NOTICE = """Graph layout: dagre (https://github.com/dagrejs/dagre), as part of netron (https://github.com/lutzroeder/netron).
Copyright (c) 2012-2014 Chris Pettitt, copyright (c) Lutz Roeder.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions: The above copyright notice and
this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""

_EXPORT = "export const { layout, Graph }"
"""How the versions that this page can use say what they offer."""


@dataclass(frozen=True, slots=True)
class LayoutLibrary:
    """Source text of a classic script that defines ``layout(nodes, edges, options, state)``; name and version."""

    source: str
    version: str
    notice: str = NOTICE


def layout_library(*, otherwise: str = "leave the graph out with --no-graph") -> LayoutLibrary:
    """The library that is installed here.

    Args:
        otherwise: what to do without it, for the message.

    Raises:
        UsageError: if there is none, or one that is laid out otherwise; the message says what to install.
    """
    install = f"install it with `pip install 'mace-core[profile]'`, or {otherwise}"
    found = importlib.util.find_spec("netron")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"the library that lays out the graph of the page (netron) is not installed: {install}")
    version = metadata.version("netron")
    try:
        source = (Path(next(iter(found.submodule_search_locations))) / "dagre.js").read_text(encoding="utf-8")
    except OSError:
        source = ""
    if source.count(_EXPORT) != 1:
        raise UsageError(f"netron {version} has no graph layout that the page can use: {install}")
    # Browsers start no modules as workers of a page that was opened from a file.
    return LayoutLibrary(source.replace(_EXPORT, _EXPORT.removeprefix("export ")), f"dagre of netron {version}")

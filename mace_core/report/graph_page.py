"""One HTML page that shows a model: its graph in groups that open and close, every node, the weights, what is odd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.report.graph_data import GraphData
from mace_core.report.graph_library import layout_library
from mace_core.report.page import assembled, save_page
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.graph import Graph, Value
    from mace_core.report.graph_library import LayoutLibrary
    from mace_core.tensor import ValueType

_PROGRAM = (
    "common.js",
    "viewport.js",
    "layout.js",
    "model_base.js",
    "model_graph.js",
    "model_details.js",
    "model_main.js",
)
"""The parts of the page's program, in the order in which they build on each other."""


def write_graph_page(
    path: Path, graph: Graph, types: Mapping[Value, ValueType], label: str, summary: Mapping[str, Any]
) -> None:
    """Write the page; what was there before stays as it was until the new one is whole.

    Args:
        path: the file.
        graph: the model.
        types: of its values at the shapes that the figures are for.
        label: what the model is called.
        summary: ``cards`` (figure and words), ``problems`` (severity, text, hint), ``tables`` (title, headings, rows of
            texts; the last columns of a row whose heading begins with ``#`` are figures).

    Raises:
        UsageError: if the file cannot be written, or the library that lays out graphs is not installed.
    """
    save_page(path, graph_page_html(graph, types, label, summary, layout_library(otherwise="leave the page out")))


def graph_page_html(
    graph: Graph,
    types: Mapping[Value, ValueType],
    label: str,
    summary: Mapping[str, Any],
    library: LayoutLibrary,
) -> str:
    """The page."""
    data = {"label": label, "version": VERSION, **summary, **GraphData(graph, types).rows()}
    return assembled("model.html", ("page.css", "model.css"), _PROGRAM, f"{label} – mace inspect", data, library)

"""What a profiled model is shown as: tables of its steps, a Chrome trace, a picture, and a page that holds all of it.

    with Session("model.onnx") as session:
        found = measure(session, "model.onnx", {"x": array})
    write_page(Path("model.html"), found)

How profiles come to be is the scheduler's (`Session.profile`); what commands print is in `mace_core.cli`.
"""

from mace_core.report.graph_library import LayoutLibrary, layout_library
from mace_core.report.mace_sections import MaceSections, measure_sections
from mace_core.report.measuring import ModelProfile, measure
from mace_core.report.page import page_html, write_page
from mace_core.report.rss import MemorySamples
from mace_core.report.trace import chrome_trace, write_trace

__all__ = [
    "LayoutLibrary",
    "MaceSections",
    "MemorySamples",
    "ModelProfile",
    "chrome_trace",
    "layout_library",
    "measure",
    "measure_sections",
    "page_html",
    "write_page",
    "write_trace",
]

"""One file for a model: the graph, its weights, and what devices compiled of it, used where they lie.

`docs/decisions/package.md` describes the form of the file, and what later versions may add to it.
"""

from mace_core.package.layout import FORMAT, Section
from mace_core.package.reader import Package, open_package
from mace_core.package.samples import Sample
from mace_core.package.writer import NewSection, write_package

__all__ = ["FORMAT", "NewSection", "Package", "Sample", "Section", "open_package", "write_package"]

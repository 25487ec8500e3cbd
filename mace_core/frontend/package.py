"""Models from packages: the graph that is stored there, whatever was compiled of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mace_core.errors import UsageError
from mace_core.frontend.base import Frontend, ModelSource
from mace_core.host.file_forms import PACKAGE_MAGIC, PACKAGE_SUFFIX, is_package

if TYPE_CHECKING:
    from mace_core.graph import Graph


class PackageFrontend(Frontend):
    """Reads the graph of a ``.mace`` file; needs no other library."""

    name: ClassVar[str] = "mace"
    suffixes: ClassVar[tuple[str, ...]] = (PACKAGE_SUFFIX,)

    def choosing(self, signature: str) -> Frontend:
        """
        Raises:
            UsageError: always.
        """
        raise UsageError(f"a package holds one graph, without signatures: leave '{signature}' out")

    def can_read(self, source: ModelSource) -> bool:
        return is_package(first_bytes(source))

    def load(self, source: ModelSource, *, path: Path | None = None, mmap: bool = True) -> Graph:
        from mace_core.package.graphs import OPTIMIZED, SOURCE, read_graph
        from mace_core.package.reader import open_package

        package = open_package(source, path=path, mmap=mmap)
        return read_graph(package, SOURCE if package.find("graph", SOURCE) is not None else OPTIMIZED)


def first_bytes(source: ModelSource) -> bytes:
    """The beginning of a model; nothing where it cannot be read, which loading it tells."""
    if not isinstance(source, Path):
        return source[: len(PACKAGE_MAGIC)]
    try:
        if not source.is_file():  # a pipe would be waited for
            return b""
        with source.open("rb") as file:
            return file.read(len(PACKAGE_MAGIC))
    except OSError:
        return b""

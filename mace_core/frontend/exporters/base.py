"""What the frontends of training frameworks share: an exporter in a process of its own writes ONNX, which is read."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mace_core.errors import ExporterError, ModelError, shorten
from mace_core.frontend.base import Frontend, ModelSource
from mace_core.host.children import ChildFailedError, ask_child
from mace_core.tensor.files import FileIdentity, settled_identity

if TYPE_CHECKING:
    from mace_core.graph import Graph

_log = logging.getLogger("mace.frontend")

EXPORTED_BY = "mace.exported_by"
"""Key in the metadata of a graph: the exporter and its version."""


class ExporterFrontend(Frontend):
    """A frontend that has the framework write ONNX.

    Attributes:
        what: the format, for messages: "a program of torch.export".
        needs: what has to be importable.
        extra: the extra of mace-core that installs it.
        exporter: module whose function ``export(path, target)`` runs in the child: it writes the file ``target`` and
            returns who wrote it.
    """

    what: ClassVar[str]
    needs: ClassVar[Sequence[str]]
    extra: ClassVar[str]
    exporter: ClassVar[str]

    def load(self, source: ModelSource, *, path: Path | None = None, mmap: bool = True) -> Graph:
        """Import a model; see :meth:`Frontend.load`.

        Raises:
            ExporterError: if the framework is not installed, with what to install, or if it cannot export the model,
                with what it says.
        """
        named = path if path is not None or not isinstance(source, Path) else source
        label = "the model given as bytes" if named is None else f"'{named}'"
        self.check(label)
        require(self.needs, self.extra, f"{label} is {self.what}")
        identity = settled_identity(source) if isinstance(source, Path) and not self.files_of(source) else None
        kept = _last.get(identity) if identity is not None else None
        if kept is not None:
            graph, by = import_exported(kept[0], label), kept[1]
        else:
            with tempfile.TemporaryDirectory(prefix="mace-export-") as folder:
                if not isinstance(source, Path):
                    given, source = source, Path(folder) / f"model{self.suffixes[0]}"
                    source.write_bytes(given)
                target = Path(folder) / "exported.onnx"
                by = self._exported(source, target, label)
                _keep(identity, target, by)
                graph = read_exported(target, label)
        graph.source_path = str(path) if path is not None else None
        graph.metadata.setdefault(EXPORTED_BY, by)
        graph.other_files = [str(file.absolute()) for file in self.files_of(path)] if path is not None else []
        return graph

    def check(self, label: str) -> None:
        """Whether such files are read at all.

        Raises:
            ExporterError: if they are not.
        """

    def files_of(self, path: Path) -> Sequence[Path]:
        """Files that a model consists of, besides ``path``."""
        return ()

    @abstractmethod
    def can_read(self, source: ModelSource) -> bool: ...

    def _exported(self, source: Path, target: Path, label: str) -> str:
        question = {"module": self.exporter, "path": str(source.absolute()), "target": str(target)}
        _log.info("%s is exported to ONNX in a process of its own", label)
        try:
            answer = ask_child(_CODE, question, keeps_quiet=True)
        except ChildFailedError as error:
            _log.debug("The exporter wrote:\n%s", error.said)
            raise ExporterError(
                f"{label} cannot be exported to ONNX: the exporter failed: {shorten(str(error))}"
            ) from None
        if "error" in answer:
            _log.debug("The exporter failed:\n%s", answer["trace"])
            raise ExporterError(f"{label} cannot be exported to ONNX: {self.advised(answer)}")
        return str(answer["by"])

    def advised(self, answer: Mapping[str, Any]) -> str:
        """What the exporter says, with what to do about it where that is known."""
        return str(answer["error"])


def require(modules: Sequence[str], extra: str, what: str) -> None:
    """Check that a framework is installed, without importing it.

    Raises:
        ExporterError: naming what is missing, and how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ExporterError(
            f"{what}: reading it needs {' and '.join(missing)}, which this Python does not have; "
            f"install it with: pip install 'mace-core[{extra}]'"
        )


def read_exported(target: Path, label: str) -> Graph:
    """The graph of a file that an exporter wrote, which may go afterwards: nothing of the graph refers to it.

    Raises:
        ExporterError: if it is not valid.
    """
    from mace_core.frontend.onnx import OnnxFrontend

    if not _files_beside(target):
        return import_exported(target.read_bytes(), label)
    try:
        graph = OnnxFrontend().load(target, mmap=False)
    except ModelError as error:
        raise ExporterError(f"{label}: what its exporter wrote cannot be read: {error}") from error
    for each in _graphs(graph):
        for value in each.initializers.values():
            if value.constant is not None:
                value.constant.source = None
    return graph


def import_exported(content: bytes, label: str) -> Graph:
    """The graph of what an exporter wrote.

    Raises:
        ExporterError: if it is not valid.
    """
    from mace_core.frontend.onnx import OnnxFrontend

    try:
        return OnnxFrontend().load(content)
    except ModelError as error:
        raise ExporterError(f"{label}: what its exporter wrote cannot be read: {error}") from error


def _files_beside(target: Path) -> list[Path]:
    """Files with weights."""
    return [file for file in target.parent.iterdir() if file.name.startswith(f"{target.name}.")]


_last: dict[FileIdentity, tuple[bytes, str]] = {}
"""What the latest export of this process gave: commands that open a session look at the model once more."""

_MOST_KEPT_BYTES = 256 << 20


def _keep(identity: FileIdentity | None, target: Path, by: str) -> None:
    _last.clear()
    if identity is not None and target.stat().st_size <= _MOST_KEPT_BYTES and not _files_beside(target):
        _last[identity] = (target.read_bytes(), by)


def _graphs(graph: Graph) -> list[Graph]:
    found = [graph]
    for node in graph.nodes:
        for body in node.subgraphs():
            found += _graphs(body)
    return found


_CODE = """
def answer(question):
    from mace_core.frontend.exporters.child import exported
    return exported(question)
"""

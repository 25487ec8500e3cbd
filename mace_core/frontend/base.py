"""What an importer of a model format implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from mace_core.errors import UsageError
from mace_core.frontend.importing import ImportOptions

if TYPE_CHECKING:
    from mace_core.graph import Graph

ModelSource: TypeAlias = "Path | bytes"
"""A model file, or the bytes of one."""


class Frontend(ABC):
    """One model format.  Registered under the entry-point group ``mace.frontends``; instantiated without arguments.

    Attributes:
        name: the format's name in messages (``onnx``).
        suffixes: file suffixes of the format, lower case with the dot (``.onnx``).
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def can_read(self, source: ModelSource) -> bool:
        """Whether the content looks like this format.  Cheap (a few hundred bytes), never raises for bad content."""

    def choosing(self, signature: str) -> Frontend:
        """The same format, where files hold several graphs under names: what reads the one called ``signature``.

        Raises:
            UsageError: if the format has no such names.
        """
        raise UsageError(f"a model of the format {self.name} has no signatures: leave '{signature}' out")

    def importing(self, options: ImportOptions) -> Frontend:
        """The same format, read with other options; formats that have no such choice are read as ever.

        Raises:
            UsageError: if a signature is chosen for this model, and the format has none.
        """
        return self if options.signature is None or options.is_for_all else self.choosing(options.signature)

    @abstractmethod
    def load(self, source: ModelSource, *, path: Path | None = None, mmap: bool = True) -> Graph:
        """Import a model.

        Args:
            source: the file, or its bytes.
            path: where the bytes come from, where that is known: used in messages and to find files beside the model.
            mmap: keep weights as views into the mapped file.  A mapped file that somebody truncates while it is in use
                kills the process (the operating system raises a bus error); ``mmap=False`` reads the file into memory
                instead, at the price of holding it there.

        Raises:
            ModelError: if the model cannot be read or is not valid.
        """

"""Texts that belong to a model: its quantization report, licenses, a model card.  No reader needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import PackageError, UsageError
from mace_core.package.reader import Package
from mace_core.package.writer import NewSection

DOCUMENT = "document"
"""The kind of section."""

ROLES = ("report", "license", "card")
"""What a document is: the quantization report, a license, the model card."""

TYPES = {
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""Media types by the end of a file's name; plain text for others."""

MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Document:
    """A text in a package.

    Attributes:
        role: "report", "license" or "card".
        name: of the file it comes from.
        text: all of it.
        type: its media type.
    """

    role: str
    name: str
    text: str
    type: str = "text/plain"

    @property
    def first_line(self) -> str:
        """The first line that says something."""
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "")


def read_document(role: str, path: Path) -> Document:
    """A document from a file.

    Raises:
        UsageError: if it is not there, too large, or no text in UTF-8.
    """
    if role not in ROLES:
        raise UsageError(f"a document is a {', a '.join(ROLES)}, not a '{role}'")
    try:
        if not path.is_file():
            raise UsageError(f"the {role} '{path}' is {'no regular file' if path.exists() else 'not there'}")
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"the {role} '{path}' has more than {MOST_BYTES >> 20} MiB: no reader expects that")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"the {role} '{path}' is no text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"the {role} '{path}' cannot be read: {error.strerror or error}") from error
    return Document(role, path.name, text, TYPES.get(path.suffix.lower(), "text/plain"))


def document_sections(documents: Sequence[Document]) -> list[NewSection]:
    """The sections of documents.

    Raises:
        UsageError: if two have one name.
    """
    names = [document.name for document in documents]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two documents are named '{name}': rename one of the files")
    return [
        NewSection(DOCUMENT, each.name, [each.text.encode()], facts={"role": each.role, "type": each.type})
        for each in documents
    ]


def read_documents(package: Package) -> list[Document]:
    """The documents of a package; those with roles of later versions too.

    Raises:
        PackageError: for one that is no text, or does not say what it is.
    """
    found = []
    for section in package.of_kind(DOCUMENT):
        role, type = section.facts.get("role"), section.facts.get("type")
        try:
            text = bytes(package.view(section)).decode("utf-8")
        except UnicodeDecodeError:
            text, role = "", None
        if not isinstance(role, str) or not isinstance(type, str):
            raise PackageError(
                f"{package.label} is damaged: its document '{section.name:.40}' is not one; compile it again"
            )
        found.append(Document(role, section.name, text, type))
    return found

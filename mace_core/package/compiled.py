"""What devices compiled, in a package: sections with what they are for and what they depend on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mace_core.errors import PackageError
from mace_core.package.layout import Section
from mace_core.package.reader import Package
from mace_core.package.writer import NewSection

COMPILED = "compiled"
PLACEMENT = "placement"
PACK = "device weights"


@dataclass(frozen=True, slots=True)
class CompiledPart:
    """Subgraphs that one device compiled together.

    Attributes:
        device: what they were compiled for, as ``provider:id``.
        match: stands for the subgraphs: their nodes, and the types of what they are fed.
        compatibility: the device's ``compatibility_key``.
        options: those that the device was opened with, as text.
        signature: the inputs of the model that they are for, for people.
        subgraphs, nodes: how many.
        section: where the blob lies; None where it is not written yet.
    """

    device: str
    match: str
    compatibility: str
    options: str
    signature: str
    subgraphs: int
    nodes: int
    section: Section | None = None

    @property
    def provider(self) -> str:
        """The first part of ``device``."""
        return self.device.partition(":")[0]

    @property
    def nbytes(self) -> int:
        """The size of the blob."""
        return 0 if self.section is None else self.section.nbytes

    def to_section(self, number: int, parts: Sequence[bytes | memoryview]) -> NewSection:
        """The section with the blob that ``parts`` form; ``number`` tells it from others."""
        facts = {
            name: getattr(self, name)
            for name in ("device", "match", "compatibility", "options", "signature", "subgraphs", "nodes")
        }
        return NewSection(COMPILED, str(number), parts, facts=facts)


def compiled_parts(package: Package) -> Iterator[CompiledPart]:
    """What devices compiled, in the order in which it lies.

    Raises:
        PackageError: for a section that does not say what it is.
    """
    for section in package.of_kind(COMPILED):
        facts = section.facts
        texts = [facts.get(name) for name in ("device", "match", "compatibility", "options", "signature")]
        counts = [facts.get(name) for name in ("subgraphs", "nodes")]
        if not all(isinstance(text, str) for text in texts) or not all(type(count) is int for count in counts):
            raise PackageError(
                f"{package.label} is damaged: its section '{COMPILED} {section.name:.40}' does not say what it is for; "
                "compile it again"
            )
        known: list[Any] = [*texts, *counts, section]
        yield CompiledPart(*known)


def placement_section(match: str, record: bytes) -> NewSection:
    """The section that says how the model was placed under what ``match`` stands for."""
    return NewSection(PLACEMENT, match, [record])


class PackedWeights:
    """Weights in the forms that devices read, kept for `mace_core.provider.weights.WeightFiles` while a package is
    made: equal ones once, whatever refers to them.

    Attributes:
        sections: those to write.
    """

    def __init__(self) -> None:
        self.sections: list[NewSection] = []
        self._index: dict[str, bytes] = {}

    def has(self, key: str) -> bool:
        """Whether there is a pack of this name."""
        return any(section.name == key for section in self.sections)

    def put_parts(self, key: str, parts: Sequence[bytes | memoryview]) -> bool:
        """Keep a pack."""
        self.sections.append(NewSection(PACK, key, parts))
        return True

    def view(self, key: str, *, mmap: bool = True) -> memoryview | None:
        """None: nothing is read before the package is whole."""
        return None

    def get(self, key: str) -> bytes | None:
        """What `put` kept."""
        return self._index.get(key)

    def put(self, key: str, payload: bytes) -> None:
        """Keep a text."""
        self._index[key] = payload


class StoredPacks:
    """The packs of a package, for `mace_core.provider.weights.WeightFiles`."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._sections = {section.name: section for section in package.of_kind(PACK)}

    def has(self, key: str) -> bool:
        """Whether there is a pack of this name."""
        return key in self._sections

    def put_parts(self, key: str, parts: Sequence[bytes | memoryview]) -> bool:
        """False: nothing is added to a package."""
        return False

    def view(self, key: str, *, mmap: bool = True) -> memoryview | None:
        """A pack, where it lies."""
        section = self._sections.get(key)
        return None if section is None else self._package.view(section)

    def get(self, key: str) -> bytes | None:
        """None: what is stored says where its weights are."""
        return None

    def put(self, key: str, payload: bytes) -> None:
        """Nothing is added to a package."""


def options_text(options: dict[str, object]) -> str:
    """Options as text that is the same for the same options."""
    return json.dumps(options, sort_keys=True, default=str)

"""Writing packages: all at once, and only a whole one takes the place of what was there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mace_core.errors import MaceError
from mace_core.host.files import replacing
from mace_core.package.keys import SigningKey
from mace_core.package.layout import (
    ALIGNMENT,
    FORMAT,
    HEAD_BYTES,
    PAGE,
    Head,
    Section,
    pack_head,
    pack_table,
    signed_part,
)
from mace_core.package.signatures import signature_block


@dataclass(frozen=True, slots=True)
class NewSection:
    """A section that is to be written; the attributes are those of `Section`.

    Attributes:
        parts: form its bytes when concatenated.
    """

    kind: str
    name: str
    parts: Sequence[bytes | memoryview]
    is_required: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return sum(memoryview(part).nbytes for part in self.parts)


def write_package(
    path: Path,
    sections: Sequence[NewSection],
    metadata: Mapping[str, str],
    *,
    version: tuple[int, int] = FORMAT,
    requires: Sequence[str] = (),
    keys: Sequence[SigningKey] = (),
) -> int:
    """Write a package in one step; the same content gives the same bytes.

    Args:
        path: where to.
        sections: in the order in which they are to lie.
        metadata: about the whole.
        version: of the form.
        requires: features that a reader has to know.
        keys: of those who sign it.

    Returns:
        The size of the file in bytes.

    Raises:
        MaceError: if the file cannot be written; what was there before stays.
    """
    try:
        with replacing(path) as file:
            file.write(bytes(HEAD_BYTES))
            end, written = HEAD_BYTES, []
            for one in sections:
                nbytes = one.nbytes
                gap = -end % (PAGE if nbytes >= PAGE else ALIGNMENT)
                file.write(bytes(gap))
                digest = hashlib.sha256()
                for part in one.parts:
                    digest.update(part)
                    file.write(part)
                start, end = end + gap, end + gap + nbytes
                written.append(
                    Section(one.kind, one.name, start, nbytes, digest.hexdigest(), one.is_required, one.facts)
                )
            table = pack_table(written, metadata, requires)
            file.write(table)
            size = end + len(table)
            head = Head(*version, size, end, len(table), 0, hashlib.sha256(table).digest())
            block = signature_block(signed_part(pack_head(head)), keys)
            file.write(block)
            size += len(block)
            file.seek(0)
            file.write(pack_head(head._replace(file_bytes=size, signature_bytes=len(block))))
        return size
    except OSError as error:
        raise MaceError(f"the package '{path}' cannot be written: {error.strerror or error}") from error

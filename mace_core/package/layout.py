"""The form of a package: a head of fixed size, sections, and a table of them.

Everything is little endian.  The head says where the table is and has the table's SHA-256; the table, a JSON object,
has the place, the size and the SHA-256 of each section.  So every byte but those of a signature, which would follow the
table, is checked by the head.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mace_core.errors import PackageError
from mace_core.host.file_forms import PACKAGE_MAGIC, is_package

FORMAT = (1, 1)
"""Major: readers of another one refuse the file.  Minor: they read what they know of it."""

HEAD_BYTES = 128
ALIGNMENT = 64
"""Sections, and the weights in them, begin at multiples of this."""
PAGE = 4096
"""Sections of this size or more begin at multiples of it, so that their pages are nobody else's."""

MOST_TABLE_BYTES = 64 << 20
OWN_OPERATORS = "operators of mace.processing"
FEATURES: frozenset[str] = frozenset({OWN_OPERATORS})
"""What a table may name in ``requires``: operators of the core's own that its graph uses."""
REQUIRED_KINDS = frozenset({"graph", "weights"})
"""The kinds of sections that a reader of this version knows among those that are required."""

# magic, major, minor, reserved, bytes of the file, place and bytes of the table, bytes of the signature, SHA-256 of the
# table; zeros; CRC-32 of all before it
_HEAD = struct.Struct("<8sHHIQQQQ32s")
_CRC = struct.Struct("<I")
_CRC_AT = HEAD_BYTES - _CRC.size
_DIGEST = re.compile("[0-9a-f]{64}")


class Head(NamedTuple):
    """What the first bytes of a package say."""

    major: int
    minor: int
    file_bytes: int
    table_at: int
    table_bytes: int
    signature_bytes: int
    table_digest: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a package.

    Attributes:
        kind: what it is: "graph", "weights", "compiled", "placement", "device weights", "sample", or what later
            versions add.
        name: tells it from others of its kind.
        offset, nbytes: where it is in the file.
        digest: SHA-256 of its bytes, as hexadecimal digits.
        is_required: who does not know its kind cannot use the package.
        facts: more about it, as the kind has it.
    """

    kind: str
    name: str
    offset: int
    nbytes: int
    digest: str
    is_required: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def pack_head(head: Head) -> bytes:
    """The first bytes of a file."""
    fixed = _HEAD.pack(
        PACKAGE_MAGIC,
        head.major,
        head.minor,
        0,
        head.file_bytes,
        head.table_at,
        head.table_bytes,
        head.signature_bytes,
        head.table_digest,
    )
    padded = fixed + bytes(_CRC_AT - len(fixed))
    return padded + _CRC.pack(zlib.crc32(padded))


def signed_part(head: bytes) -> bytes:
    """What of a head stands for the whole package when it is signed: all but its checksum, with zeros for the sizes of
    the file and of the signatures, which grow with every signature and follow from what is left."""
    return head[:16] + bytes(8) + head[24:40] + bytes(8) + head[48:_CRC_AT]


def read_head(content: memoryview, label: str) -> Head:
    """What the head of a file says, looked through.

    Raises:
        PackageError: if it is not the head of a package, or not of one of this length.
    """
    begin = bytes(content[:HEAD_BYTES])
    if not is_package(begin):
        raise PackageError(f"{label} is not a MACE package: it does not begin like one")
    if len(begin) < HEAD_BYTES:
        raise PackageError(f"{label} is truncated: it has {len(begin)} bytes; compile it or fetch it again")
    _, major, minor, _, file_bytes, table_at, table_bytes, signature_bytes, digest = _HEAD.unpack_from(begin)
    if _CRC.unpack_from(begin, _CRC_AT)[0] != zlib.crc32(begin[:_CRC_AT]):
        raise PackageError(f"{label} is damaged: its head has another checksum; compile it or fetch it again")
    if major != FORMAT[0]:
        raise PackageError(
            f"{label} has format {major}.{minor}, and this version of mace reads format {FORMAT[0]}: "
            f"{'update mace, or ' if major > FORMAT[0] else ''}compile the model again"
        )
    if file_bytes > content.nbytes:
        raise PackageError(
            f"{label} is truncated: {content.nbytes} of {file_bytes} bytes are there; compile it or fetch it again"
        )
    if file_bytes < content.nbytes:
        raise PackageError(
            f"{label} is damaged: {content.nbytes - file_bytes} bytes follow its end; compile it or fetch it again"
        )
    is_table = table_at >= HEAD_BYTES and table_bytes <= MOST_TABLE_BYTES
    if not is_table or table_at + table_bytes + signature_bytes != file_bytes:
        raise PackageError(f"{label} is damaged: its table is not where a table can be; compile it or fetch it again")
    return Head(major, minor, file_bytes, table_at, table_bytes, signature_bytes, digest)


def pack_table(sections: Sequence[Section], metadata: Mapping[str, str], requires: Sequence[str] = ()) -> bytes:
    """The table as bytes."""
    rows = [
        {
            "kind": one.kind,
            "name": one.name,
            "offset": one.offset,
            "bytes": one.nbytes,
            "sha256": one.digest,
            "required": one.is_required,
            "facts": one.facts,
        }
        for one in sections
    ]
    document = {"metadata": dict(metadata), "requires": list(requires), "sections": rows}
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def read_table(text: bytes, table_at: int, label: str) -> tuple[list[Section], dict[str, str]]:
    """The sections, in the order in which they lie, and the metadata; keys that are not known are skipped.

    Args:
        text: the table.
        table_at: where it begins; sections end before.
        label: how messages call the file.

    Raises:
        PackageError: if it says what cannot be, or needs what this version does not know.
    """
    try:
        document = json.loads(text)
        requires = document.get("requires", [])
        metadata = {_text(key): _text(value) for key, value in document.get("metadata", {}).items()}
        sections = [_section(row) for row in document["sections"]]
        unknown = sorted({_text(feature) for feature in requires} - FEATURES)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise _damaged(label, "its table does not say what a table says") from error
    unknown += sorted({one.kind for one in sections if one.is_required} - REQUIRED_KINDS)
    if unknown:
        raise PackageError(
            f"{label} needs '{unknown[0]:.40}', which this version of mace does not know: update mace, or compile the "
            "model again"
        )
    end = HEAD_BYTES
    for one in sorted(sections, key=lambda section: section.offset):
        if one.offset < end or one.offset % ALIGNMENT or one.offset + one.nbytes > table_at:
            raise _damaged(label, f"its section '{one.kind}' is not where a section can be")
        end = one.offset + one.nbytes
    return sorted(sections, key=lambda section: section.offset), metadata


def _section(row: Mapping[str, Any]) -> Section:
    offset, nbytes, digest = row["offset"], row["bytes"], _text(row["sha256"])
    if type(offset) is not int or type(nbytes) is not int or offset < 0 or nbytes < 0:
        raise ValueError("a section has no place")
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a section has no checksum")
    facts = row.get("facts", {})
    if not isinstance(facts, dict):
        raise TypeError("the facts of a section are no object")
    return Section(
        _text(row["kind"]), _text(row["name"]), offset, nbytes, digest, row.get("required", False) is True, facts
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _damaged(label: str, why: str) -> PackageError:
    return PackageError(f"{label} is damaged: {why}; compile it or fetch it again")

"""The stored form of a group of subgraphs: a description in JSON, then the library's compiled networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from mace_core.errors import UnsupportedError

FORMAT = 2


class StoredNetwork(NamedTuple):
    """One subgraph.

    Attributes:
        name: for messages and profiles.
        sources: names of the model's nodes.
        constants: names of the constants that the network holds.
        notes: by name of a node, how it is computed.
        binary: the library's compiled network.
    """

    name: str
    sources: tuple[str, ...]
    constants: frozenset[str]
    notes: dict[str, str]
    binary: bytes


def pack(networks: Sequence[StoredNetwork]) -> bytes:
    """The stored form."""
    header: dict[str, Any] = {
        "format": FORMAT,
        "networks": [
            {
                "name": item.name,
                "sources": item.sources,
                "constants": sorted(item.constants),
                "notes": item.notes,
                "bytes": len(item.binary),
                "digest": hashlib.sha256(item.binary).hexdigest(),
            }
            for item in networks
        ],
    }
    return b"".join((json.dumps(header).encode(), b"\n", *(item.binary for item in networks)))


def unpack(blob: bytes) -> list[StoredNetwork]:
    """What was packed.

    Raises:
        UnsupportedError: if the blob is damaged or another version wrote it; the library is not given such a thing,
            since it may crash on it.
    """
    line, _, content = blob.partition(b"\n")
    try:
        header = json.loads(line)
        version = header["format"]
        if version != FORMAT:
            raise UnsupportedError(f"the stored networks have format {version}, this provider reads {FORMAT}")
        found, start = [], 0
        for item in header["networks"]:
            binary = content[start : start + int(item["bytes"])]
            start += len(binary)
            if hashlib.sha256(binary).hexdigest() != item["digest"]:
                raise UnsupportedError(f"the stored network '{item['name']}' is damaged: its checksum does not fit")
            notes = {str(node): str(text) for node, text in item["notes"].items()}
            sources, constants = tuple(item["sources"]), frozenset(item["constants"])
            found.append(StoredNetwork(str(item["name"]), sources, constants, notes, binary))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedError(f"the stored networks are damaged: their description cannot be read ({error})") from None
    return found

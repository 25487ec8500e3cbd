"""The stored form of a group of subgraphs: a description in JSON, then QNN's context binary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mace_core.errors import UnsupportedError
from mace_hexagon.builder import Port
from mace_hexagon.description import Encoding, QTensor
from mace_hexagon.execution import HexagonSubgraph
from mace_hexagon.qnn.types import DataType, TensorKind

FORMAT = 1


def pack(subgraphs: Sequence[HexagonSubgraph], binary: bytes) -> bytes:
    """The stored form."""
    header = {
        "format": FORMAT,
        "digest": hashlib.sha256(binary).hexdigest(),
        "graphs": [
            {
                "name": item.built.graph.name,
                "sources": item.sources,
                "constants": sorted(item.consumed_constants),
                "inputs": [_port(port) for port in item.built.inputs],
                "outputs": [_port(port) for port in item.built.outputs],
            }
            for item in subgraphs
        ],
    }
    return json.dumps(header).encode() + b"\n" + binary


def unpack(blob: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Descriptions of the graphs (`ports` reads their inputs and outputs) and the context binary.

    Raises:
        UnsupportedError: if the blob is damaged or another version wrote it; the library is not given such a thing,
            since it may crash on it.
    """
    line, _, binary = blob.partition(b"\n")
    try:
        header = json.loads(line)
        graphs, digest, version = header["graphs"], header["digest"], header["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedError(
            f"the stored Hexagon context is damaged: its description cannot be read ({error})"
        ) from None
    if version != FORMAT:
        raise UnsupportedError(f"the stored Hexagon context has format {version}, this provider reads {FORMAT}")
    if hashlib.sha256(binary).hexdigest() != digest:
        raise UnsupportedError("the stored Hexagon context is damaged: its checksum does not fit")
    return graphs, binary


def ports(stored: Sequence[dict[str, Any]]) -> tuple[Port, ...]:
    """Inputs or outputs from their stored form."""
    return tuple(
        Port(
            QTensor(
                item["name"],
                DataType(item["type"]),
                tuple(item["shape"]),
                TensorKind(item["kind"]),
                None if item["scale"] is None else _encoding(item["scale"], item["zero"]),
            ),
            item["number"],
        )
        for item in stored
    )


def _encoding(scale: float, zero: int) -> Encoding:
    return Encoding(np.array([scale], np.float32), np.array([zero], np.int32))


def _port(port: Port) -> dict[str, Any]:
    tensor, encoding = port.tensor, port.tensor.encoding
    return {
        "name": tensor.name,
        "type": int(tensor.data_type),
        "kind": int(tensor.kind),
        "shape": list(tensor.shape),
        "number": port.number,
        "scale": None if encoding is None else float(encoding.scales[0]),
        "zero": None if encoding is None else int(encoding.zero_points[0]),
    }

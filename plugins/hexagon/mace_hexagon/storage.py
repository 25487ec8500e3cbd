"""The stored form of a group of subgraphs: a description in JSON, then QNN's context binaries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mace_core.errors import UnsupportedError
from mace_hexagon.builder import BuiltGraph, Port
from mace_hexagon.description import Content, Encoding, QTensor
from mace_hexagon.execution import HexagonSubgraph, Stage
from mace_hexagon.qnn.handles import QnnContext
from mace_hexagon.qnn.types import DataType, TensorKind

FORMAT = 3


def pack(subgraphs: Sequence[HexagonSubgraph]) -> bytes:
    """The stored form: the contexts follow each other."""
    contexts = list(dict.fromkeys(found.context for item in subgraphs for found in item.stages))
    binaries = [context.binary() for context in contexts]
    header = {
        "format": FORMAT,
        "contexts": [{"size": len(binary), "digest": hashlib.sha256(binary).hexdigest()} for binary in binaries],
        "subgraphs": [
            {
                "sources": item.sources,
                "constants": sorted(item.consumed_constants),
                "between": item.between,
                "stages": [_stage(found, contexts.index(found.context)) for found in item.stages],
            }
            for item in subgraphs
        ],
    }
    return b"".join((json.dumps(header).encode(), b"\n", *binaries))


def unpack(blob: bytes) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Descriptions of the subgraphs (`stage` reads their graphs) and the contexts' binaries.

    Raises:
        UnsupportedError: if the blob is damaged or another version wrote it; the library is not given such a thing,
            since it may crash on it.
    """
    line, _, rest = blob.partition(b"\n")
    try:
        header = json.loads(line)
        version = header["format"]
        subgraphs = header["subgraphs"] if version == FORMAT else []
        sizes = [(int(item["size"]), item["digest"]) for item in header["contexts"]] if version == FORMAT else []
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedError(
            f"the stored Hexagon context is damaged: its description cannot be read ({error})"
        ) from None
    if version != FORMAT:
        raise UnsupportedError(f"the stored Hexagon context has format {version}, this provider reads {FORMAT}")
    if sum(size for size, _ in sizes) != len(rest):
        raise UnsupportedError("the stored Hexagon context is damaged: its length does not fit")
    binaries: list[bytes] = []
    start = 0
    for size, digest in sizes:
        binary = rest[start : start + size]
        start += size
        if hashlib.sha256(binary).hexdigest() != digest:
            raise UnsupportedError("the stored Hexagon context is damaged: its checksum does not fit")
        binaries.append(binary)
    return subgraphs, binaries


def stage(stored: dict[str, Any], contexts: Sequence[QnnContext]) -> Stage:
    """A graph of a restored context.

    Raises:
        ProviderError: if the context does not have it.
    """
    context = contexts[stored["context"]]
    steps = {name: tuple(source) for name, source in stored["steps"].items()}
    graph = context.retrieve_graph(stored["name"])
    built = BuiltGraph(graph, ports(stored["inputs"]), ports(stored["outputs"]), steps)
    return Stage(context, built, tuple(stored["reads"]), tuple(stored["writes"]))


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
                content=Content(item["content"]),
            ),
            item["number"],
        )
        for item in stored
    )


def _stage(found: Stage, context: int) -> dict[str, Any]:
    return {
        "context": context,
        "name": found.built.graph.name,
        "inputs": [_port(port) for port in found.built.inputs],
        "outputs": [_port(port) for port in found.built.outputs],
        "reads": found.reads,
        "writes": found.writes,
        "steps": dict(found.built.steps),
    }


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
        "content": tensor.content.value,
        "scale": None if encoding is None else float(encoding.scales[0]),
        "zero": None if encoding is None else int(encoding.zero_points[0]),
    }

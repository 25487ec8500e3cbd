"""Compiled subgraphs as bytes: plans, kernels and packed weights, the weights used where the bytes lie.

A header in JSON says where everything else is; each of that begins at a multiple of 64 bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from mace_core.tensor import DType
from mace_cpu.plan.assembly import (
    ALIGNMENT_BYTES,
    AssembledStep,
    Assembly,
    Constants,
    Fault,
    SizedByRun,
    Words,
)

_MAGIC = b"MACECPU3"
_HEAD = struct.Struct("<8sQ")  # magic, length of the header


def dump(assemblies: Sequence[Assembly], kernels: bytes) -> list[bytes | memoryview]:
    """The assemblies, and the kernels that their steps name, as parts of one blob."""
    body = _Body()
    header = {"kernels": body.add(memoryview(kernels)), "subgraphs": [_describe(one, body) for one in assemblies]}
    text = json.dumps(header, separators=(",", ":")).encode()
    head = _HEAD.pack(_MAGIC, len(text)) + text
    return [head + bytes(-len(head) % ALIGNMENT_BYTES), *body.parts]


def load(blob: memoryview) -> tuple[list[Assembly], bytes]:
    """Assemblies, whose constants are views of ``blob``, and kernels.

    Args:
        blob: what `dump` made; it stays as it is while an assembly is in use.

    Raises:
        ValueError, KeyError, TypeError, struct.error: if it is anything else.
    """
    content = np.frombuffer(blob, np.uint8)
    if content.ctypes.data % ALIGNMENT_BYTES:
        owner = np.empty(content.size + ALIGNMENT_BYTES, np.uint8)
        start = -owner.ctypes.data % ALIGNMENT_BYTES
        owner[start : start + content.size] = content
        content = owner[start : start + content.size]
    magic, length = _HEAD.unpack_from(content.data)
    if magic != _MAGIC:
        raise ValueError("these bytes are not stored subgraphs of this provider")
    end = _HEAD.size + length
    header = json.loads(bytes(content[_HEAD.size : end]))
    body = content[end + -end % ALIGNMENT_BYTES :]
    offset, nbytes = header["kernels"]
    return [_restore(row, body) for row in header["subgraphs"]], bytes(body[offset : offset + nbytes])


class _Body:
    """What comes behind the header."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self._size = 0

    def add(self, data: memoryview) -> list[int]:
        """Append ``data``; where it is: offset and size in bytes."""
        place = [self._size, data.nbytes]
        self._append(data.cast("B") if data.nbytes else b"")
        self._append(bytes(-self._size % ALIGNMENT_BYTES))
        return place

    def add_constants(self, constants: Constants) -> list[int]:
        """Append all constants as one block."""
        first = self._size
        for offset, data in constants.parts:
            self._append(bytes(first + offset - self._size))
            self._append(data.data if data.size else b"")
        place = [first, self._size - first]
        self._append(bytes(-self._size % ALIGNMENT_BYTES))
        return place

    def _append(self, data: bytes | memoryview) -> None:
        self.parts.append(data)
        self._size += len(data)


def _describe(assembly: Assembly, body: _Body) -> dict[str, Any]:
    symbols = {symbol: number for number, symbol in enumerate(dict.fromkeys(s.symbol for s in assembly.steps))}
    relocations = assembly.relocations.copy()
    if assembly.constants.block_offsets is None:
        raise ValueError("subgraphs that were restored are stored already")
    relocations[:, 2] = assembly.constants.block_offsets
    return {
        "symbols": list(symbols),
        "steps": [(symbols[step.symbol], *step[1:]) for step in assembly.steps],
        "words": body.add(assembly.words.data),
        "calls": assembly.calls,
        "relocations": body.add(relocations.data),
        "workspace": assembly.workspace_bytes,
        "inputs": assembly.inputs,
        "outputs": assembly.outputs,
        "faults": assembly.faults,
        "sized_by_run": [(u.output, u.dtype.value, *u[2:]) for u in assembly.sized_by_run],
        "dim_words": assembly.dim_words,
        "notes": assembly.notes,
        "constants": body.add_constants(assembly.constants),
    }


def _restore(row: dict[str, Any], body: np.ndarray[Any, np.dtype[np.uint8]]) -> Assembly:
    def words(place: list[int]) -> Words:
        offset, nbytes = place
        found: Words = body[offset : offset + nbytes].view(np.int64)
        if found.nbytes != nbytes:
            raise ValueError("a stored table is truncated")
        return found

    offset, nbytes = row["constants"]
    block = body[offset : offset + nbytes]
    if block.size != nbytes:
        raise ValueError("the stored constants are truncated")
    symbols = row["symbols"]
    return Assembly(
        [
            AssembledStep(symbols[symbol], first, extent, chunks, name, tuple(source), piece)
            for symbol, first, extent, chunks, name, source, piece in row["steps"]
        ],
        words(row["words"]),
        tuple((word, symbol) for word, symbol in row["calls"]),
        words(row["relocations"]).reshape(-1, 3),
        row["workspace"],
        tuple(row["inputs"]),
        tuple(row["outputs"]),
        tuple(Fault(*fault) for fault in row["faults"]),
        tuple(SizedByRun(u[0], DType(u[1]), *u[2:]) for u in row["sized_by_run"]),
        row["dim_words"],
        row["notes"],
        Constants(block.ctypes.data, (block,)),
    )

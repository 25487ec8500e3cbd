"""Compiled subgraphs as bytes: plans, kernels and packed weights, the weights used where the bytes lie.

A header in JSON says where everything else is; each of that begins at a multiple of 64 bytes.  Where weights are cached
apart (`mace_core.provider.weights.WeightFiles`) it says where, and they are not repeated.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.errors import UnsupportedError
from mace_core.native.sizes import PlanSizes
from mace_core.provider.weights import SharedArray, WeightFiles, WeightPlace, adopt
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType
from mace_cpu.plan.assembly import (
    ALIGNMENT_BYTES,
    AssembledStep,
    Assembly,
    Constants,
    Fault,
    InnerSteps,
    SizedByRun,
    Words,
)

if TYPE_CHECKING:
    from mace_core.symbolic import Trace

_MAGIC = b"MACECPU6"
_HEAD = struct.Struct("<8sQ")  # magic, length of the header


def dump(assemblies: Sequence[Assembly], kernels: bytes, files: WeightFiles | None) -> list[bytes | memoryview]:
    """The assemblies, and the kernels that their steps name, as parts of one blob.

    Args:
        files: where weights are kept; None, or where they cannot be kept there: in the blob.
    """
    body = _Body()
    weights = list({array.digest: array for one in assemblies for array in one.constants.weights}.values())
    numbers = {array.digest: number for number, array in enumerate(weights)}
    kept = None if files is None else files.keep(weights)
    if kept is None:
        kept = [WeightPlace(array.digest.hex(), array.nbytes, "", body.add(array.data.data)[0]) for array in weights]
    header = {
        "weights": kept,
        "kernels": body.add(memoryview(kernels)),
        "subgraphs": [_describe(one, body, numbers) for one in assemblies],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    head = _HEAD.pack(_MAGIC, len(text)) + text
    return [head + bytes(-len(head) % ALIGNMENT_BYTES), *body.parts]


def load(blob: memoryview, files: WeightFiles | None, traces: Sequence[Trace | None]) -> tuple[list[Assembly], bytes]:
    """Assemblies, whose constants are views of ``blob`` or of files beside it, and kernels.

    Args:
        blob: what `dump` made; it stays as it is while an assembly is in use.
        files: where weights are kept.
        traces: of the views, in the order of the assemblies.

    Raises:
        UnsupportedError: if weights are not where the blob says.
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
    weights = _restore_weights([WeightPlace(*place) for place in header["weights"]], body, files)
    rows = zip(header["subgraphs"], traces, strict=True)
    return [_restore(row, body, weights, trace) for row, trace in rows], bytes(body[offset : offset + nbytes])


def _restore_weights(
    places: Sequence[WeightPlace], body: np.ndarray[Any, np.dtype[np.uint8]], files: WeightFiles | None
) -> list[SharedArray]:
    if files is not None and all(place.pack for place in places):
        return files.restore(places)
    found = []
    for place in places:
        data = body[place.offset : place.offset + place.nbytes]
        if place.pack or data.nbytes != place.nbytes:
            raise UnsupportedError("weights that a stored subgraph refers to are not there")
        found.append(adopt(data, place.digest))
    return found


def _restore_sizes(
    symbols: int, tables: Sequence[Words], sized_places: Sequence[tuple[int, int, int]], starts: Words
) -> PlanSizes:
    """``starts``: for each relocation the address of what its offset was counted from."""
    from mace_core.symbolic import SizeProgram
    from mace_core.symbolic.program import Op

    rows, words, steps, relocations = tables
    rows, relocations = rows.reshape(-1, 3), relocations.reshape(-1, 2).copy()
    more: list[tuple[int, int, int]] = []
    for index, register, start in sized_places:
        more.append((int(Op.ADD_N), register, start + int(starts[relocations[index, 0]])))
        relocations[index, 1] = symbols + len(rows) + len(more) - 1
    program = SizeProgram(symbols, np.concatenate([rows, np.array(more, np.int64).reshape(-1, 3)]))
    return PlanSizes(program, words.reshape(-1, 2), steps.reshape(-1, 3), relocations)


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


def _describe(assembly: Assembly, body: _Body, numbers: Mapping[bytes, int]) -> dict[str, Any]:
    symbols = {symbol: number for number, symbol in enumerate(dict.fromkeys(s.symbol for s in assembly.steps))}
    relocations = assembly.relocations.copy()
    places = assembly.constants.block_places
    if places is None:
        raise ValueError("subgraphs that were restored are stored already")
    relocations[:, 2] = places[:, 1]
    return {
        "symbols": list(symbols),
        "steps": [(symbols[step.symbol], *step[1:]) for step in assembly.steps],
        "words": body.add(assembly.words.data),
        "calls": assembly.calls,
        "relocations": body.add(relocations.data),
        "weights": [numbers[array.digest] for array in assembly.constants.weights],
        "weight_of": body.add(np.ascontiguousarray(places[:, 0]).data),
        "workspace": _describe_size(assembly.workspace_bytes),
        "inputs": assembly.inputs,
        "outputs": assembly.outputs,
        "faults": assembly.faults,
        "sized_by_run": [(u.output, u.dtype.value, *u[2:]) for u in assembly.sized_by_run],
        "dim_words": assembly.dim_words,
        "notes": assembly.notes,
        "constants": body.add_constants(assembly.constants),
        "sizes": None if assembly.sizes is None else _describe_sizes(assembly.sizes, body),
        "in_place": assembly.in_place,
        "journals": assembly.journals,
        "inner": assembly.inner,
        "sized_places": assembly.constants.sized_places,
    }


def _describe_size(size: int) -> Any:
    if not is_symbolic(size):
        return size
    from mace_core.symbolic.stored import dump_size

    return dump_size(size)


def _describe_sizes(sizes: PlanSizes, body: _Body) -> list[Any]:
    tables = (sizes.program.rows, sizes.words, sizes.steps, sizes.relocations)
    return [sizes.program.symbols, *(body.add(np.ascontiguousarray(table).data) for table in tables)]


def _restore(
    row: dict[str, Any],
    body: np.ndarray[Any, np.dtype[np.uint8]],
    all_weights: Sequence[SharedArray],
    trace: Trace | None,
) -> Assembly:
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
    weights = tuple(all_weights[number] for number in row["weights"])
    weight_of = words(row["weight_of"])
    starts = np.array([array.address - block.ctypes.data for array in weights] + [0], np.int64)
    relocations = words(row["relocations"]).reshape(-1, 3).copy()
    relocations[:, 2] += starts[weight_of]  # -1 is the last: the block
    symbols = row["symbols"]
    workspace = row["workspace"]
    if not isinstance(workspace, int):
        from mace_core.symbolic.stored import load_size

        workspace = load_size(workspace, trace)
    sizes: PlanSizes | None = None
    if row["sizes"] is not None:
        count, *tables = row["sizes"]
        sizes = _restore_sizes(int(count), [words(table) for table in tables], row["sized_places"], starts[weight_of])
    return Assembly(
        [
            AssembledStep(symbols[symbol], first, extent, chunks, name, tuple(source), piece)
            for symbol, first, extent, chunks, name, source, piece in row["steps"]
        ],
        words(row["words"]),
        tuple((word, symbol) for word, symbol in row["calls"]),
        relocations,
        workspace,
        tuple(row["inputs"]),
        tuple(row["outputs"]),
        tuple(Fault(*fault) for fault in row["faults"]),
        tuple(SizedByRun(u[0], DType(u[1]), *u[2:]) for u in row["sized_by_run"]),
        row["dim_words"],
        row["notes"],
        Constants(block.ctypes.data, (block,), weights),
        sizes,
        tuple(map(int, row["in_place"])),
        tuple(map(int, row["journals"])),
        tuple(
            InnerSteps(int(step), int(word), tuple(names), tuple(map(tuple, sources)))
            for step, word, names, sources in row["inner"]
        ),
    )

"""Splits a graph whose weights are too large for one context into a chain of graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mace_hexagon.description import QOp, QTensor
from mace_hexagon.qnn.types import DataType, TensorKind

_EARLIEST_CUT = 0.5
"""How full a piece is at least, where a cut may be chosen for what crosses it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One graph of a chain.

    Attributes:
        ops: what it computes.
        inputs, outputs: its own tensors.
        reads, writes: for each of these, the number of the value it holds: the inputs of the whole come first, then
            its outputs, then what is handed from one piece to another.
        nbytes: of its constants, as a context holds them.
    """

    ops: tuple[QOp, ...]
    inputs: tuple[QTensor, ...]
    outputs: tuple[QTensor, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A graph in pieces, in the order in which they run; ``crossing``: tensors that are handed on between them."""

    pieces: tuple[Piece, ...]
    crossing: tuple[QTensor, ...]


def split(
    ops: Sequence[QOp], inputs: Sequence[QTensor], outputs: Sequence[QTensor], limit: int, *, half_precision: bool
) -> Chain:
    """Pieces whose constants take no more than ``limit`` bytes each, except where a single operation takes more.

    A graph within the limit is one piece, and its tensors stay as they are.  A piece is cut where the least is handed
    on, once it is half full.

    Args:
        half_precision: float32 constants are held in float16.
    """
    sizes = _Sizes(half_precision)
    ops = _live(ops, outputs)
    if sizes.of(ops) <= limit:
        used = {tensor for op in ops for tensor in op.inputs}
        read = {tensor: number for number, tensor in enumerate(inputs) if tensor in used}
        writes = tuple(range(len(inputs), len(inputs) + len(outputs)))
        whole = Piece(tuple(ops), tuple(read), tuple(outputs), tuple(read.values()), writes, sizes.of(ops))
        return Chain((whole,), ())
    made_at = {tensor: index for index, op in enumerate(ops) for tensor in op.outputs}
    last_use = {tensor: index for index, op in enumerate(ops) for tensor in op.inputs}
    cuts: list[int] = []
    start = 0
    while start < len(ops):
        start = _cut(ops, start, limit, made_at, last_use, sizes)
        cuts.append(start)
    return _assemble(ops, inputs, outputs, cuts, sizes)


def _live(ops: Sequence[QOp], outputs: Sequence[QTensor]) -> list[QOp]:
    """The operations that some output depends on: the library removes others, and with them inputs that it then does
    not expect."""
    needed = set(outputs)
    found = []
    for op in reversed(ops):
        if not needed.isdisjoint(op.outputs):
            needed.update(op.inputs)
            found.append(op)
    return found[::-1]


class _Sizes:
    """Bytes of tensors as a context holds them."""

    def __init__(self, half_precision: bool) -> None:
        self._half_precision = half_precision

    def constant(self, tensor: QTensor) -> int:
        if tensor.data is None:
            return 0
        halved = self._half_precision and tensor.data_type is DataType.FLOAT_32
        return tensor.data.nbytes // 2 if halved else tensor.data.nbytes

    def of(self, ops: Sequence[QOp]) -> int:
        return sum(map(self.constant, dict.fromkeys(tensor for op in ops for tensor in op.inputs)))


def _cut(
    ops: Sequence[QOp],
    start: int,
    limit: int,
    made_at: dict[QTensor, int],
    last_use: dict[QTensor, int],
    sizes: _Sizes,
) -> int:
    """The index behind the last operation of the piece that begins at ``start``."""
    held: set[QTensor] = set()
    nbytes = 0
    best, least = start + 1, None
    for index in range(start, len(ops)):
        new = {tensor for tensor in ops[index].inputs if tensor.data is not None} - held
        nbytes += sum(map(sizes.constant, new))
        held |= new
        if nbytes > limit and index > start:
            return best
        if nbytes < _EARLIEST_CUT * limit:
            best = index + 1
            continue
        crossing = sum(
            tensor.nbytes for tensor, made in made_at.items() if made <= index and last_use.get(tensor, -1) > index
        )
        if least is None or crossing <= least:
            best, least = index + 1, crossing
    return len(ops)


def _assemble(
    ops: Sequence[QOp], inputs: Sequence[QTensor], outputs: Sequence[QTensor], cuts: Sequence[int], sizes: _Sizes
) -> Chain:
    numbers = {tensor: number for number, tensor in enumerate((*inputs, *outputs))}
    piece_of = {}
    for number, (start, end) in enumerate(zip((0, *cuts), cuts, strict=False)):
        for op in ops[start:end]:
            piece_of.update(dict.fromkeys(op.outputs, number))
    crossing: dict[QTensor, None] = {}
    for number, (start, end) in enumerate(zip((0, *cuts), cuts, strict=False)):
        for tensor in (tensor for op in ops[start:end] for tensor in op.inputs):
            if piece_of.get(tensor, number) != number and tensor not in numbers:
                crossing[tensor] = None
    for tensor in crossing:
        numbers[tensor] = len(numbers)
    pieces = [
        _piece(ops[start:end], numbers, frozenset(inputs), sizes) for start, end in zip((0, *cuts), cuts, strict=False)
    ]
    return Chain(tuple(pieces), tuple(crossing))


def _piece(ops: Sequence[QOp], numbers: dict[QTensor, int], inputs: frozenset[QTensor], sizes: _Sizes) -> Piece:
    made = dict.fromkeys(tensor for op in ops for tensor in op.outputs)
    read = [t for t in dict.fromkeys(t for op in ops for t in op.inputs) if t in numbers and t not in made]
    written = [tensor for tensor in made if tensor in numbers]
    own = {tensor: replace(tensor, kind=TensorKind.APP_WRITE) for tensor in read}
    own |= {tensor: replace(tensor, kind=TensorKind.APP_READ) for tensor in written}
    local = tuple(
        replace(
            op,
            inputs=[own.get(tensor, tensor) for tensor in op.inputs],
            outputs=[own.get(tensor, tensor) for tensor in op.outputs],
        )
        for op in ops
    )
    return Piece(
        local,
        tuple(own[tensor] for tensor in read),
        tuple(own[tensor] for tensor in written),
        tuple(numbers[tensor] for tensor in read),
        tuple(numbers[tensor] for tensor in written),
        sizes.of(ops),
    )

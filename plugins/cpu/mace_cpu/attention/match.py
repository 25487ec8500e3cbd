"""Attention as exporters write it: MatMul, a factor, perhaps a mask, Softmax, MatMul; heads split by Transpose.

The nodes up to Softmax are noted when the first product is met (its values may not be computed yet) and become one step
with the second product.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mace_core.graph import Node, Value
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_core.tensor import DType
from mace_cpu.attention.arguments import Arg, Split, Variant, layout, split_word
from mace_cpu.matmul.packed import pack_panels
from mace_cpu.matmul.views import Lie, lie_of
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.fusion import Deferred
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import begins
from mace_cpu.shared.tiles.choose import ROW_CHOICES, ChannelSplit, most_rows, segment_tiles, split_channels

GENERATOR = "mace_cpu.attention.generate"
SEGMENT_TILES = 4
"""Tiles of rows that one unit takes through the same keys."""

MOST_TILE_ROWS = 12
EXPONENTIAL_WORK = 2.0
MAC_WORK = 1 / 8


@dataclass(frozen=True, slots=True)
class Scores(Deferred):
    """What leads to the weights of an attention.

    Attributes:
        nodes: that compute them, the product first.
        query, key: its operands, (..., queries, depth) and (..., depth, keys).
        scale: factor of the product.
        mask: what is added then, if anything.
    """

    nodes: tuple[Node, ...]
    query: Value
    key: Value
    scale: float
    mask: Value | None


@begins("MatMul")
def attention_of_matmul(program: Program, node: Node) -> bool:
    """Whether a MatMul ends an attention, which is computed now, or begins one, which is computed later."""
    result = need(node.outputs[0])
    if program.facts.size(result) == 0 or program.facts.dtype(result) is not DType.FLOAT32:
        return False
    return emit_noted(program, node) or note_scores(program, node)


def note_scores(program: Program, node: Node) -> bool:
    """Whether ``node``, a MatMul of float32, makes the scores of an attention, which are computed later then."""
    query, key, scores = need(node.inputs[0]), need(node.inputs[1]), need(node.outputs[0])
    shape = program.facts.shape(scores)
    rank = len(shape)
    if min(len(program.facts.shape(query)), len(program.facts.shape(key))) < 2 or math.prod(shape) == 0:
        return False
    if (
        program.facts.shape(query)[-1] == 0
        or query is key
        or not (program.values.is_ready(query) and program.values.is_ready(key))
    ):
        return False
    scale, mask, nodes, value = 1.0, None, [node], scores
    while True:
        user = program.fusion.sole_user(value)
        if user is None or user.domain:
            return False
        nodes.append(user)
        if user.op_type == "Softmax":
            break
        factor = _factor(program, user, value) if mask is None else None
        if factor is not None:
            scale *= factor
        elif user.op_type == "Add" and mask is None:
            mask = next((v for v in user.inputs if v is not value), None)
            if mask is None or not _is_mask(program, mask, shape):
                return False
        else:
            return False
        value = need(user.outputs[0])
        if program.facts.shape(value) != shape:
            return False
    default = -1 if program.facts.view.opset() >= 13 else 1
    if normal_axis(nodes[-1].attr("axis", default), rank) != rank - 1:
        return False
    weights = need(nodes[-1].outputs[0])
    mix = program.fusion.sole_user(weights)
    if mix is None or mix.domain or mix.op_type != "MatMul" or mix.inputs[0] is not weights:
        return False
    values = program.facts.shape(need(mix.inputs[1]))
    if len(values) < 2 or math.prod(program.facts.shape(need(mix.outputs[0]))) == 0:
        return False
    program.fusion.claim(nodes[1:])
    program.fusion.defer(weights, mix, Scores(tuple(nodes), query, key, scale, mask))
    return True


def emit_noted(program: Program, node: Node) -> bool:
    """Emit the attention that ``node``, a MatMul, ends; False where it ends none."""
    scores = program.fusion.take(need(node.inputs[0]), Scores)
    if scores is None:
        return False
    value, result = need(node.inputs[1]), need(node.outputs[0])
    users = [node]
    order = tuple(range(len(program.facts.shape(result))))
    turn = program.fusion.sole_user(result)
    if turn is not None and turn.op_type == "Transpose" and not turn.domain and _keeps_rows(turn, len(order)):
        program.fusion.claim([turn])
        users.append(turn)
        order = tuple(turn.attr("perm"))
    target = need(users[-1].outputs[0])
    with program.steps.on_behalf_of([*scores.nodes, *users]):
        query = _matrices(program, scores.query, rows_contiguous=True)
        key = _matrices(program, scores.key, rows_contiguous=False)
        mixed = _matrices(program, value, rows_contiguous=False)
        mask = None if scores.mask is None else program.values.strided(scores.mask)
        if mask is not None and mask.strides[-1] != 1 and scores.mask is not None:
            mask = _dense(program, scores.mask)
        emit_attention(program, Operands(query, key, mixed, mask, scores.scale), target, order)
    return True


def _keeps_rows(node: Node, rank: int) -> bool:
    order = node.attr("perm")
    return order is not None and order[-1] == rank - 1


def _factor(program: Program, node: Node, value: Value) -> float | None:
    """The number a node multiplies ``value`` with."""
    if node.op_type not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    first = node.inputs[0] is value
    constant = program.facts.constant_of(node.inputs[1] if first else node.inputs[0])
    if constant is None or constant.size != 1 or (node.op_type == "Div" and not first):
        return None
    number = float(constant.reshape(()))
    if node.op_type == "Mul":
        return number
    return 1.0 / number if number else None


def _is_mask(program: Program, mask: Value, shape: Sequence[int]) -> bool:
    """Whether a value can be added to the scores, each row of them to a whole row."""
    own = program.facts.shape(mask)
    if (
        not program.values.is_ready(mask)
        or program.facts.dtype(mask) is not DType.FLOAT32
        or not own
        or len(own) > len(shape)
    ):
        return False
    return own[-1] == shape[-1] and all(a in (1, b) for a, b in zip(reversed(own), reversed(shape), strict=False))


@dataclass(frozen=True, slots=True)
class Matrices:
    """A stack of matrices of this shape and how they lie."""

    buf: Buf
    lie: Lie
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operands:
    """What an attention is computed from; the stacks of matrices broadcast.

    Attributes:
        query: (..., queries, depth), rows contiguous.
        key: (..., depth, keys).
        value: (..., keys, columns).
        mask: added to the scores, broadcast but for the last axis, which is contiguous.
        scale: factor of the scores before that.
        empty: rows that see no key give zeros instead of NaN.
    """

    query: Matrices
    key: Matrices
    value: Matrices
    mask: Strided | None
    scale: float
    empty: bool = False


def _matrices(program: Program, value: Value, *, rows_contiguous: bool) -> Matrices:
    """The matrices of an operand where they lie, or copied where they cannot be read so."""
    strided = program.values.strided(value)
    lie = lie_of(strided)
    if lie is None or (rows_contiguous and lie.transposed):
        strided = _dense(program, value)
        lie = lie_of(strided)
    assert lie is not None
    return Matrices(strided.buf, lie, strided.shape)


def _dense(program: Program, value: Value) -> Strided:
    program.values.read(value)
    return program.values.strided(value)


def emit_attention(
    program: Program, operands: Operands, target: Value, order: Sequence[int], shape: Sequence[int] | None = None
) -> None:
    """Emit the steps of an attention.

    Args:
        target: where the result goes, as a dense tensor of ``shape`` (by default its own).
        order: which axis of the result each axis of that tensor is.
    """
    query, key, mixed, mask = operands.query, operands.key, operands.value, operands.mask
    query_shape, key_shape, value_shape = query.shape, key.shape, mixed.shape
    stack = np.broadcast_shapes(query_shape[:-2], key_shape[:-2], value_shape[:-2])
    rows, depth, count, columns = query_shape[-2], query_shape[-1], key_shape[-1], value_shape[-1]
    products = math.prod(stack)
    tiling = _choose(program.settings.target, rows, depth, count, columns)
    lanes = _lanes(program.settings.target)
    words: Words = {}
    for name, operand, splits in (("keys", key, tiling.keys), ("values", mixed, tiling.values)):
        *above, steps, across = operand.shape
        spread = _spread(above, stack)
        for index, split in enumerate(splits):
            width = split.blocks * lanes
            panels = pack_panels(
                program, operand.buf, operand.lie, steps, across, width, split.tiles, split.first * lanes
            )
            starts = np.asarray(spread, np.int64) * (split.tiles * steps * width)
            values: dict[Split, int | Buf] = {
                Split.AT: panels,
                Split.STARTS: program.constants.put(starts),
                Split.PANELS: split.tiles,
                Split.FIRST: split.first * lanes,
                Split.PANEL_STEP: steps * width,
                Split.ROW_STEP: width,
            }
            words |= {split_word(name, index, word): value for word, value in values.items()}
    segment = (
        min(segment_tiles(-(-rows // tiling.rows), products, program.settings.threads), SEGMENT_TILES) * tiling.rows
    )
    units = -(-rows // segment)
    score_step = lanes * sum(split.tiles * split.blocks for split in tiling.keys)
    scratch = -(-segment * (score_step + 1) // 16) * 16
    work = products * rows * count * ((depth + columns) * MAC_WORK + EXPONENTIAL_WORK)
    chunks = program.steps.chunks(products * units, work)
    output_starts, output_step = _target_lie(program.facts.shape(target) if shape is None else shape, order)
    words |= {
        Arg.QUERY: query.buf,
        Arg.OUTPUT: program.values.write(target),
        Arg.MASK: 0,
        Arg.MASK_STARTS: 0,
        Arg.MASK_STEP: 0,
        Arg.SCRATCH: Buf.scratch(4 * scratch * chunks),
        Arg.QUERY_STARTS: _table(program, query.lie.starts, _spread(query_shape[:-2], stack)),
        Arg.OUTPUT_STARTS: program.constants.put(output_starts),
        Arg.UNITS: units,
        Arg.SEGMENT: segment,
        Arg.ROWS: rows,
        Arg.DEPTH: depth,
        Arg.KEYS: count,
        Arg.COLUMNS: columns,
        Arg.QUERY_STEP: query.lie.step,
        Arg.OUTPUT_STEP: output_step,
        Arg.SCORE_STEP: score_step,
        Arg.SCRATCH_STEP: scratch,
        Arg.SCALE: float(operands.scale),
    }
    if mask is not None:
        starts, step = _mask_lie(mask, stack)
        words |= {Arg.MASK: mask.buf, Arg.MASK_STARTS: program.constants.put(starts), Arg.MASK_STEP: step}
    kernel = attention_kernel(
        tiling.rows,
        tuple(split.blocks for split in tiling.keys),
        tuple(split.blocks for split in tiling.values),
        mask is not None,
        operands.empty,
    )
    program.steps.emit(kernel, words, extent=products * units, work=work, chunks=chunks)


def _lanes(target: Target) -> int:
    return target.vector_bits // 32


def _spread(have: Sequence[int], want: Sequence[int]) -> list[int]:
    """Which matrix of a stack each product of the broadcast stack uses."""
    index = np.arange(math.prod(have)).reshape(have)
    return [int(i) for i in np.broadcast_to(index, want).reshape(-1)]


def _table(program: Program, starts: Sequence[int], spread: Sequence[int]) -> Buf:
    return program.constants.put(np.asarray([starts[i] for i in spread], np.int64))


def _target_lie(shape: Sequence[int], order: Sequence[int]) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """Where the matrices of the result start in a dense target that has its axes in ``order``, and their rows' step."""
    rank = len(order)
    own, strides = [0] * rank, [0] * rank
    for position, axis in enumerate(order):
        own[axis], strides[axis] = shape[position], math.prod(shape[position + 1 :])
    at = [
        sum(i * s for i, s in zip(index, strides, strict=False)) for index in itertools.product(*map(range, own[:-2]))
    ]
    return np.asarray(at, np.int64), strides[-2]


def _mask_lie(mask: Strided, stack: Sequence[int]) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """Where the rows start that are added to the scores of each product, and the step to the next."""
    missing = len(stack) + 2 - len(mask.shape)
    shape, strides = (1,) * missing + mask.shape, (0,) * missing + mask.strides
    steps = [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]
    at = [
        mask.offset + sum(i * s for i, s in zip(index, steps, strict=False))
        for index in itertools.product(*map(range, stack))
    ]
    return np.asarray(at, np.int64), steps[-2]


@dataclass(frozen=True, slots=True)
class _Tiling:
    rows: int
    keys: tuple[ChannelSplit, ...]
    values: tuple[ChannelSplit, ...]


@functools.lru_cache(maxsize=256)
def _choose(target: Target, rows: int, depth: int, keys: int, columns: int) -> _Tiling:
    """The cheapest tiles: both products have the same rows at a time."""
    lanes = _lanes(target)
    widths = (4, 3, 2) if target.vector_bits >= 512 or target.architecture == "aarch64" else (2, 1)

    def step(tall: int, splits: Sequence[ChannelSplit]) -> float:
        return sum(s.tiles * (max(tall * s.blocks, tall + s.blocks, 8) + 0.5) for s in splits)

    best: tuple[float, _Tiling] | None = None
    for for_keys, for_values in itertools.product(widths, repeat=2):
        of_keys = split_channels(-(-keys // lanes), for_keys)
        of_values = split_channels(-(-columns // lanes), for_values)
        blocks = max(split.blocks for split in (*of_keys, *of_values))
        most = min(most_rows(target, lanes, blocks), MOST_TILE_ROWS, rows)
        for tall in (choice for choice in ROW_CHOICES if choice <= most):
            cost = -(-rows // tall) * (depth * step(tall, of_keys) + keys * step(tall, of_values))
            if best is None or cost < best[0]:
                best = cost, _Tiling(tall, tuple(of_keys), tuple(of_values))
    assert best is not None
    return best[1]


def attention_kernel(
    rows: int, keys: tuple[int, ...], values: tuple[int, ...], mask: bool, empty: bool
) -> KernelSource:
    """The kernel for tiles of so many rows and of these vectors, split by split."""
    widths = "_".join("".join(map(str, splits)) for splits in (keys, values))
    symbol = f"attention_{rows}x{widths}" + ("_mask" if mask else "") + ("_empty" if empty else "")
    variant = Variant(rows, keys, values, mask, empty)
    return generated(GENERATOR, symbol, variant, words=lambda: layout(len(keys), len(values)))

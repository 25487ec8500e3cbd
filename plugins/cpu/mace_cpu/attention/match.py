"""Attention as exporters write it: MatMul, a factor, perhaps a mask, Softmax, MatMul; heads split by Transpose.

The nodes up to Softmax are noted when the first product is met (its values may not be computed yet) and become one step
with the second product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mace_core.graph import Node, Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.attention.lower import Matrices, Operands, dense, emit_attention, matrices_of, matrices_strided
from mace_cpu.matmul.views import lie_of
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.facts import are_same
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.fusion import Deferred
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import begins

HEADS = (1, 2, 1, 1)
"""Axes of (B, G, R, T, D) for each of (B, G R, T, D): heads of a cache, each for several of the query."""


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
        if not are_same(program.facts.shape(value), shape):
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
        if emit_repeated(program, scores, value, target, order):
            return True
        query = matrices_of(program, scores.query, rows_contiguous=True)
        key = matrices_of(program, scores.key, rows_contiguous=False)
        mixed = matrices_of(program, value, rows_contiguous=False)
        mask = _mask_rows(program, scores.mask)
        emit_attention(program, Operands(query, key, mixed, mask, scores.scale), target, order)
    return True


def emit_repeated(program: Program, scores: Scores, value: Value, target: Value, order: Sequence[int]) -> bool:
    """Emit an attention in which several heads of the query share one of keys and values, without repeating these.

    Returns:
        False where there is none: keys and values are not both (B, G R, ..) folded from (B, G, R, ..).
    """
    key, mixed = program.values.folded(scores.key), program.values.folded(value)
    if key is None or mixed is None or key.groups != HEADS or mixed.groups != HEADS:
        return False
    split = key.fine.shape[:3]
    if not are_same(split, mixed.fine.shape[:3]):
        return False
    lies = [lie_of(folded.fine) for folded in (key, mixed)]
    if lies[0] is None or lies[1] is None:
        return False
    query = _split_heads(matrices_strided(program, scores.query), split)
    mask = _mask_rows(program, scores.mask)
    mask = None if mask is None else _split_heads(mask, split)
    if query is None or (mask is None and scores.mask is not None):
        return False
    lie = lie_of(query)
    if lie is None or lie.transposed:
        return False
    operands = Operands(
        Matrices(query.buf, lie, query.shape),
        Matrices(key.fine.buf, lies[0], key.fine.shape),
        Matrices(mixed.fine.buf, lies[1], mixed.fine.shape),
        mask,
        scores.scale,
    )
    shape = program.facts.shape(target)
    finer = [axis for place in order for axis in ((1, 2) if place == 1 else (place + (place > 1),))]
    sizes = [
        size for place, whole in zip(order, shape, strict=True) for size in (split[1:] if place == 1 else (whole,))
    ]
    emit_attention(program, operands, target, finer, sizes)
    return True


def _split_heads(strided: Strided, split: Sequence[int]) -> Strided | None:
    """(.., heads, rows, columns) as (batch, groups, heads of a group, rows, columns), ones where it is broadcast."""
    shape = (1,) * (4 - len(strided.shape)) + strided.shape
    if len(shape) != 4:
        return None
    strides = (0,) * (4 - len(strided.shape)) + strided.strides
    whole = replace(strided, shape=shape, strides=strides)
    groups, shared = split[1:]
    if is_same(shape[1], 1):
        return whole.with_axis(1, 1, 1)
    return whole.with_axis(1, groups, shared)


def _mask_rows(program: Program, mask: Value | None) -> Strided | None:
    """What is added to scores, its rows contiguous."""
    found = None if mask is None else program.values.strided(mask)
    if found is not None and mask is not None and found.strides[-1] != 1:
        found = dense(program, mask)
    return found


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
    if not is_same(own[-1], shape[-1]):
        return False
    return all(is_same(a, 1) or is_same(a, b) for a, b in zip(reversed(own), reversed(shape), strict=False))

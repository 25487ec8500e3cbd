"""Attention in the forms of com.microsoft, as the standard's Attention or, where that lacks something, as products.

Sizes: B batch, N heads of queries, G heads of keys (N is a multiple), S queries, T keys, H and V elements of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mace_core.graph import Value
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.context import same_shape
from mace_core.operators.pieces import cast, cut, joined, shaped, turned
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType

LARGEST_CONSTANT_MASK = 1 << 20
"""A mask of more elements is computed in every run instead of being kept."""


@dataclass(frozen=True, slots=True)
class Heads:
    """A value (B, rows, heads * size), or (B, heads, rows, size) where it is split."""

    value: Value
    batch: int
    heads: int
    rows: int
    size: int
    is_split: bool = False

    def split(self, b: BodyBuilder) -> Heads:
        """As (B, heads, rows, size)."""
        if self.is_split:
            return self
        four = shaped(b, self.value, (self.batch, self.rows, self.heads, self.size))
        return Heads(turned(b, four, (0, 2, 1, 3)), self.batch, self.heads, self.rows, self.size, True)

    def behind(self, b: BodyBuilder, past: Value | None, rows: int, *, into: Value | None = None) -> Heads:
        """After ``rows`` rows of an earlier run, split; ``into``: the output that is this too."""
        own = self.split(b)
        total = own.value
        if past is not None:
            total = joined(b, [past, own.value], 2, into=into)
        elif into is not None:
            total = b.op("Identity", [own.value], into=into)
        return Heads(total, self.batch, self.heads, self.rows + rows, self.size, True)


@dataclass(slots=True)
class Scoring:
    """How scores become weights.

    Attributes:
        scale: factor of the products of queries and keys.
        masks: are added, each (B or 1, N or 1, S or 1, T).
        softcap: scores are bent to stay below this; 0: they are not.
        sink: (1, N or 1, 1, 1), a score that takes part in the softmax and weighs nothing.
        scores: the output for the scores before the softmax, masks included.
    """

    scale: float
    masks: list[Value] = field(default_factory=list)
    softcap: float = 0.0
    sink: Value | None = None
    scores: Value | None = None


def attend(b: BodyBuilder, query: Heads, key: Heads, value: Heads, how: Scoring, into: Value) -> None:
    """Append the attention; its result (B, S, N V) is ``into``."""
    mask = _sum(b, how.masks)
    if how.softcap or how.sink is not None or how.scores is not None:
        mixed = _by_products(b, query.split(b), key.split(b), value.split(b), how, mask)
        _merged(b, mixed, query, value, into)
        return
    attributes = {"scale": how.scale, "q_num_heads": query.heads, "kv_num_heads": key.heads}
    if not (query.is_split or key.is_split or value.is_split):
        b.op("Attention", [query.value, key.value, value.value, mask], attributes, into=into)
        return
    parts = [part.split(b).value for part in (query, key, value)]
    _merged(b, b.op("Attention", [*parts, mask], {"scale": how.scale}), query, value, into)


def _merged(b: BodyBuilder, mixed: Value, query: Heads, value: Heads, into: Value) -> None:
    """(B, N, S, V) as (B, S, N V)."""
    shape = (query.batch, query.rows, query.heads * value.size)
    shaped(b, turned(b, mixed, (0, 2, 1, 3)), shape, into=into)


def _by_products(b: BodyBuilder, query: Heads, key: Heads, value: Heads, how: Scoring, mask: Value | None) -> Value:
    """(B, N, S, V): the queries of the heads that share keys stand below each other in one product."""
    shared = query.heads // key.heads * query.rows
    full = (query.batch, query.heads, query.rows, key.rows)
    rows = shaped(b, query.value, (query.batch, key.heads, shared, query.size))
    scores = b.op("MatMul", [rows, turned(b, key.value, (0, 1, 3, 2))])
    like = b.node.inputs[0]
    assert like is not None
    scores = shaped(b, b.op("Mul", [scores, b.scalar_like(how.scale, like)]), full)
    if how.softcap:
        cap = b.scalar_like(how.softcap, like)
        scores = b.op("Mul", [b.op("Tanh", [b.op("Div", [scores, cap])]), cap])
    if mask is not None:
        scores = b.op("Add", [scores, mask], into=how.scores)
    elif how.scores is not None:
        scores = b.op("Identity", [scores], into=how.scores)
    if how.sink is None:
        weights = b.op("Softmax", [scores], {"axis": -1})
    else:
        column = b.op("Expand", [how.sink, b.constant([*full[:3], 1], np.int64)])
        weights = b.op("Softmax", [joined(b, [scores, column], 3)], {"axis": -1})
        weights = cut(b, weights, 3, 0, key.rows)
    weights = shaped(b, weights, (query.batch, key.heads, shared, key.rows))
    mixed = b.op("MatMul", [weights, value.value])
    return shaped(b, mixed, (query.batch, query.heads, query.rows, value.size))


def _sum(b: BodyBuilder, masks: Sequence[Value]) -> Value | None:
    total: Value | None = None
    for mask in masks:
        total = mask if total is None else b.op("Add", [total, mask])
    return total


def causal_mask(
    b: BodyBuilder, like: Value, queries: int, keys: int, before: int | Value, window: int = 0
) -> Value | None:
    """(B or 1, 1, S, T): no query sees a key after its own, nor one ``window`` keys before it or further.

    Args:
        like: a value of the element type of the mask.
        before: keys before that of the first query; or a value (B, 1, 1, 1) of int64.
        window: 0 for none.

    Returns:
        None where every query sees every key.
    """
    if isinstance(before, int):
        if before + 1 >= keys and (not window or before + queries <= window):
            return None
        is_decided = not any(map(is_symbolic, (queries, keys, before)))
        if is_decided and queries * keys <= LARGEST_CONSTANT_MASK:
            columns, rows = np.arange(keys)[None, None, None, :], before + np.arange(queries)[None, None, :, None]
            hidden = columns > rows
            if window:
                hidden |= columns <= rows - window
            zero = b.scalar_like(0.0, like).constant
            assert zero is not None
            return b.constant(np.where(hidden, -np.inf, 0.0).astype(zero.numpy().dtype))
        row_value = b.numbers(queries, (1, 1, queries, 1), before)
    else:
        row_value = b.op("Add", [before, b.numbers(queries, (1, 1, queries, 1))])
    column_value = b.numbers(keys, (1, 1, 1, keys))
    condition = b.op("Greater", [column_value, row_value])
    if window:
        last = b.op("Sub", [row_value, b.constant(window - 1, np.int64)])
        condition = b.op("Or", [condition, b.op("Less", [column_value, last])])
    return b.op("Where", [condition, b.scalar_like(-np.inf, like), b.scalar_like(0.0, like)])


def key_mask(
    b: BodyBuilder, like: Value, mask: Value, batch: int, queries: int, keys: int, fill: float
) -> Value | None:
    """The additive form (B, 1, S or 1, T) of a mask of whole numbers; None for a form that is not known.

    Such a mask is (B, T) or (B, S, T), with 0 for what is not seen; (B,), the number of keys; (2 B,), behind that also
    the first key.
    """
    shape = b.view.shape(mask)
    hidden, shown = b.scalar_like(fill, like), b.scalar_like(0.0, like)
    if same_shape(shape, (batch, keys)) or same_shape(shape, (batch, queries, keys)):
        four = shaped(b, mask, (batch, 1, queries if len(shape) == 3 else 1, keys))
        return b.op("Where", [cast(b, four, DType.BOOL), shown, hidden])
    if len(shape) != 1 or (shape[0] != batch and shape[0] != 2 * batch):
        return None
    columns = b.numbers(keys, (1, 1, 1, keys))
    ends = shaped(b, cast(b, mask, DType.INT64), (shape[0] // batch, batch, 1, 1, 1))
    seen = b.op("Less", [columns, shaped(b, cut(b, ends, 0, 0, 1), (batch, 1, 1, 1))])
    if shape[0] != batch:
        first = shaped(b, cut(b, ends, 0, 1, 2), (batch, 1, 1, 1))
        seen = b.op("And", [seen, b.op("Not", [b.op("Less", [columns, first])])])
    return b.op("Where", [seen, shown, hidden])

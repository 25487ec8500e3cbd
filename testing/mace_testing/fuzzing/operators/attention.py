"""Attention and what surrounds it in transformers; losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source


def _tolerance(dtype: np.dtype[Any]) -> float:
    return 2e-2 if dtype.itemsize == 2 else 1e-4


@draws("Attention")
def attention(source: Source, op: str) -> OpCase:
    """No row is masked as a whole: its softmax is not defined."""
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=schema.FLOATS[:2])
    batch, shared, repeat = source.dim(1, 2), source.dim(1, 2), source.dim(1, 2)
    queries, keys, depth, values = source.dim(1, 4), source.dim(1, 5), 2 * source.dim(1, 3), source.dim(1, 5)
    heads = shared * repeat
    flat = source.flag()
    attributes: dict[str, Any] = {}
    shapes: list[tuple[int, ...]]
    if flat:
        shapes = [(batch, queries, heads * depth), (batch, keys, shared * depth), (batch, keys, shared * values)]
        attributes |= {"q_num_heads": heads, "kv_num_heads": shared}
    else:
        shapes = [(batch, heads, queries, depth), (batch, shared, keys, depth), (batch, shared, keys, values)]
    inputs: list[Array | None] = [source.floats(shape, dtype, -1, 1) for shape in shapes]
    past = source.integer(1, 3) if source.rarely(4) else 0
    if source.flag():
        total = keys + past
        shape = source.pick([(queries, total), (1, 1, queries, total), (batch, heads, queries, total)])
        if source.flag():
            mask = source.array(shape, bool)
            mask[..., 0] = True
            inputs.append(mask)
        else:
            inputs.append(source.array(shape, dtype, -2, 2))
    elif past:
        inputs.append(None)
    if past:
        inputs += [source.floats((batch, shared, past, size), dtype, -1, 1) for size in (depth, values)]
    if source.rarely(3):
        attributes["is_causal"] = 1
    if source.rarely(3):
        attributes["scale"] = 0.5
    if source.rarely(4):
        attributes["softcap"] = 2.0
    outputs = (True, True, True) if past else (True,)
    return OpCase(op, opset, tuple(inputs), attributes, outputs, tolerance=_tolerance(dtype))


@draws("RotaryEmbedding")
def rotary(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    batch, heads, length, half = source.dim(1, 2), source.dim(1, 3), source.dim(1, 4), source.dim(1, 4)
    attributes: dict[str, Any] = {"interleaved": int(source.flag())} if source.flag() else {}
    flat = source.flag()
    size = 2 * half
    x = source.array((batch, length, heads * size) if flat else (batch, heads, length, size), dtype)
    if flat:
        attributes["num_heads"] = heads
    rotated = half
    if half > 1 and source.rarely(3):
        rotated = half // 2
        attributes["rotary_embedding_dim"] = 2 * rotated
    if source.flag():
        caches = [source.array((length + 2, rotated), dtype, -1, 1) for _ in range(2)]
        positions = source.array((batch, length), np.int64, 0, length + 1)
        return OpCase(op, opset, (x, *caches, positions), attributes)
    caches = [source.array((batch, length, rotated), dtype, -1, 1) for _ in range(2)]
    return OpCase(op, opset, (x, *caches), attributes)


@draws("LinearAttention")
def linear_attention(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=schema.FLOATS[:1])
    batch, heads, length, size = source.dim(1, 2), source.dim(1, 2), source.dim(1, 4), source.dim(1, 4)
    rule = source.pick(["linear", "gated", "delta", "gated_delta"])
    shape = (batch, length, heads * size)
    inputs: list[Array | None] = [source.floats(shape, dtype, -1, 1) for _ in range(3)]
    inputs.append(source.floats((batch, heads, size, size), dtype, -1, 1) if source.flag() else None)
    inputs.append(source.floats(shape, dtype, -1, 0) if rule.startswith("gated") else None)
    inputs.append(source.floats((batch, length, heads), dtype, 0, 1) if rule.endswith("delta") else None)
    while inputs[-1] is None:
        inputs.pop()
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": heads, "update_rule": rule}
    return OpCase(op, opset, tuple(inputs), attributes, (True, True), tolerance=_tolerance(dtype))


@draws("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=schema.FLOATS[:2])
    batch, classes = source.dim(1, 4), source.dim(1, 5)
    spatial = source.shape(0, 2, largest=3, empty=False)
    x = source.array((batch, classes, *spatial), dtype, -3, 3)
    target = source.array((batch, *spatial), source.pick([np.int64, np.int32]), 0, classes - 1)
    inputs: tuple[Array, ...] = (x, target)
    if source.flag():
        inputs = (*inputs, source.array((classes,), dtype, 0.5, 2))
    attributes: dict[str, Any] = {"reduction": source.pick(["mean", "sum", "none"])} if source.flag() else {}
    outputs = (True, True) if op == "SoftmaxCrossEntropyLoss" and source.flag() else (True,)
    return OpCase(op, opset, inputs, attributes, outputs, tolerance=1e-4)

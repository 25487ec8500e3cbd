"""Attention and embeddings of com.microsoft; only onnxruntime judges them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import CONTRIB, Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

OPSET = 17
FLOAT = np.dtype(np.float32)


def _values(source: Source, *shape: int) -> Array:
    return source.floats(shape, FLOAT, -1, 1)


def _key_mask(source: Source, batch: int, queries: int, keys: int, *, starts: bool) -> Array:
    """A mask under which every query sees a key."""
    form = source.pick(["lengths", "keys", "scores", *(["ends"] if starts else [])])
    if form == "lengths":
        return source.array((batch,), np.int32, 1, keys)
    if form == "ends":
        return np.concatenate([np.full(batch, keys), source.array((batch,), np.int32, 0, keys - 1)]).astype(np.int32)
    mask = source.array((batch, keys) if form == "keys" else (batch, queries, keys), np.int32, 0, 1)
    mask[..., 0] = 1
    return mask


def _trimmed(inputs: list[Array | None]) -> tuple[Array | None, ...]:
    while inputs[-1] is None:
        inputs.pop()
    return tuple(inputs)


@draws("Attention", domain=CONTRIB)
def attention(source: Source, op: str) -> OpCase:
    batch, rows, heads, size = source.dim(1, 2), source.dim(1, 5), source.dim(1, 3), source.dim(1, 5)
    width, values = source.dim(1, 6), size
    attributes: dict[str, Any] = {"num_heads": heads}
    past = source.integer(1, 3) if source.rarely(3) else 0
    if not past and source.rarely(3):
        values = source.dim(1, 5)
        attributes["qkv_hidden_sizes"] = [heads * size, heads * size, heads * values]
    total = heads * (2 * size + values)
    inputs: list[Array | None] = [_values(source, batch, rows, width), _values(source, width, total)]
    inputs.append(_values(source, total))
    inputs.append(_key_mask(source, batch, rows, rows + past, starts=True) if source.flag() else None)
    inputs.append(_values(source, 2, batch, heads, past, size) if past else None)
    lead = (source.pick([1, batch]), source.pick([1, heads]))
    inputs.append(_values(source, *lead, rows, rows + past) if source.rarely(3) else None)
    if source.flag():
        attributes["unidirectional"] = 1
    if source.rarely(4):
        attributes["scale"] = 0.5
    if source.rarely(4):
        attributes["mask_filter_value"] = -1000.0
    outputs = (True, True) if past or (values == size and source.flag()) else (True,)
    return OpCase(op, OPSET, _trimmed(inputs), attributes, outputs, tolerance=1e-4)


@draws("QAttention", domain=CONTRIB)
def quantized_attention(source: Source, op: str) -> OpCase:
    batch, rows, heads, size = source.dim(1, 2), source.dim(1, 5), source.dim(1, 3), source.dim(1, 5)
    width, past = source.dim(1, 6), source.integer(1, 3) if source.rarely(3) else 0
    total = 3 * heads * size
    first, second = np.dtype(np.uint8), source.pick([np.dtype(np.uint8), np.dtype(np.int8)])
    inputs: list[Array | None] = [
        source.array((batch, rows, width), first, 0, 50),
        source.array((width, total), second, -20, 20),
        _values(source, total),
        np.array(0.125, np.float32),
        np.array(0.25, np.float32) if source.flag() else source.array((total,), FLOAT, 0.125, 0.25, 0.125),
        _key_mask(source, batch, rows, rows + past, starts=False) if source.flag() else None,
        source.array((), first, 0, 5),
        source.array((), second, 0, 5),
        _values(source, 2, batch, heads, past, size) if past else None,
    ]
    attributes: dict[str, Any] = {"num_heads": heads, "unidirectional": int(source.flag())}
    return OpCase(op, OPSET, _trimmed(inputs), attributes, (True, True) if past else (True,), tolerance=1e-4)


@draws("MultiHeadAttention", domain=CONTRIB)
def multi_head(source: Source, op: str) -> OpCase:
    """Packed forms have no judge: onnxruntime has them on GPUs only."""
    batch, rows, heads, size = source.dim(1, 2), source.dim(1, 5), source.dim(1, 3), source.dim(1, 5)
    form = source.pick(["apart", "cache"])
    keys, values, past = source.dim(1, 6), size, 0
    inputs: list[Array | None] = [_values(source, batch, rows, heads * size)]
    if form == "cache":
        inputs += [_values(source, batch, heads, keys, size) for _ in range(2)]
    else:
        past = source.integer(1, 3) if source.rarely(3) else 0
        values = size if past else source.dim(1, 5)
        inputs += [_values(source, batch, keys, heads * size), _values(source, batch, keys, heads * values)]
    has_bias = form == "apart" and source.flag()
    inputs.append(_values(source, heads * (2 * size + values)) if has_bias else None)
    inputs.append(_key_mask(source, batch, rows, keys + past, starts=False) if source.flag() else None)
    lead = (source.pick([1, batch]), source.pick([1, heads]))
    inputs.append(_values(source, *lead, rows, keys + past) if source.rarely(3) else None)
    inputs += [_values(source, batch, heads, past, size) if past else None for _ in range(2)]
    attributes: dict[str, Any] = {"num_heads": heads}
    if source.rarely(3) and rows == keys:
        attributes["unidirectional"] = 1
    if source.rarely(4):
        attributes["scale"] = 0.5
    outputs = (True, True, True) if form == "apart" and (past or source.flag()) else (True,)
    return OpCase(op, OPSET, _trimmed(inputs), attributes, outputs, tolerance=1e-4)


@draws("GroupQueryAttention", domain=CONTRIB)
def grouped(source: Source, op: str) -> OpCase:
    """A prompt, one more token of each row (of different lengths), or several of one row."""
    form = source.pick(["prompt", "token", "chunk"])
    batch = 1 if form == "chunk" else source.dim(1, 3)
    groups, shared, size = source.dim(1, 2), source.dim(1, 3), 16 * source.dim(1, 2)
    heads = groups * shared
    rows = {"token": 1}.get(form, source.dim(2, 5))
    before = np.zeros(batch, np.int64) if form == "prompt" else source.array((batch,), np.int64, 1, 5)
    total = int(before.max()) + rows
    room = 0
    if form != "prompt":
        room = source.pick([int(before.max()), total, total + 2])
    elif source.flag():
        room = source.pick([0, total, total + 2])
    packed = source.flag()
    inputs: list[Array | None]
    if packed:
        inputs = [_values(source, batch, rows, (heads + 2 * groups) * size), None, None]
    else:
        inputs = [_values(source, batch, rows, heads * size)]
        inputs += [_values(source, batch, rows, groups * size) for _ in range(2)]
    inputs += [_values(source, batch, groups, room, size) for _ in range(2)]
    inputs += [(before + rows - 1).astype(np.int32), np.array(total, np.int32)]
    attributes: dict[str, Any] = {"num_heads": heads, "kv_num_heads": groups}
    positions = None
    if source.flag():
        attributes["do_rotary"] = 1
        half = size // 2
        inputs += [_values(source, total + 2, half) for _ in range(2)]
        if source.flag():
            attributes["rotary_interleaved"] = 1
        if source.rarely(3):
            positions = before[:, None] + np.arange(rows)[None, :]
    else:
        inputs += [None, None]
    inputs.append(positions)
    lead = (source.pick([1, batch]), source.pick([1, heads]))
    inputs.append(_values(source, *lead, rows, total) if source.rarely(3) else None)
    inputs.append(_values(source, heads) if source.rarely(3) else None)
    if source.rarely(3):
        attributes["local_window_size"] = source.dim(1, 4)
    if source.rarely(3):
        attributes["softcap"] = 2.0
    if source.rarely(3):
        attributes["scale"] = 0.5
    if inputs[-1] is None and source.rarely(3):
        attributes["smooth_softmax"] = 1
    return OpCase(op, OPSET, _trimmed(inputs), attributes, (True, True, True), constants=frozenset({6}), tolerance=1e-4)


@draws("RotaryEmbedding", domain=CONTRIB)
def rotary(source: Source, op: str) -> OpCase:
    batch, heads, rows, half = source.dim(1, 2), source.dim(1, 3), source.dim(1, 4), source.dim(1, 4)
    attributes: dict[str, Any] = {"interleaved": int(source.flag())}
    size = 2 * half
    if source.rarely(3):
        size += 2 * source.dim(1, 3)
        attributes |= {"num_heads": heads, "rotary_embedding_dim": 2 * half}
    shape = (batch, heads, rows, size) if source.flag() else (batch, rows, heads * size)
    caches = [_values(source, rows + 3, half) for _ in range(2)]
    if source.flag():
        positions = source.array((1,), np.int64, 0, 3)
    else:
        positions = source.array((batch, rows), np.int64, 0, rows + 2)
    return OpCase(op, OPSET, (_values(source, *shape), positions, *caches), attributes, tolerance=1e-4)


@draws("EmbedLayerNormalization", domain=CONTRIB)
def embedding(source: Source, op: str) -> OpCase:
    batch, rows, width, words = source.dim(1, 3), source.dim(1, 4), source.dim(2, 9), source.dim(2, 6)
    has_segments = source.flag()
    inputs: list[Array | None] = [
        source.array((batch, rows), np.int32, 0, words - 1),
        source.array((batch, rows), np.int32, 0, 1) if has_segments else None,
        source.floats((words, width), FLOAT),
        source.floats((rows + 2, width), FLOAT),
        source.floats((2, width), FLOAT) if has_segments else None,
        source.array((width,), FLOAT, 0.5, 2),
        source.array((width,), FLOAT),
        None,
    ]
    if source.flag():
        lengths = source.array((batch, 1), np.int32, 1, rows)
        inputs[7] = (np.arange(rows)[None, :] < lengths).astype(np.int32)
    if source.rarely(3):
        inputs.append(source.array((source.pick([1, batch]), rows), np.int32, 0, rows + 1))
    outputs = source.pick([(True, True), (True, True, True)])
    return OpCase(op, OPSET, _trimmed(inputs), {"epsilon": 1e-2}, outputs, tolerance=1e-4)

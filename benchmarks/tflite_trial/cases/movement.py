"""Functions that choose and move elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from benchmarks.tflite_trial.case import ACTIVATIONS, function

F, I, L, B = tf.float32, tf.int32, tf.int64, tf.bool  # noqa: E741
IMAGE = ((None, 9, 11, 3), F)
NUMBERS = ((4, 6), F)
ROWS = ((None, 6), F)

# Indices
function(
    "index/gather", lambda x, i: tf.gather(x, i, axis=1), ((3, 5, 2), F), ((4,), I), low=0, high=4, forms=("float32",)
)
function("index/gather_int8", lambda x: tf.gather(x, [2, 0, 1], axis=1), IMAGE, forms=ACTIVATIONS)
function("index/gather_batch", lambda x, i: tf.gather(x, i, batch_dims=1), ((3, 5, 2), F), ((3, 2), I), low=0, high=4)
function(
    "index/gather_batch_axis",
    lambda x, i: tf.gather(x, i, axis=2, batch_dims=1),
    ((3, 5, 4), F),
    ((3, 2), I),
    low=0,
    high=3,
)
function("index/gather_int64", lambda x, i: tf.gather(x, i), ((5, 2), L), ((3,), L), low=0, high=4)
function("index/gather_scalar", lambda x, i: tf.gather(x, i), ((5, 2), F), ((), I), low=0, high=4)
function("index/gather_bool", lambda x, i: tf.gather(x, i), ((5, 2), B), ((3,), I), low=0, high=4)
function("index/gather_nd", tf.gather_nd, ((3, 5, 2), F), ((4, 2), I), low=0, high=2)
function(
    "index/gather_nd_batch",
    lambda x, i: tf.gather_nd(x, i, batch_dims=1),
    ((3, 5, 2), F),
    ((3, 4, 1), I),
    low=0,
    high=2,
)
function("index/gather_nd_int64", tf.gather_nd, ((3, 5, 2), I), ((4, 3), L), low=0, high=1)
function("index/scatter_nd", lambda i, x: tf.scatter_nd(i, x, [6, 2]), ((4, 1), I), ((4, 2), F), low=0, high=5)
function("index/scatter_nd_twice", lambda x: tf.scatter_nd([[1], [1], [3]], x, [5]), ((3,), F))
function("index/scatter_update", lambda x, u: tf.tensor_scatter_nd_update(x, [[1], [3]], u), ((6, 2), F), ((2, 2), F))
function("index/scatter_add", lambda x, u: tf.tensor_scatter_nd_add(x, [[1], [3], [1]], u), ((6, 2), F), ((3, 2), F))
function("index/scatter_max", lambda x, u: tf.tensor_scatter_nd_max(x, [[1], [3], [1]], u), ((6, 2), F), ((3, 2), F))
function("index/one_hot", lambda i: tf.one_hot(i, 5), ((3, 2), I), low=0, high=4)
function(
    "index/one_hot_values",
    lambda i: tf.one_hot(i, 5, on_value=2.0, off_value=-1.0, axis=1),
    ((3, 2), I),
    low=-1,
    high=5,
)
function("index/one_hot_int64", lambda i: tf.one_hot(i, 5, dtype=L), ((3, 2), L), low=0, high=4)
function("index/one_hot_bool", lambda i: tf.one_hot(i, 5, on_value=True, off_value=False), ((3, 2), I), low=0, high=4)
function("index/topk", lambda x: tf.math.top_k(x, 3), ((4, 9), F))
function("index/topk_int", lambda x: tf.math.top_k(x, 3), ((4, 9), I), low=-5, high=5)
function("index/topk_size", lambda x, k: tf.math.top_k(x, k), ((4, 9), F), ((), I), low=1, high=4)
function("index/in_top_k", lambda x, t: tf.math.in_top_k(t, x, 2), ((4, 9), F), ((4,), I), low=0, high=8)
function("index/sort", lambda x: tf.sort(x, direction="DESCENDING"), ((4, 9), F))
function("index/sort_up", lambda x: tf.sort(x, axis=0), ((4, 9), F))
function("index/argsort", lambda x: tf.argsort(x), ((4, 9), F))
function("index/unique", lambda x: tf.unique(x), ((9,), I), low=0, high=4)
function("index/unique_float", lambda x: tf.unique(tf.round(x)), ((9,), F))
function("index/unique_int64", lambda x: tf.unique(x, out_idx=L), ((9,), L), low=0, high=4)
function("index/where", lambda x: tf.where(x > 0), ((3, 4), F))
function("index/where_bool", tf.where, ((3, 4), B))
function("index/where_select", lambda c, a, b: tf.where(c, a, b), ((3, 4), B), ((3, 4), F), ((4,), F))
function("index/where_int", lambda c, a, b: tf.where(c, a, b), ((3, 1), B), ((3, 4), I), ((), I), low=0, high=9)
function("index/where_v1", lambda c, a, b: tf.compat.v1.where(c, a, b), ((3,), B), ((3, 4), F), ((3, 4), F))
function("index/boolean_mask", lambda x, m: tf.boolean_mask(x, m), ((5, 2), F), ((5,), B))
function("index/dynamic_partition", lambda x, p: tf.dynamic_partition(x, p, 2), ((5,), F), ((5,), I), low=0, high=1)
function("index/dynamic_stitch", lambda a, b: tf.dynamic_stitch([[0, 2], [1, 3]], [a, b]), ((2, 3), F), ((2, 3), F))
function("index/searchsorted", lambda x: tf.searchsorted([0.0, 1.0, 1.5], x), ((7,), F))
function("index/bucketize", lambda x: tf.raw_ops.Bucketize(input=x, boundaries=[-1.0, 0.0, 1.0]), NUMBERS)
function(
    "index/embedding_lookup",
    lambda i: tf.nn.embedding_lookup(tf.reshape(tf.range(20.0), (5, 4)), i),
    ((6,), I),
    low=0,
    high=4,
)
function("index/invert_permutation", tf.math.invert_permutation, ((4,), I), feeds=[[[2, 0, 3, 1]]])
function("index/sets", lambda x: tf.raw_ops.ListDiff(x=x, y=tf.constant([1, 3])), ((6,), I), low=0, high=5)

# Slices: every mask
SLICES: dict[str, Callable[[Any], Any]] = {
    "begin_end": lambda x: x[:, 1:7, 2:9:2],
    "negative": lambda x: x[:, -3:-1, ::-1],
    "backwards": lambda x: x[:, 7:2:-2],
    "ellipsis": lambda x: x[..., 1],
    "ellipsis_middle": lambda x: x[0, ..., :2],
    "new_axis": lambda x: x[:, tf.newaxis, 3, :, tf.newaxis],
    "shrink": lambda x: x[0, -1],
    "empty": lambda x: x[:, 5:2],
    "past_end": lambda x: x[:, 4:100, -100:3],
}
for name, call in SLICES.items():
    function(f"slice/strided_{name}", call, IMAGE, forms=ACTIVATIONS if name != "empty" else ("float32",))
for dtype in (I, L, tf.uint8, B, tf.int16, tf.uint32, tf.string):
    if dtype is not tf.string:
        function(f"slice/strided_{dtype.name}", lambda x: x[1:, ::2], ((3, 5), dtype), low=0, high=9)
function("slice/slice", lambda x: tf.slice(x, [0, 1, 2, 0], [-1, 3, -1, 2]), IMAGE, forms=ACTIVATIONS)
function("slice/slice_dynamic", lambda x, b: tf.slice(x, b, [2, 3]), ((5, 6), F), ((2,), I), low=0, high=2)
function("slice/strided_dynamic", lambda x, b: x[b : b + 2, b:], ((5, 6), F), ((), I), low=0, high=2)
function("slice/split", lambda x: tf.split(x, 3, axis=-1), IMAGE, forms=ACTIVATIONS)
function("slice/split_sizes", lambda x: tf.split(x, [2, -1, 4], axis=1), IMAGE, forms=ACTIVATIONS)
function("slice/unstack", lambda x: tf.unstack(x, axis=1), ((2, 3, 4), F), forms=ACTIVATIONS)
function("slice/stack", lambda a, b: tf.stack([a, b], 1), NUMBERS, NUMBERS, forms=ACTIVATIONS)
function("slice/concat", lambda a, b: tf.concat([a, b, a], 1), ROWS, ROWS, forms=ACTIVATIONS)
function("slice/concat_int64", lambda a, b: tf.concat([a, b], 0), ((2, 3), L), ((1, 3), L))
function("slice/concat_bool", lambda a, b: tf.concat([a, b], 0), ((2, 3), B), ((1, 3), B))
function("slice/tile", lambda x: tf.tile(x, [1, 2, 1, 3]), IMAGE, forms=ACTIVATIONS)
function("slice/tile_dynamic", lambda x, n: tf.tile(x, n), ((2, 3), F), ((2,), I), low=1, high=3)
function("slice/broadcast_to", lambda x: tf.broadcast_to(x, [4, 3, 6]), ((3, 1), F), forms=ACTIVATIONS)
function(
    "slice/broadcast_shape",
    lambda a, b: tf.broadcast_to(a, tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b))),
    ((3, 1), F),
    ((1, 4), F),
)
function(
    "slice/pad", lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 3], [0, 0]], constant_values=1.5), IMAGE, forms=ACTIVATIONS
)
function(
    "slice/pad_reflect", lambda x: tf.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]], "REFLECT"), IMAGE, forms=ACTIVATIONS
)
function(
    "slice/pad_symmetric", lambda x: tf.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]], "SYMMETRIC"), IMAGE, forms=ACTIVATIONS
)
function("slice/pad_int", lambda x: tf.pad(x, [[1, 2], [0, 1]], constant_values=7), ((2, 3), I), low=0, high=9)
function("slice/pad_bool", lambda x: tf.pad(x, [[1, 2], [0, 1]]), ((2, 3), B))
function("slice/pad_dynamic", lambda x, p: tf.pad(x, p), ((2, 3), F), ((2, 2), I), low=0, high=3)
function("slice/transpose", lambda x: tf.transpose(x, [0, 3, 2, 1]), IMAGE, forms=ACTIVATIONS)
function("slice/transpose_5d", lambda x: tf.transpose(x, [4, 0, 3, 2, 1]), ((2, 3, 4, 5, 2), F))
function("slice/transpose_bool", lambda x: tf.transpose(x), ((2, 3), B))
function("slice/reverse", lambda x: tf.reverse(x, [1, 3]), IMAGE, forms=ACTIVATIONS)
function("slice/reverse_bool", lambda x: tf.reverse(x, [1]), ((2, 3), B))
function(
    "slice/reverse_sequence",
    lambda x, n: tf.reverse_sequence(x, n, seq_axis=1, batch_axis=0),
    ((3, 5, 2), F),
    ((3,), I),
    low=1,
    high=5,
)
function("slice/roll", lambda x: tf.roll(x, [1, -2], [1, 2]), IMAGE)
function("slice/space_to_depth", lambda x: tf.nn.space_to_depth(x, 2), ((None, 4, 6, 3), F), forms=ACTIVATIONS)
function("slice/depth_to_space", lambda x: tf.nn.depth_to_space(x, 2), ((None, 4, 6, 12), F), forms=ACTIVATIONS)
function(
    "slice/space_to_batch",
    lambda x: tf.space_to_batch(x, [2, 3], [[0, 0], [1, 2]]),
    ((None, 4, 6, 3), F),
    forms=ACTIVATIONS,
)
function(
    "slice/batch_to_space",
    lambda x: tf.batch_to_space(x, [2, 2], [[0, 1], [1, 0]]),
    ((4, 3, 5, 2), F),
    forms=ACTIVATIONS,
)
function(
    "slice/patches", lambda x: tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"), IMAGE
)
function("slice/meshgrid", lambda a, b: tf.meshgrid(a, b), ((3,), F), ((4,), F))
function("slice/eye", lambda x: x + tf.eye(3), ((3, 3), F))
function("slice/fill", lambda n: tf.fill(n, 2.5), ((2,), I), low=1, high=4)
function("slice/fill_scalar", lambda x: tf.fill([2, 3], x), ((), F))
function("slice/range", lambda n: tf.range(1, n, 2), ((), I), low=5, high=9)
function("slice/range_float", lambda n: tf.range(0.0, n, 0.5), ((), F), low=2, high=4)
function("slice/linspace", lambda n: tf.linspace(0.0, n, 5), ((), F), low=2, high=4)
function("slice/shape", lambda x: tf.shape(x), ((None, 3), F))
function("slice/shape_int64", lambda x: tf.shape(x, out_type=L), ((None, 3), F))
function("slice/rank", lambda x: tf.rank(x), ((None, 3), F))
function("slice/size", lambda x: tf.size(x), ((None, 3), F))
function("slice/reshape_dynamic", lambda x: tf.reshape(x, [tf.shape(x)[0] * 3, -1]), ((None, 6), F))
function("slice/squeeze", lambda x: tf.squeeze(x, [1, -1]), ((None, 1, 3, 1), F), forms=ACTIVATIONS)
function("slice/squeeze_all", lambda x: tf.squeeze(x), ((2, 1, 3, 1), F))
function("slice/expand", lambda x: tf.expand_dims(x, -2), ROWS, forms=ACTIVATIONS)
function("slice/zeros_like", lambda x: tf.zeros_like(x) + tf.ones_like(x), ROWS)
function("slice/ensure_shape", lambda x: tf.ensure_shape(x, [None, 6]) * 2, ROWS)
function("slice/identity", lambda x: tf.identity(x), ROWS, forms=ACTIVATIONS)
function("slice/same_twice", lambda x: (x, x + 1, x), ROWS)
function("slice/constant_out", lambda x: (x * 2, tf.constant([1, 2, 3])), ROWS)

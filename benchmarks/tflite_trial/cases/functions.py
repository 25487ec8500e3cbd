"""Functions of numbers, in all element types; reductions; what needs TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from benchmarks.tflite_trial.case import ACTIVATIONS, SELECT_TF, function

F, I, L, B = tf.float32, tf.int32, tf.int64, tf.bool  # noqa: E741
IMAGE = ((None, 9, 11, 3), F)
NUMBERS = ((4, 6), F)
ROWS = ((None, 6), F)


def named(name: str) -> Callable[..., Any]:
    """A function of TensorFlow by its name, wherever it is."""
    return next(getattr(place, name) for place in (tf.math, tf, tf.nn, tf.raw_ops) if hasattr(place, name))


# Functions of one and two tensors
for name in (
    *(
        "abs",
        "ceil",
        "cos",
        "exp",
        "floor",
        "negative",
        "round",
        "sign",
        "sin",
        "square",
        "tanh",
        "sigmoid",
        "rint",
        "tan",
    ),
    *("atan", "sinh", "cosh", "asinh", "erf", "expm1", "softplus", "reciprocal", "is_nan", "is_finite", "is_inf"),
):
    function(
        f"math/{name}",
        named(name),
        ROWS,
        forms=ACTIVATIONS
        if name
        in ("abs", "exp", "negative", "square", "tanh", "sigmoid", "sign", "round", "floor", "ceil", "sin", "cos")
        else ("float32",),
    )
for name in ("log", "sqrt", "rsqrt", "log1p", "lgamma", "digamma", "acosh"):
    function(
        f"math/{name}",
        named(name),
        ROWS,
        low=0.1,
        high=5,
        forms=ACTIVATIONS if name in ("log", "sqrt", "rsqrt") else ("float32",),
    )
for name in ("acos", "asin", "atanh", "erfinv"):
    function(f"math/{name}", named(name), ROWS, low=-0.9, high=0.9)
for name in ("add", "subtract", "multiply", "maximum", "minimum", "squared_difference", "divide"):
    function(f"math/{name}", named(name), ROWS, ((6,), F), low=0.5, high=3, forms=ACTIVATIONS)
for name in ("floordiv", "floormod", "pow", "atan2", "divide_no_nan", "xdivy", "truediv", "truncatemod", "xlogy"):
    function(f"math/{name}", named(name), NUMBERS, NUMBERS, low=0.5, high=3)
for name in ("add", "subtract", "multiply", "floordiv", "floormod", "maximum", "minimum", "truncatediv", "pow"):
    for dtype in (tf.int32, tf.int64):
        function(f"integer/{name}_{dtype.name}", named(name), ((7,), dtype), ((7,), dtype), low=1, high=9)
for dtype in (tf.uint8, tf.int16, tf.int8, tf.uint32):
    function(
        f"integer/sums_{dtype.name}",
        lambda a, b: [a + b, a * b, tf.maximum(a, b)],
        ((7,), dtype),
        ((7,), dtype),
        low=1,
        high=9,
    )
for name in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"):
    for dtype in (F, I, L, tf.uint8, B):
        if (dtype is B and name not in ("equal", "not_equal")) or (
            dtype in (L, tf.uint8) and name not in ("equal", "less")
        ):
            continue
        function(f"compare/{name}_{dtype.name}", named(name), ((4, 3), dtype), ((3,), dtype), low=0, high=3)
for name in ("logical_and", "logical_or", "logical_xor"):
    function(f"compare/{name}", named(name), ((4, 3), B), ((3,), B))
function("compare/logical_not", tf.math.logical_not, ((4, 3), B))
for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"):
    for dtype in (tf.int32, tf.uint8, tf.int64):
        function(f"integer/{name}_{dtype.name}", getattr(tf.bitwise, name), ((7,), dtype), ((7,), dtype), low=0, high=5)
function("integer/invert", tf.bitwise.invert, ((7,), I), low=-9, high=9)
function("math/add_n", lambda a, b, c: tf.add_n([a, b, c]), NUMBERS, NUMBERS, NUMBERS)
function("math/clip", lambda x: tf.clip_by_value(x, -0.5, 0.7), ROWS, forms=ACTIVATIONS)
function("math/clip_norm", lambda x: tf.clip_by_norm(x, 1.0), NUMBERS)
function("math/l2_normalize", lambda x: tf.math.l2_normalize(x, -1), ROWS, forms=ACTIVATIONS)
function("math/l2_normalize_axis", lambda x: tf.math.l2_normalize(x, 1), IMAGE)
function("math/relu_chain", lambda x: tf.nn.relu(x) - tf.nn.crelu(x)[..., :6], ROWS)
function("math/lrn", lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 0.1, 0.7), IMAGE)
function("math/six_dimensions", lambda a, b: a + b, ((2, 1, 3, 1, 2, 2), F), ((1, 3, 1, 4, 2, 1), F))

# Casts
TYPES = (F, I, L, tf.uint8, tf.int8, tf.int16, B, tf.float16, tf.uint32, tf.float64)
for one in TYPES:
    function(
        f"cast/{one.name}",
        lambda x, o=one: [tf.cast(x, other) for other in TYPES if other not in (o, tf.uint32)],
        ((4, 3), one),
        low=0,
        high=9,
    )
function("cast/bitcast", lambda x: tf.bitcast(x, tf.int32), ((4, 3), F))
function("cast/bitcast_bytes", lambda x: tf.bitcast(x, tf.uint8), ((4, 3), I), low=0, high=100000)
function("cast/saturate", lambda x: tf.saturate_cast(x, tf.uint8), ((4, 3), F), low=-300, high=300)
function("cast/fake_quant", lambda x: tf.quantization.fake_quant_with_min_max_args(x, -1.0, 1.5), ROWS)
function("cast/complex", lambda a, b: tf.math.abs(tf.complex(a, b)), NUMBERS, NUMBERS)

# Reductions
for name in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"):
    for tag, axis, keep in (
        ("last", -1, False),
        ("space", (1, 2), False),
        ("kept", (1, 2), True),
        ("all", None, False),
    ):
        forms = (
            ACTIVATIONS
            if name in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min") and tag != "all"
            else ("float32",)
        )
        function(f"reduce/{name}_{tag}", lambda x, n=name, a=axis, k=keep: named(n)(x, a, k), IMAGE, forms=forms)
    function(f"reduce/{name}_int", lambda x, n=name: named(n)(x, 1), ((3, 4), I), low=-9, high=9)
for name in ("reduce_variance", "reduce_std", "reduce_euclidean_norm", "reduce_logsumexp"):
    function(f"reduce/{name}", lambda x, n=name: named(n)(x, 1), IMAGE)
function("reduce/any", lambda x: tf.reduce_any(x, 1), ((4, 3), B))
function("reduce/all", lambda x: tf.reduce_all(x), ((4, 3), B))
for name in ("argmax", "argmin"):
    for dtype in (F, I, tf.uint8, tf.int8, L, B, tf.int16):
        function(
            f"reduce/{name}_{dtype.name}",
            lambda x, n=name: [named(n)(x, 1, output_type=to) for to in (I, L)],
            ((4, 9), dtype),
            low=0,
            high=5,
        )
function("reduce/argmax_axis", lambda x: tf.argmax(x, 2), IMAGE, forms=ACTIVATIONS)
function("reduce/argmax_negative", lambda x: tf.argmax(x, -1, output_type=I), IMAGE, forms=ACTIVATIONS)
function("reduce/moments", lambda x: tf.nn.moments(x, [1, 2]), IMAGE)
function("reduce/count_nonzero", lambda x: tf.math.count_nonzero(x, 1), ((3, 5), I), low=0, high=1)
function("reduce/histogram", lambda x: tf.histogram_fixed_width(x, [-2.0, 2.0], 5), ((20,), F))
function("reduce/bincount", lambda x: tf.math.bincount(x, minlength=6, maxlength=6), ((20,), I), low=0, high=5)
function("reduce/confusion", lambda a, b: tf.math.confusion_matrix(a, b, 4), ((9,), I), ((9,), I), low=0, high=3)
for exclusive in (False, True):
    for reverse in (False, True):
        function(
            f"reduce/cumsum_{exclusive:d}{reverse:d}", lambda x, e=exclusive, r=reverse: tf.cumsum(x, 1, e, r), IMAGE
        )
function("reduce/cumsum_int", lambda x: tf.cumsum(x, -1), ((3, 5), I), low=-9, high=9)
function("reduce/cumsum_int64", lambda x: tf.cumsum(x, 0), ((3, 5), L), low=-9, high=9)
function("reduce/cumprod", lambda x: tf.math.cumprod(x, 1), NUMBERS)
function("reduce/cumlogsumexp", lambda x: tf.math.cumulative_logsumexp(x, 1), NUMBERS)
for name in ("segment_sum", "segment_mean", "segment_max", "segment_min", "segment_prod"):
    function(f"segment/{name}", lambda x, n=name: named(n)(x, tf.constant([0, 0, 1, 3])), NUMBERS)
    function(
        f"segment/un{name}",
        lambda x, i, n=name: getattr(tf.math, f"unsorted_{n}")(x, i, 4),
        NUMBERS,
        ((4,), I),
        low=0,
        high=3,
    )

# Element types, scalars, empty tensors
for dtype in (I, L, tf.uint8, tf.int8, tf.int16, B, tf.uint32, tf.float16, tf.float64):
    function(f"type/reshape_{dtype.name}", lambda x: tf.reshape(x, [3, 4]), ((4, 3), dtype), low=0, high=9)
function("type/scalar", lambda x: x * 2 + 1, ((), F))
function("type/scalar_int", lambda x: x * 2 + 1, ((), I), low=0, high=9)
function("type/empty", lambda x: tf.concat([x, tf.ones((2, 3))], 0), ((0, 3), F))
function("type/empty_free", lambda x: (tf.reduce_sum(x, 0), x * 2), ((None, 3), F), batches=(2, 0, 1))
function("type/strings", lambda x: x, ((3,), tf.string), feeds=[[["a", "bc", ""]]])
function("type/strings_equal", lambda x: tf.equal(x, "bc"), ((3,), tf.string), feeds=[[["a", "bc", ""]]])
function(
    "type/strings_gather", lambda x, i: tf.gather(x, i), ((3,), tf.string), ((2,), I), feeds=[[["a", "bc", ""], [1, 0]]]
)
function("type/strings_out", lambda i: tf.gather(tf.constant(["cat", "dog", "bird"]), i), ((2,), I), low=0, high=2)
function("type/float64", lambda x: x * 2 + 1, ((3,), tf.float64))
function("type/no_input", lambda: tf.range(5), feeds=[[]])
function("type/random", lambda x: tf.shape(tf.random.uniform(tf.shape(x)) + tf.random.normal(tf.shape(x))), NUMBERS)
function("type/random_stateless", lambda x: x + tf.random.stateless_uniform((4, 6), [1, 2]), NUMBERS)

# What the builtin operators do not have
function("select/erf", lambda x: tf.raw_ops.Erfc(x=x) + tf.math.igamma(x, x), ROWS, low=0.1, high=2, forms=SELECT_TF)
function(
    "select/strings",
    lambda x: tf.strings.length(tf.strings.upper(x)),
    ((3,), tf.string),
    feeds=[[["a", "bc", ""]]],
    forms=SELECT_TF,
)
function("select/fft", lambda x: tf.abs(tf.signal.fft(tf.cast(x, tf.complex64))), ((None, 256), F), forms=SELECT_TF)
function(
    "select/crop_and_resize",
    lambda x, b: tf.image.crop_and_resize(x, b, [0, 0], [4, 5]),
    ((1, 9, 11, 3), F),
    ((2, 4), F),
    low=0,
    high=1,
    forms=SELECT_TF,
)
function("select/inverse", lambda x: tf.linalg.inv(x), ((3, 3), F), forms=SELECT_TF)

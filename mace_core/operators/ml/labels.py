"""Labels to numbers and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext, UnresolvedShapeError
from mace_core.operators.ml import DOMAIN
from mace_core.operators.ml.features import length_of, ml_shape_function
from mace_core.operators.ml.scores import reduced
from mace_core.operators.pieces import cast, dtype_of, shaped
from mace_core.operators.registry import agreement, body
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


@ml_shape_function("OneHotEncoder")
def one_hot_encoder(ctx: NodeContext) -> Sequence[ValueType | None]:
    categories = length_of(ctx, "cats_int64s") or length_of(ctx, "cats_strings")
    return [TensorType(DType.FLOAT32, (*ctx.shape(0), categories))]


@ml_shape_function("LabelEncoder")
def label_encoder(ctx: NodeContext) -> Sequence[ValueType | None]:
    tensor = ctx.attr("values_tensor")
    if tensor is not None:
        dtype = tensor.dtype
    elif ctx.opset < 2:  # which turned texts into whole numbers, or whole numbers into texts
        dtype = DType.INT64 if ctx.dtype(0) is DType.STRING else DType.STRING
    elif ctx.attr("values_int64s") is not None:
        dtype = DType.INT64
    elif ctx.attr("values_floats") is not None:
        dtype = DType.FLOAT32
    elif ctx.attr("values_strings") is not None:
        dtype = DType.STRING
    else:
        raise UnresolvedShapeError
    return [TensorType(dtype, ctx.shape(0))]


@agreement("LabelEncoder", domain=DOMAIN)
def one_value_for_each_key(ctx: NodeContext) -> None:
    if ctx.opset < 2:
        return
    counts = []
    for what in ("keys", "values"):
        given = [name for kind in ("int64s", "floats", "strings") if (name := f"{what}_{kind}") in ctx.node.attributes]
        tensor = ctx.attr(f"{what}_tensor")
        require(len(given) + (tensor is not None) == 1, f"its {what} must be given in one attribute")
        counts.append(length_of(ctx, given[0]) if given else math.prod(tensor.shape))
    require(counts[0] == counts[1], f"{counts[0]} keys have {counts[1]} values")


@agreement("OneHotEncoder", domain=DOMAIN)
def categories_once(ctx: NodeContext) -> None:
    given = tuple(ctx.attr("cats_int64s") or ctx.attr("cats_strings") or ())
    require(len(set(given)) == len(given), "a category is named twice")


# --- bodies -----------------------------------------------------------------------------------------------------------

MOST_COMPARISONS = 1 << 26
"""Elements times keys: every element is compared with every key."""

MOST_KEYS = 1 << 24
"""Places of keys are exact in float32."""

NAN_IS_A_KEY_SINCE = 4

Array = npt.NDArray[Any]


@body("LabelEncoder", domain=DOMAIN)
def build_encoder(b: BodyBuilder, node: Node) -> bool:
    """The value that belongs to the key, or else the default; the first of equal keys counts; NaN finds NaN since
    version 4, as in onnxruntime."""
    x = given(node, 0)
    keys, values, default = _table(node)
    if keys is None or values is None or keys.dtype.kind not in "fi" or values.dtype.kind not in "fi":
        return False
    shape = b.view.shape(x)
    count = int(np.prod(shape, dtype=np.int64))
    if dtype_of(b, x).numpy != keys.dtype or count * keys.size > MOST_COMPARISONS:
        return False
    if not 0 < keys.size < MOST_KEYS:
        return False
    flat = shaped(b, x, (count, 1))
    hits = b.op("Equal", [flat, b.constant(keys.reshape(1, -1))])
    finds_nan = b.view.opset(DOMAIN) >= NAN_IS_A_KEY_SINCE
    if finds_nan and keys.dtype.kind == "f" and np.isnan(keys).any():
        of_nan = b.constant(np.isnan(keys).reshape(1, -1))
        hits = b.op("Or", [hits, b.op("And", [b.op("IsNaN", [flat]), of_nan])])
    # the largest weight is that of the first key that is met; none is 0, the place of the default
    marks = cast(b, hits, DType.FLOAT32)
    weights = b.constant(np.arange(keys.size, 0, -1, dtype=np.float32).reshape(1, -1))
    first = reduced(b, "ReduceMax", b.op("Mul", [marks, weights]), 1, keep=False)
    place = cast(b, first, DType.INT64)
    table = np.concatenate([np.atleast_1d(default).astype(values.dtype), values[::-1]])
    shaped(b, b.op("Gather", [b.constant(table), place], {"axis": 0}), shape, into=made(node))
    return True


def _table(node: Node) -> tuple[Array | None, Array | None, Array]:
    """Keys, values and default of a LabelEncoder; None for texts."""
    found: list[Array | None] = []
    for side in ("keys", "values"):
        content: Array | None = None
        if node.attr(f"{side}_tensor") is not None:
            tensor = node.attr(f"{side}_tensor")
            content = None if tensor.dtype is DType.STRING else tensor.numpy().reshape(-1)
        elif node.attr(f"{side}_int64s") is not None:
            content = np.asarray(node.attr(f"{side}_int64s"), np.int64)
        elif node.attr(f"{side}_floats") is not None:
            content = np.asarray(node.attr(f"{side}_floats"), np.float32)
        found.append(content)
    keys, values = found
    if keys is not None and values is not None and keys.size != values.size:
        raise ValueError(f"{keys.size} keys have {values.size} values")
    default: Array = np.asarray(0)
    given_default = node.attr("default_tensor")
    if given_default is not None and given_default.dtype is not DType.STRING:
        default = given_default.numpy().reshape(-1)[:1]
    elif values is not None and values.dtype.kind == "i":
        default = np.asarray(node.attr("default_int64", -1))
    elif values is not None:
        default = np.asarray(node.attr("default_float", -0.0))
    return keys, values, default


@body("OneHotEncoder", domain=DOMAIN)
def build_one_hot(b: BodyBuilder, node: Node) -> bool:
    """A row for each element, one where it is that category.  Floats are cut to whole numbers, as onnxruntime does."""
    x = given(node, 0)
    if not node.attr("cats_int64s") or not node.attr("zeros", 1):
        return False  # an unknown category is an error there, which no simpler operator raises
    shape = b.view.shape(x)
    categories = np.asarray(node.attr("cats_int64s"), np.int64)
    whole = x if dtype_of(b, x) is DType.INT64 else cast(b, x, DType.INT64)
    hits = b.op("Equal", [shaped(b, whole, (*shape, 1)), b.constant(categories)])
    cast(b, hits, DType.FLOAT32, into=made(node))
    return True

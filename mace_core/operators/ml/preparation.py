"""What features become before a model sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext
from mace_core.operators.ml import DOMAIN
from mace_core.operators.ml.features import length_of, ml_shape_function
from mace_core.operators.ml.scores import number, reduced
from mace_core.operators.pieces import cast, dtype_of, joined, shaped
from mace_core.operators.registry import agreement, body
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


@ml_shape_function("Scaler", "Normalizer")
def floats_of_the_same_shape(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, ctx.shape(0))]


@ml_shape_function("Binarizer", "Imputer")
def same(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [ctx.tensor(0)]


@ml_shape_function("ArrayFeatureExtractor")
def array_feature_extractor(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, count = ctx.shape(0), math.prod(ctx.shape(1))
    require(bool(shape), "the data must have at least 1 axis")
    return [TensorType(ctx.dtype(0), (1, count) if len(shape) == 1 else (*shape[:-1], count))]


@ml_shape_function("FeatureVectorizer")
def feature_vectorizer(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape = ctx.shape(0)
    require(bool(shape), "the data must have at least 1 axis")
    rows = 1 if len(shape) == 1 else shape[0]
    return [TensorType(DType.FLOAT32, (rows, sum(int(size) for size in ctx.attr("inputdimensions") or ())))]


@agreement("Scaler", domain=DOMAIN)
def one_or_one_for_each_feature(ctx: NodeContext) -> None:
    features = ctx.shape(0)[-1:]
    for name in ("offset", "scale"):
        found = length_of(ctx, name)
        require(found == 1 or (found,) == features, f"{found} elements of '{name}' do not fit {list(ctx.shape(0))}")


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("Scaler", domain=DOMAIN)
def build_scaler(b: BodyBuilder, node: Node) -> bool:
    """(x - offset) * scale, for all features or for each of the last axis."""
    x = given(node, 0)
    if dtype_of(b, x) is not DType.FLOAT32:
        x = cast(b, x, DType.FLOAT32)
    offset = b.constant(list(node.attr("offset")), np.float32)
    scale = b.constant(list(node.attr("scale")), np.float32)
    b.op("Mul", [b.op("Sub", [x, offset]), scale], into=made(node))
    return True


@body("Normalizer", domain=DOMAIN)
def build_normalizer(b: BodyBuilder, node: Node) -> bool:
    """Every row by its largest element, sum of sizes or length; a row whose norm is zero stays as it is."""
    source = given(node, 0)
    shape = b.view.shape(source)
    if len(shape) not in (1, 2):
        return False
    x = source if dtype_of(b, source) is DType.FLOAT32 else cast(b, source, DType.FLOAT32)
    axis = len(shape) - 1
    match node.attr("norm", "MAX"):
        case "MAX":
            norm = reduced(b, "ReduceMax", x, axis, keep=True)
        case "L1":
            norm = reduced(b, "ReduceSum", b.op("Abs", [x]), axis, keep=True)
        case "L2":
            norm = b.op("Sqrt", [reduced(b, "ReduceSum", b.op("Mul", [x, x]), axis, keep=True)])
        case _:
            return False
    is_none = b.op("Equal", [norm, number(b, 0.0)])
    b.op("Div", [x, b.op("Where", [is_none, number(b, 1.0), norm])], into=made(node))
    return True


@body("Binarizer", domain=DOMAIN)
def build_binarizer(b: BodyBuilder, node: Node) -> bool:
    x = given(node, 0)
    dtype = dtype_of(b, x)
    threshold = number(b, float(node.attr("threshold", 0.0)))
    wide = x
    if dtype is DType.FLOAT64:
        threshold = b.constant(np.float64(np.float32(node.attr("threshold", 0.0))))
    elif dtype is not DType.FLOAT32:
        wide = cast(b, x, DType.FLOAT32)
    cast(b, b.op("Greater", [wide, threshold]), dtype, into=made(node))
    return True


@body("ArrayFeatureExtractor", domain=DOMAIN)
def build_extractor(b: BodyBuilder, node: Node) -> bool:
    """Columns by number; one row remains a row."""
    x, picked = given(node, 0), given(node, 1)
    shape, count = b.view.shape(x), math.prod(b.view.shape(picked))
    if dtype_of(b, x) is DType.STRING or not shape:
        return False
    found = b.op("Gather", [x, shaped(b, picked, (count,))], {"axis": len(shape) - 1})
    shaped(b, found, (1, count) if len(shape) == 1 else (*shape[:-1], count), into=made(node))
    return True


@body("Imputer", domain=DOMAIN)
def build_imputer(b: BodyBuilder, node: Node) -> bool:
    """One value, or one for each of the last axis, in the place of one that means that nothing is known."""
    x = given(node, 0)
    dtype = dtype_of(b, x)
    if dtype in (DType.FLOAT32, DType.FLOAT64):
        values, missing = node.attr("imputed_value_floats"), np.float32(node.attr("replaced_value_float", 0.0))
    else:
        values, missing = node.attr("imputed_value_int64s"), node.attr("replaced_value_int64", 0)
    if not values:
        return False
    if dtype in (DType.FLOAT32, DType.FLOAT64) and np.isnan(missing):
        is_missing = b.op("IsNaN", [x])
    else:
        is_missing = b.op("Equal", [x, b.constant(missing, dtype.numpy)])
    content = np.asarray(values, np.float32 if dtype.numpy.kind == "f" else np.int64).astype(dtype.numpy)
    if content.size != b.view.shape(x)[-1]:
        content = content[:1]
    b.op("Where", [is_missing, b.constant(content), x], into=made(node))
    return True


@body("FeatureVectorizer", domain=DOMAIN)
def build_vectorizer(b: BodyBuilder, node: Node) -> bool:
    """Rows of several tensors, one after the other, each of as many columns as its attribute says."""
    sizes = [int(size) for size in node.attr("inputdimensions") or ()]
    parts = []
    for index, size in enumerate(sizes):
        x = given(node, index)
        shape = b.view.shape(x)
        count = 1 if len(shape) == 1 else shape[0]
        if not shape or math.prod(shape) != count * size:
            return False
        wide = x if dtype_of(b, x) is DType.FLOAT32 else cast(b, x, DType.FLOAT32)
        parts.append(shaped(b, wide, (count, size)))
    if not parts:
        return False
    joined(b, parts, 1, into=made(node))
    return True

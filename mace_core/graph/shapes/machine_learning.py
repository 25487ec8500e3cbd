"""Operators of ai.onnx.ml: what features become, and the labels and scores that models make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mace_core.graph.shapes.agreement import agreement, require
from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError, UnresolvedShapeError
from mace_core.graph.shapes.registry import ShapeFunction, shape_function
from mace_core.tensor import DType, TensorType, ValueType

_DOMAIN = "ai.onnx.ml"


def _ml(*op_types: str) -> Callable[[ShapeFunction], ShapeFunction]:
    return shape_function(*op_types, domain=_DOMAIN, dtypes=lambda ctx: [None] * ctx.output_count)


def _count(ctx: NodeContext, name: str) -> int:
    """The number of elements of a list attribute."""
    return len(ctx.attr(name) or ())


def _rows(ctx: NodeContext) -> tuple[int, int]:
    """Rows and features of input 0; a list of features is one row."""
    shape = ctx.shape(0)
    require(len(shape) in (1, 2), f"the features must be (rows, features), not {list(shape)}")
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def _labels(ctx: NodeContext) -> DType:
    return DType.STRING if ctx.attr("classlabels_strings") else DType.INT64


@_ml("Scaler", "Normalizer")
def floats_of_the_same_shape(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, ctx.shape(0))]


@_ml("Binarizer", "Imputer")
def same(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [ctx.tensor(0)]


@_ml("ArrayFeatureExtractor")
def array_feature_extractor(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, count = ctx.shape(0), math.prod(ctx.shape(1))
    require(bool(shape), "the data must have at least 1 axis")
    return [TensorType(ctx.dtype(0), (1, count) if len(shape) == 1 else (*shape[:-1], count))]


@_ml("FeatureVectorizer")
def feature_vectorizer(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape = ctx.shape(0)
    require(bool(shape), "the data must have at least 1 axis")
    rows = 1 if len(shape) == 1 else shape[0]
    return [TensorType(DType.FLOAT32, (rows, sum(int(size) for size in ctx.attr("inputdimensions") or ())))]


@_ml("OneHotEncoder")
def one_hot_encoder(ctx: NodeContext) -> Sequence[ValueType | None]:
    categories = _count(ctx, "cats_int64s") or _count(ctx, "cats_strings")
    return [TensorType(DType.FLOAT32, (*ctx.shape(0), categories))]


@_ml("LabelEncoder")
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


@_ml("LinearRegressor")
def linear_regressor(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, (_rows(ctx)[0], int(ctx.attr("targets", 1))))]


@_ml("LinearClassifier")
def linear_classifier(ctx: NodeContext) -> Sequence[ValueType | None]:
    rows, classes = _rows(ctx)[0], _count(ctx, "intercepts")
    labels = _count(ctx, "classlabels_strings") or _count(ctx, "classlabels_ints")
    if not classes:
        raise UnresolvedShapeError
    scores = 2 if classes == 1 and labels == 2 else classes
    return [TensorType(_labels(ctx), (rows,)), TensorType(DType.FLOAT32, (rows, scores))]


@_ml("SVMRegressor")
def svm_regressor(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, (_rows(ctx)[0], 1))]


@_ml("SVMClassifier")
def svm_classifier(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Without probabilities, one score for each pair of classes, and two for two classes."""
    rows = _rows(ctx)[0]
    classes = _count(ctx, "classlabels_strings") or _count(ctx, "classlabels_ints")
    scores = classes
    if sum(ctx.attr("vectors_per_class") or ()) and not ctx.attr("prob_a"):
        scores = classes * (classes - 1) // 2 if classes > 2 else 2
    return [TensorType(_labels(ctx), (rows,)), TensorType(DType.FLOAT32, (rows, scores))]


@shape_function("PairwiseCoupling", domain="mace.core", dtypes=lambda ctx: [DType.FLOAT32])
def pairwise_coupling(ctx: NodeContext) -> Sequence[ValueType | None]:
    """A step of the core's own, in the body of SVMClassifier."""
    return [TensorType(DType.FLOAT32, (ctx.shape(0)[0], int(ctx.attr("classes"))))]


@_ml("TreeEnsembleRegressor")
def tree_regressor(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, (_rows(ctx)[0], int(ctx.attr("n_targets", 1))))]


@_ml("TreeEnsembleClassifier")
def tree_classifier(ctx: NodeContext) -> Sequence[ValueType | None]:
    rows = _rows(ctx)[0]
    classes = _count(ctx, "classlabels_strings") or _count(ctx, "classlabels_int64s")
    return [TensorType(_labels(ctx), (rows,)), TensorType(DType.FLOAT32, (rows, classes))]


@_ml("TreeEnsemble")
def tree_ensemble(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), (_rows(ctx)[0], int(ctx.attr("n_targets", 1))))]


@agreement("LabelEncoder", domain=_DOMAIN)
def one_value_for_each_key(ctx: NodeContext) -> None:
    if ctx.opset < 2:
        return
    counts = []
    for what in ("keys", "values"):
        given = [name for kind in ("int64s", "floats", "strings") if (name := f"{what}_{kind}") in ctx.node.attributes]
        tensor = ctx.attr(f"{what}_tensor")
        require(len(given) + (tensor is not None) == 1, f"its {what} must be given in one attribute")
        counts.append(_count(ctx, given[0]) if given else math.prod(tensor.shape))
    require(counts[0] == counts[1], f"{counts[0]} keys have {counts[1]} values")


@agreement("OneHotEncoder", domain=_DOMAIN)
def categories_once(ctx: NodeContext) -> None:
    given = tuple(ctx.attr("cats_int64s") or ctx.attr("cats_strings") or ())
    require(len(set(given)) == len(given), "a category is named twice")


@agreement("SVMClassifier", "SVMRegressor", domain=_DOMAIN)
def enough_vectors(ctx: NodeContext) -> None:
    """Support vectors of as many elements as there are features, or, without any, one row of factors for each class."""
    features = _rows(ctx)[1]
    is_regressor = ctx.node.op_type == "SVMRegressor"
    per_class = tuple(ctx.attr("vectors_per_class") or ())
    labels = _count(ctx, "classlabels_strings") or _count(ctx, "classlabels_ints")
    classes = 1 if is_regressor else labels
    require(not per_class or len(per_class) == labels, f"{len(per_class)} numbers of vectors for {labels} labels")
    vectors = int(ctx.attr("n_supports", 0)) if is_regressor else sum(per_class)
    found, factors, offsets = (_count(ctx, name) for name in ("support_vectors", "coefficients", "rho"))
    require(
        not vectors or found == vectors * features,
        f"{vectors} support vectors of {features} features do not have {found} elements",
    )
    wanted = vectors * max(classes - 1, 1) if vectors else classes * features
    require(factors >= wanted, f"{factors} coefficients are too few: {wanted} are needed")
    pairs = 1 if is_regressor or not vectors else max(classes * (classes - 1) // 2, 1)
    require(offsets >= pairs, f"{offsets} elements of 'rho' are too few: {pairs} are needed")
    for name in ("prob_a", "prob_b"):
        require(_count(ctx, name) in (0, pairs), f"'{name}' must have {pairs} elements, not {_count(ctx, name)}")
    require(_count(ctx, "prob_a") == _count(ctx, "prob_b"), "'prob_a' and 'prob_b' must be given together")
    require(
        _count(ctx, "kernel_params") in (0, 3), f"'kernel_params' has {_count(ctx, 'kernel_params')} elements, not 3"
    )


@agreement("LinearRegressor", "LinearClassifier", domain=_DOMAIN)
def enough_coefficients(ctx: NodeContext) -> None:
    """More than enough is what files have that say of their input less than it has."""
    is_regressor = ctx.node.op_type == "LinearRegressor"
    targets = int(ctx.attr("targets", 1)) if is_regressor else _count(ctx, "intercepts")
    found, features = _count(ctx, "coefficients"), _rows(ctx)[1]
    if targets < 0 or found < targets * features:
        raise ShapeMismatchError(
            f"{found} coefficients are too few for {targets} target{'' if targets == 1 else 's'} of {features} features"
        )


@agreement("Scaler", domain=_DOMAIN)
def one_or_one_for_each_feature(ctx: NodeContext) -> None:
    features = ctx.shape(0)[-1:]
    for name in ("offset", "scale"):
        found = _count(ctx, name)
        require(found == 1 or (found,) == features, f"{found} elements of '{name}' do not fit {list(ctx.shape(0))}")

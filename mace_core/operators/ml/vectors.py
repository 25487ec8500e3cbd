"""Support vector machines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Attribute, AttributeKind, Node, Value
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext
from mace_core.operators.ml import DOMAIN
from mace_core.operators.ml.coupling import COUPLING
from mace_core.operators.ml.features import label_dtype, length_of, ml_shape_function, rows_and_features
from mace_core.operators.ml.forest import Array
from mace_core.operators.ml.scores import best, class_labels, number, reduced, rows, transformed, with_complement
from mace_core.operators.pieces import cast, joined, shaped
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


@ml_shape_function("SVMRegressor")
def svm_regressor(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, (rows_and_features(ctx)[0], 1))]


@ml_shape_function("SVMClassifier")
def svm_classifier(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Without probabilities, one score for each pair of classes, and two for two classes."""
    rows = rows_and_features(ctx)[0]
    classes = length_of(ctx, "classlabels_strings") or length_of(ctx, "classlabels_ints")
    scores = classes
    if sum(ctx.attr("vectors_per_class") or ()) and not ctx.attr("prob_a"):
        scores = classes * (classes - 1) // 2 if classes > 2 else 2
    return [TensorType(label_dtype(ctx), (rows,)), TensorType(DType.FLOAT32, (rows, scores))]


@shape_function("PairwiseCoupling", domain="mace.core", dtypes=lambda ctx: [DType.FLOAT32])
def pairwise_coupling(ctx: NodeContext) -> Sequence[ValueType | None]:
    """A step of the core's own, in the body of SVMClassifier."""
    return [TensorType(DType.FLOAT32, (ctx.shape(0)[0], int(ctx.attr("classes"))))]


@agreement("SVMClassifier", "SVMRegressor", domain=DOMAIN)
def enough_vectors(ctx: NodeContext) -> None:
    """Support vectors of as many elements as there are features, or, without any, one row of factors for each class."""
    features = rows_and_features(ctx)[1]
    is_regressor = ctx.node.op_type == "SVMRegressor"
    per_class = tuple(ctx.attr("vectors_per_class") or ())
    labels = length_of(ctx, "classlabels_strings") or length_of(ctx, "classlabels_ints")
    classes = 1 if is_regressor else labels
    require(not per_class or len(per_class) == labels, f"{len(per_class)} numbers of vectors for {labels} labels")
    vectors = int(ctx.attr("n_supports", 0)) if is_regressor else sum(per_class)
    found, factors, offsets = (length_of(ctx, name) for name in ("support_vectors", "coefficients", "rho"))
    require(
        not vectors or found == vectors * features,
        f"{vectors} support vectors of {features} features do not have {found} elements",
    )
    wanted = vectors * max(classes - 1, 1) if vectors else classes * features
    require(factors >= wanted, f"{factors} coefficients are too few: {wanted} are needed")
    pairs = 1 if is_regressor or not vectors else max(classes * (classes - 1) // 2, 1)
    require(offsets >= pairs, f"{offsets} elements of 'rho' are too few: {pairs} are needed")
    for name in ("prob_a", "prob_b"):
        require(length_of(ctx, name) in (0, pairs), f"'{name}' must have {pairs} elements, not {length_of(ctx, name)}")
    require(length_of(ctx, "prob_a") == length_of(ctx, "prob_b"), "'prob_a' and 'prob_b' must be given together")
    require(
        length_of(ctx, "kernel_params") in (0, 3),
        f"'kernel_params' has {length_of(ctx, 'kernel_params')} elements, not 3",
    )


# --- bodies -----------------------------------------------------------------------------------------------------------

MOST_DIFFERENCES = 1 << 26
"""Rows times vectors times features: RBF kernels hold all differences, whose squares lose nothing to cancellation."""


def _kernel(b: BodyBuilder, node: Node, x: Value, sizes: tuple[int, int], vectors: Array) -> Value | None:
    """The kernel of each row and vector, (N, vectors); None where it is too large to hold.

    Args:
        x: (N, F).
        sizes: N and F.
        vectors: (vectors, F).

    Raises:
        ValueError: for a kernel that there is not.
    """
    gamma, coef0, degree = (*(node.attr("kernel_params") or ()), 0.0, 0.0, 0.0)[:3]
    kind = str(node.attr("kernel_type", "LINEAR"))
    if kind == "RBF":
        count, features = sizes
        if count * vectors.size > MOST_DIFFERENCES:
            return None
        apart = b.op("Sub", [shaped(b, x, (count, 1, features)), b.constant(vectors[None])])
        distance = reduced(b, "ReduceSum", b.op("Mul", [apart, apart]), 2, keep=False)
        return b.op("Exp", [b.op("Mul", [distance, number(b, -gamma)])])
    product = b.op("MatMul", [x, b.constant(np.ascontiguousarray(vectors.T))])
    if kind == "LINEAR":
        return product
    moved = b.op("Add", [b.op("Mul", [product, number(b, gamma)]), number(b, coef0)])
    if kind == "POLY":
        return b.op("Pow", [moved, number(b, degree)])
    if kind == "SIGMOID":
        return b.op("Tanh", [moved])
    raise ValueError(f"there is no kernel '{kind}'")


def _support(node: Node, count: int, features: int) -> Array:
    """The support vectors, (count, features).

    Raises:
        ValueError: if there are more or fewer numbers.
    """
    return np.asarray(node.attr("support_vectors") or (), np.float32).reshape(count, features)


@body("SVMRegressor", domain=DOMAIN)
def build_regressor(b: BodyBuilder, node: Node) -> bool:
    """Without vectors, a linear model.  The transform is not applied, as in onnxruntime."""
    x, count, features = rows(b, given(node, 0))
    supports = int(node.attr("n_supports", 0))
    coefficients = np.asarray(node.attr("coefficients"), np.float32)
    found: Value | None = x
    if supports:
        found = _kernel(b, node, x, (count, features), _support(node, supports, features))
    if found is None or coefficients.size != (supports or features):
        return False
    product = b.op("MatMul", [found, b.constant(coefficients.reshape(-1, 1))])
    score = b.op("Add", [product, number(b, float(node.attr("rho")[0]))])
    if node.attr("one_class", 0):
        is_inside = b.op("Greater", [score, number(b, 0.0)])
        score = b.op("Where", [is_inside, number(b, 1.0), number(b, -1.0)])
    b.op("Identity", [score], into=made(node))
    return True


@body("SVMClassifier", domain=DOMAIN)
def build_classifier(b: BodyBuilder, node: Node) -> bool:
    """Every pair of classes votes; probabilities come of the scores of the pairs, by a step of the core."""
    sizes = [int(size) for size in node.attr("vectors_per_class") or ()]
    labels = class_labels(b, node, "classlabels_ints")
    classes = len(node.attr("classlabels_strings") or node.attr("classlabels_ints") or ())
    if labels is None or not sum(sizes) or classes < 2:
        return False
    slopes, offsets = node.attr("prob_a") or (), node.attr("prob_b") or ()
    pairs = classes * (classes - 1) // 2
    if slopes and (len(slopes) < pairs or len(offsets) < pairs):
        raise ValueError(f"{len(slopes)} slopes and {len(offsets)} offsets do not fit {pairs} pairs of classes")
    x, count, features = rows(b, given(node, 0))
    kernel = _kernel(b, node, x, (count, features), _support(node, sum(sizes), features))
    if kernel is None:
        return False
    factors, votes = _pairs(np.asarray(node.attr("coefficients"), np.float32), sizes)
    rho = np.asarray(node.attr("rho"), np.float32)[: factors.shape[1]]
    # what vectors say of a pair almost cancels out, and is added up in float64, as in onnxruntime
    wide = b.op("MatMul", [cast(b, kernel, DType.FLOAT64), b.constant(factors, np.float64)])
    scores = cast(b, b.op("Add", [wide, b.constant(rho, np.float64)]), DType.FLOAT32)
    kind = str(node.attr("post_transform", "NONE"))
    if node.output(0) is not None:
        # a vote is +1 for the class that wins; what all the others would have got is the same for every row
        wins = cast(b, b.op("Greater", [scores, number(b, 0.0)]), DType.FLOAT32)
        counts = b.op("Add", [b.op("MatMul", [wins, b.constant(votes)]), b.constant(-np.minimum(votes, 0).sum(0))])
        best(b, counts, labels, node.output(0))
    if node.output(1) is None:
        return True
    if slopes:
        attributes = {
            "prob_a": Attribute(AttributeKind.FLOATS, tuple(slopes[:pairs])),
            "prob_b": Attribute(AttributeKind.FLOATS, tuple(offsets[:pairs])),
            "classes": classes,
        }
        domain, op_type = COUPLING
        scores = b.op(op_type, [scores], attributes, domain=domain)
        transformed(b, scores, kind, into=node.output(1))
    elif classes > 2:
        transformed(b, scores, kind, into=node.output(1))
    elif kind == "NONE":
        joined(b, [b.op("Neg", [scores]), scores], 1, into=node.output(1))
    elif kind == "PROBIT":
        return False
    else:
        with_complement(b, transformed(b, scores, kind) if kind == "LOGISTIC" else scores, node.output(1))
    return True


def _pairs(coefficients: Array, sizes: list[int]) -> tuple[Array, Array]:
    """What vectors say of pairs of classes, (vectors, pairs), and who gets their votes, (pairs, classes).

    The coefficients are (classes - 1, vectors), without the row of the class itself.  A vote is +1 for the first class
    of a pair and -1 for the second.
    """
    classes, total = len(sizes), sum(sizes)
    table = coefficients[: (classes - 1) * total].reshape(classes - 1, total)
    ends = np.cumsum([0, *sizes])
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    factors, votes = np.zeros((total, len(pairs)), np.float32), np.zeros((len(pairs), classes), np.float32)
    for pair, (i, j) in enumerate(pairs):
        factors[ends[i] : ends[i + 1], pair] = table[j - 1, ends[i] : ends[i + 1]]
        factors[ends[j] : ends[j + 1], pair] = table[i, ends[j] : ends[j + 1]]
        votes[pair, i], votes[pair, j] = 1, -1
    return factors, votes

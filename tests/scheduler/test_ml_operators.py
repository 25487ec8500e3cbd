"""What scikit-learn's models become in ai.onnx.ml runs on the CPU provider, as onnxruntime runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mace_core.errors import MaceError
from mace_core.session import Session

pytest.importorskip("mace_cpu", reason="needs the CPU provider")
ort = pytest.importorskip("onnxruntime")

RANDOM = np.random.default_rng(7)
ML = "ai.onnx.ml"
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
FEATURES = RANDOM.uniform(-1, 1, (7, 3)).astype(np.float32)


def one_node(
    op: str, inputs: list[np.ndarray], outputs: int, version: int, has_standard: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """``has_standard``: whether the model imports the standard's operators too."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=ML, name="n", **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
    ]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    opsets = [helper.make_opsetid(ML, version)]
    if has_standard:
        opsets.append(helper.make_opsetid("", 17))
    return helper.make_model(helper.make_graph([node], "g", infos, results), opset_imports=opsets, ir_version=8)


def run(model: onnx.ModelProto, inputs: list[np.ndarray]) -> list[Any]:
    """On the CPU provider and the core alone."""
    with Session(model, devices=["cpu"], strict=True, cache=False) as session:
        return list(session.run({f"x{i}": array for i, array in enumerate(inputs)}).values())


def check(op: str, inputs: list[np.ndarray], outputs: int = 1, version: int = 1, **attributes: Any) -> None:
    """Compare with onnxruntime, and with onnx.reference where that has no kernel."""
    model = one_node(op, inputs, outputs, version, **attributes)
    feeds = {f"x{i}": array for i, array in enumerate(inputs)}
    try:
        expected = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        expected = ReferenceEvaluator(model).run(None, feeds)
    # near one half, the quantile is the root of a difference of two almost equal numbers
    atol = 1e-3 if attributes.get("post_transform") == "PROBIT" else 1e-5
    for got, wanted in zip(run(model, inputs), expected, strict=True):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=atol)
        else:
            np.testing.assert_array_equal(got, wanted)


def uniform(size: int, scale: float = 1.0) -> list[float]:
    return [float(number) for number in RANDOM.uniform(-scale, scale, size)]


def of_type(dtype: str) -> np.ndarray:
    """Features of a type, one row of them zeros."""
    x = (FEATURES * (9 if dtype[0] == "i" else 1)).astype(dtype)
    x[2] = 0
    return x


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_classifiers(transform: str, classes: int, texts: bool) -> None:
    if transform == "PROBIT" and classes == 1:
        pytest.skip("onnxruntime leaves half of the scores unwritten")
    is_probability = transform == "PROBIT"
    labels = list(range(9, 9 - max(classes, 2), -1))
    named: dict[str, Any] = (
        {"classlabels_strings": [f"c{n}" for n in labels]} if texts else {"classlabels_ints": labels}
    )
    coefficients = uniform(3 * classes, 0.1 if is_probability else 1.0)
    intercepts = [0.5] * classes if is_probability else uniform(classes)
    check(
        "LinearClassifier",
        [FEATURES],
        2,
        coefficients=coefficients,
        intercepts=intercepts,
        post_transform=transform,
        **named,
    )


@pytest.mark.parametrize("x", [FEATURES[0], FEATURES.astype("d"), (FEATURES * 9).astype("i8")], ids=["row", "d", "i8"])
def test_linear_classifiers_take_rows_and_other_types(x: np.ndarray) -> None:
    check("LinearClassifier", [x], 2, coefficients=uniform(9), intercepts=uniform(3), classlabels_ints=[0, 1, 2])


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_regressors(transform: str, targets: int) -> None:
    scale = 0.1 if transform == "PROBIT" else 1.0
    attributes: dict[str, Any] = {
        "coefficients": uniform(3 * targets, scale),
        "post_transform": transform,
        "targets": targets,
    }
    check("LinearRegressor", [FEATURES], intercepts=[0.5] * targets, **attributes)
    if transform != "PROBIT":
        check("LinearRegressor", [FEATURES], **attributes)


def test_too_few_coefficients_are_refused_in_a_sentence() -> None:
    model = one_node("LinearRegressor", [FEATURES], 1, 1, coefficients=[1.0, 2.0])
    with pytest.raises(MaceError, match="2 coefficients are too few for 1 target of 3 features"):
        run(model, [FEATURES])


@pytest.mark.parametrize("dtype", ["f", "d", "i4", "i8"])
class TestPreparation:
    def test_scaling(self, dtype: str) -> None:
        check("Scaler", [of_type(dtype)], offset=[1.0, 2.0, 3.0], scale=[0.1, 0.2, 0.3])
        check("Scaler", [of_type(dtype)], offset=[1.0], scale=[0.3])

    @pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
    def test_norms(self, dtype: str, norm: str) -> None:
        check("Normalizer", [of_type(dtype)], norm=norm)
        check("Normalizer", [of_type(dtype)[0]], norm=norm)

    def test_picking_columns(self, dtype: str) -> None:
        check("ArrayFeatureExtractor", [of_type(dtype), np.array([2, 0])])
        check("ArrayFeatureExtractor", [of_type(dtype)[0], np.array([[2, 0]])])

    def test_columns_of_several_tensors(self, dtype: str) -> None:
        x = of_type(dtype)
        check("FeatureVectorizer", [x, x[:, :2].copy()], inputdimensions=[3, 2])

    def test_one_hot_rows(self, dtype: str) -> None:
        check("OneHotEncoder", [of_type(dtype)], cats_int64s=[0, 1, 2, -3])

    def test_missing_values(self, dtype: str) -> None:
        x = of_type(dtype)
        kind = "int64" if dtype[0] == "i" else "float"
        for values in ([1, 2, 3], [7]):
            number = int if dtype[0] == "i" else float
            attributes: dict[str, Any] = {f"imputed_value_{kind}s": [number(value) for value in values]}
            attributes[f"replaced_value_{kind}"] = number(0)
            expected = np.where(x == 0, np.array(values, x.dtype), x)
            got = run(one_node("Imputer", [x], 1, 1, **attributes), [x])[0]
            np.testing.assert_array_equal(got, expected)

    def test_thresholds(self, dtype: str) -> None:
        x = of_type(dtype)
        got = run(one_node("Binarizer", [x], 1, 1, threshold=0.25), [x])[0]
        np.testing.assert_array_equal(got, (x > 0.25).astype(dtype))


def test_values_that_are_no_numbers_can_be_the_missing_ones() -> None:
    x = np.array([[1, np.nan], [np.nan, 2]], np.float32)
    model = one_node("Imputer", [x], 1, 1, imputed_value_floats=[5.0, 6.0], replaced_value_float=float("nan"))
    np.testing.assert_array_equal(run(model, [x])[0], [[1, 6], [5, 2]])


@settings(max_examples=20)
@given(
    keys=st.lists(st.integers(-4, 4), min_size=1, max_size=6),
    kinds=st.tuples(st.sampled_from("if"), st.sampled_from("if")),
    default=st.none() | st.integers(-9, 9),
)
def test_labels_for_labels(keys: list[int], kinds: tuple[str, str], default: int | None) -> None:
    """Equal keys, unknown labels and all."""
    names = {"i": "int64", "f": "float"}
    key, value = kinds
    attributes: dict[str, Any] = {
        f"keys_{names[key]}s": [int(k) if key == "i" else float(k) for k in keys],
        f"values_{names[value]}s": [10 + i if value == "i" else 10.5 + i for i in range(len(keys))],
    }
    if default is not None:
        attributes[f"default_{names[value]}"] = default if value == "i" else float(default)
    x = np.arange(-5, 5).reshape(2, 5).astype(np.int64 if key == "i" else np.float32)
    check("LabelEncoder", [x], version=2, **attributes)


def test_labels_in_tensors_and_no_number_as_a_key() -> None:
    tables = {"keys": [3.0, np.nan], "values": [8.0, 9.0], "default": [-2.0]}
    tensors: dict[str, Any] = {
        f"{name}_tensor": numpy_helper.from_array(np.array(content)) for name, content in tables.items()
    }
    check("LabelEncoder", [np.array([1.0, np.nan, 3.0])], version=4, **tensors)


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [4, 5, 6]}, {"classlabels_strings": ["a", "b", "c"]}])
def test_scores_become_maps(labels: dict[str, Any]) -> None:
    model = one_node("ZipMap", [FEATURES], 1, 1, **labels)
    keys = next(iter(labels.values()))
    assert run(model, [FEATURES])[0] == [dict(zip(keys, row, strict=True)) for row in FEATURES.tolist()]


def test_the_model_that_onnxruntime_brings() -> None:
    path = Path(ort.__file__).parent / "datasets" / "logreg_iris.onnx"
    feeds = {"float_input": RANDOM.uniform(0, 6, (3, 2)).astype(np.float32)}
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    with Session(path, devices=["cpu"], strict=True, cache=False) as session:
        labels, maps = session.run(feeds).values()
    np.testing.assert_array_equal(labels, expected[0])
    assert [list(one) for one in maps] == [list(one) for one in expected[1]]
    for got, wanted in zip(maps, expected[1], strict=True):
        np.testing.assert_allclose(list(got.values()), list(wanted.values()), rtol=1e-5, atol=1e-6)


def grown(
    trees: int, targets: list[int], modes: tuple[str, ...], lowest: float, *, all_targets: bool
) -> dict[str, Any]:
    """Random trees over three features, with the weights of their leaves under the names of neither operator."""
    nodes: dict[str, list[Any]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    nodes["missing_value_tracks_true"] = []
    weights: dict[str, list[Any]] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}

    def grow(tree: int, rows: dict[int, tuple[Any, ...]], depth: int) -> int:
        own = len(rows)
        rows[own] = ()
        if not depth or (own and RANDOM.random() < 0.2):
            rows[own] = (tree, own, 0, "LEAF", 0.0, 0, 0, 0)
            for target in targets if all_targets else RANDOM.choice(targets, 1):
                for name, value in zip(weights, (tree, own, int(target), RANDOM.uniform(lowest, 1)), strict=True):
                    weights[name].append(value)
            return own
        split = float(np.float32(RANDOM.choice([RANDOM.uniform(-1, 1), 0.0])))
        yes, no = grow(tree, rows, depth - 1), grow(tree, rows, depth - 1)
        mode = str(RANDOM.choice(modes))
        rows[own] = (tree, own, int(RANDOM.integers(3)), mode, split, yes, no, int(RANDOM.integers(2)))
        return own

    for tree in range(trees):
        rows: dict[int, tuple[Any, ...]] = {}
        grow(tree, rows, 3)
        for number in sorted(rows):
            for column, value in zip(nodes.values(), rows[number], strict=True):
                column.append(value)
    return {**{f"nodes_{name}": column for name, column in nodes.items()}, **weights}


def named(grown_trees: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name if name.startswith("nodes_") else f"{prefix}_{name}": value for name, value in grown_trees.items()}


BRANCHES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
WITH_GAPS = np.concatenate([FEATURES, np.zeros((1, 3), np.float32), np.full((1, 3), np.nan, np.float32)])


@pytest.mark.parametrize("modes", [BRANCHES[:1], BRANCHES], ids=["one", "all"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("function", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regressions_by_trees(function: str, targets: int, modes: tuple[str, ...]) -> None:
    """Missing values, and targets of which a row's leaves say nothing, included."""
    bases: tuple[dict[str, Any], ...] = ({}, {"base_values": [0.5, 0.25, 0.125][:targets]})
    for base in bases:
        trees = named(grown(4, list(range(targets)), modes, -1.0, all_targets=False), "target")
        check("TreeEnsembleRegressor", [WITH_GAPS], n_targets=targets, aggregate_function=function, **base, **trees)


@pytest.mark.parametrize("lowest", [-1.0, 0.0], ids=["mixed", "positive"])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize(
    ("classes", "said", "base"),
    [
        (3, [0, 1, 2], []),
        (3, [0, 1, 2], [0.1, 0.2, 0.3]),
        (2, [0, 1], []),
        (2, [0, 1], [0.1, 0.2]),
        (2, [0], []),
        (2, [0], [0.1]),
        (2, [0], [0.1, 0.2]),
        (2, [1], []),
        (2, [1], [0.1]),
        (2, [1], [0.1, 0.2]),
    ],
)
def test_classes_by_trees(classes: int, said: list[int], base: list[float], transform: str, lowest: float) -> None:
    """The rules for two classes are onnxruntime's."""
    labels = list(range(7, 7 + classes))
    starts: dict[str, Any] = {"base_values": base} if base else {}
    for all_targets in (True, False):
        trees = named(grown(4, said, BRANCHES[:1], lowest, all_targets=all_targets), "class")
        attributes: dict[str, Any] = {"classlabels_int64s": labels, "post_transform": transform, **starts, **trees}
        check("TreeEnsembleClassifier", [WITH_GAPS], 2, **attributes)


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_trees_that_ask_for_members_of_sets(dtype: str) -> None:
    def tensor(*content: float, of: str = dtype) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(content, of))

    attributes = {
        "n_targets": 2,
        "aggregate_function": 1,
        "post_transform": 0,
        "tree_roots": [0],
        "nodes_featureids": [0, 1, 1],
        "nodes_modes": tensor(0, 6, 6, of="u1"),
        "nodes_splits": tensor(3.14, 0, 0),
        "nodes_truenodeids": [1, 0, 1],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [2, 2, 3],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": tensor(5.23, 12.12, -12.23, 7.21),
        "membership_values": tensor(1.2, 3.7, 8, 9, np.nan, 12, 7, np.nan),
    }
    x = np.array([[1, 1.2], [2, 9], [3, 4], [4, 12], [5, 7], [6, 1]], dtype)
    model = one_node("TreeEnsemble", [x], 1, 5, has_standard=dtype == "d", **attributes)
    expected = [[5.23, 0], [5.23, 0], [-12.23, 0], [0, 12.12], [0, 12.12], [0, 7.21]]
    np.testing.assert_allclose(run(model, [x])[0], np.array(expected, dtype), rtol=1e-6)


@pytest.mark.parametrize("kernel", ["LINEAR", "RBF", "POLY", "SIGMOID"])
class TestSupportVectors:
    def test_regressions(self, kernel: str) -> None:
        for one_class in (0, 1):
            vectors: dict[str, Any] = {
                "n_supports": 4,
                "support_vectors": uniform(12),
                "coefficients": uniform(4),
                "rho": [0.2],
            }
            attributes: dict[str, Any] = {
                "kernel_type": kernel,
                "kernel_params": [0.7, 0.3, 3.0],
                "one_class": one_class,
            }
            check("SVMRegressor", [FEATURES], **vectors, **attributes)

    @pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
    @pytest.mark.parametrize("classes", [2, 4])
    def test_classes(self, kernel: str, classes: int, transform: str) -> None:
        sizes = [2, 3, 1, 2][:classes]
        attributes: dict[str, Any] = {
            "kernel_type": kernel,
            "kernel_params": [0.7, 0.3, 3.0],
            "vectors_per_class": sizes,
            "support_vectors": uniform(3 * sum(sizes)),
            "coefficients": uniform(sum(sizes) * (classes - 1)),
            "rho": uniform(classes * (classes - 1) // 2),
            "classlabels_ints": [5, 6, 7, 8][:classes],
            "post_transform": transform,
        }
        check("SVMClassifier", [FEATURES], 2, **attributes)


@settings(max_examples=25, deadline=None)
@given(
    classes=st.integers(2, 6),
    kernel=st.sampled_from(["LINEAR", "RBF", "POLY", "SIGMOID"]),
    transform=st.sampled_from(["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]),
    texts=st.booleans(),
    spread=st.sampled_from([0.3, 1.0, 8.0]),
    seed=st.integers(0, 999),
)
def test_probabilities_of_support_vectors(
    classes: int, kernel: str, transform: str, texts: bool, spread: float, seed: int
) -> None:
    """Platt's scaling of every pair, coupled as libsvm does it."""
    random = np.random.default_rng(seed)
    sizes = [int(size) for size in random.integers(1, 4, classes)]
    total, pairs = sum(sizes), classes * (classes - 1) // 2

    def drawn(count: int, scale: float = 1.0) -> list[float]:
        return [float(number) for number in random.normal(0, scale, count)]

    labels: dict[str, Any] = (
        {"classlabels_strings": [f"class {i}" for i in range(classes)]}
        if texts
        else {"classlabels_ints": [3 * i + 1 for i in range(classes)]}
    )
    check(
        "SVMClassifier",
        [random.normal(size=(9, 3)).astype(np.float32)],
        2,
        kernel_type=kernel,
        kernel_params=[0.5, 0.1, 2.0],
        vectors_per_class=sizes,
        support_vectors=drawn(3 * total),
        coefficients=drawn((classes - 1) * total, spread),
        rho=drawn(pairs),
        prob_a=[-abs(number) - 0.2 for number in drawn(pairs)],
        prob_b=drawn(pairs, 0.3),
        post_transform=transform,
        **labels,
    )


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("values", ["strings", "int64s", "floats"])
def test_nan_is_a_key_of_labels_since_version_4(version: int, values: str) -> None:
    given_values: dict[str, list[Any]] = {
        "strings": ["missing", "one", "two"],
        "int64s": [7, 8, 9],
        "floats": [0.5, 1.5, 2.5],
    }
    check(
        "LabelEncoder",
        [np.array([[1.0, np.nan], [2.0, 5.0]], np.float32)],
        1,
        version,
        keys_floats=[float("nan"), 1.0, 2.0],
        **{f"values_{values}": given_values[values]},
    )


@pytest.mark.parametrize("version", [1, 2, 4])
def test_labels_of_texts(version: int) -> None:
    texts = np.array(["b", "?", "a", "b"], object)
    if version == 1:
        check("LabelEncoder", [np.array([2, 0, 9])], 1, 1, classes_strings=["a", "b", "c"], default_string="none")
        check("LabelEncoder", [texts], 1, 1, classes_strings=["a", "b", "c"], default_int64=-7)
        return
    check("LabelEncoder", [texts], 1, version, keys_strings=["a", "b", "a"], values_strings=["x", "y", "z"])
    check("LabelEncoder", [texts], 1, version, keys_strings=["a", "b"], values_floats=[1.5, 2.5], default_float=9.0)

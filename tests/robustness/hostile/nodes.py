"""Models of one good node each: every operator, in every opset in which it is another one, with arrays to feed."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BASES_OF_ONE_OPERATOR = 2
MOST_ELEMENTS = 20_000

_ATTRIBUTE_OF_INPUT = {"K": "k", "repeats": "tiles", "roi": ""}
"""Where an older opset has an attribute for what is an input now, and calls it something else."""


@dataclass(frozen=True)
class Base:
    """A model that runs.

    Attributes:
        name: of the operator, its opset and what it was made from.
        model: one node.
        feeds: by the names of the model's inputs.
    """

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]

    @property
    def node(self) -> onnx.NodeProto:
        return self.model.graph.node[0]

    @property
    def opset(self) -> int:
        return next(e.version for e in self.model.opset_import if e.domain == self.node.domain)


def bases() -> Iterator[Base]:
    """Models for every operator that any is known of: the newest form, and older ones that differ."""
    tests = _of_onnx_tests()
    tested = {(base.node.domain, base.node.op_type) for base in tests}
    for base in [*tests, *by_hand(), *_of_strategies(tested)]:
        yield base
        yield from _older(base)


def _of_onnx_tests() -> list[Base]:
    """The smallest of onnx's own node tests that between them have the most attributes."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = list(collect_testcases(""))
    by_operator: dict[tuple[str, str], list[tuple[int, Base]]] = {}
    for test in tests:
        if test.model is None or len(test.model.graph.node) != 1 or not test.data_sets:
            continue
        node = test.model.graph.node[0]
        arrays = list(test.data_sets[0][0])
        feeds = dict(zip([value.name for value in test.model.graph.input], arrays, strict=False))
        elements = sum(np.size(array) for array in arrays if isinstance(array, np.ndarray))
        if elements <= MOST_ELEMENTS:
            base = Base(f"{node.op_type}: {test.name}", test.model, feeds)
            by_operator.setdefault((node.domain, node.op_type), []).append((elements, base))
    chosen: list[Base] = []
    for found in by_operator.values():
        seen: set[str] = set()
        kept = 0
        for _, base in sorted(found, key=lambda pair: (-len(pair[1].node.attribute), pair[0], pair[1].name)):
            names = {attribute.name for attribute in base.node.attribute}
            if kept < BASES_OF_ONE_OPERATOR and (not kept or names - seen):
                chosen.append(base)
                seen |= names
                kept += 1
        plain = min(found, key=lambda pair: (len(pair[1].node.attribute), pair[0], pair[1].name))[1]
        if not any(plain is base for base in chosen):
            chosen.append(plain)
    return chosen


def _of_strategies(tested: Container[tuple[str, str]]) -> list[Base]:
    """Of the operator fuzzer: those of com.microsoft, and what onnx has no tests of."""
    from mace_testing.fuzzing.registry import cases, covered

    found: list[Base] = []
    for domain, op in sorted(covered()):
        if (domain, op) in tested:
            continue
        best = sorted(_drawn(cases(op, domain)), key=lambda case: (-len(case.attributes), repr(case)))[
            :BASES_OF_ONE_OPERATOR
        ]
        for number, case in enumerate(best):
            found.append(Base(f"{op}: drawn {number}", case.model(), dict(case.feeds)))
    return found


def _drawn(strategy: Any) -> list[Any]:
    """A few examples, the same ones every time."""
    import hypothesis

    drawn: list[Any] = []

    @hypothesis.settings(
        max_examples=12,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def keep(case: Any) -> None:
        drawn.append(case)

    keep()
    return drawn


def one_node(
    op: str,
    inputs: dict[str, Any],
    *,
    outputs: int = 1,
    domain: str = "",
    opset: int = 24,
    name: str = "by hand",
    **attributes: Any,
) -> Base:
    """A model of one node; outputs have no types, so that everyone infers for himself."""
    node = helper.make_node(op, list(inputs), [f"y{i}" for i in range(outputs)], name="n", domain=domain, **attributes)
    arrays = {key: value if isinstance(value, list) else np.asarray(value) for key, value in inputs.items()}
    graph = helper.make_graph(
        [node],
        "g",
        [_info(key, array) for key, array in arrays.items()],
        [onnx.ValueInfoProto(name=output) for output in node.output],
    )
    imports = [helper.make_opsetid("", 24 if domain else opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, opset))
    return Base(f"{op}: {name}", helper.make_model(graph, opset_imports=imports, ir_version=10), arrays)


def _info(name: str, array: Any) -> onnx.ValueInfoProto:
    if isinstance(array, list):
        return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def by_hand() -> list[Base]:
    """What onnx has no tests of, and some of each family for a quick look."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3) / 4
    return [*_standard(x), *_classical(x)]


def _standard(x: Any) -> list[Base]:
    """Operators of ONNX's own domain."""
    f32 = np.float32
    parts = [x, x + 1]
    batch, picture = np.linspace(-1, 1, 24, dtype=f32).reshape(4, 2, 3), np.linspace(-1, 1, 72, dtype=f32)
    picture = picture.reshape(1, 2, 6, 6)
    weights = np.linspace(-1, 1, 48, dtype=f32)
    return [
        *(
            one_node(op, {"x": picture}, kernel_shape=[2, 2], strides=[2, 1], pads=[1, 0, 0, 1], opset=22)
            for op in ("AveragePool", "LpPool")
        ),
        one_node("MaxPool", {"x": picture}, outputs=2, kernel_shape=[2, 2], strides=[2, 1], storage_order=0, opset=22),
        one_node("Conv", {"x": picture, "w": weights[:36].reshape(2, 2, 3, 3)}, strides=[2, 1], opset=22),
        one_node("ConvTranspose", {"x": picture, "w": weights[:36].reshape(2, 2, 3, 3)}, strides=[2, 1], opset=22),
        one_node("Dropout", {"x": picture}, outputs=2, opset=22),
        one_node("Dropout", {"x": picture}, outputs=2, opset=7, name="opset 7"),
        one_node("Unique", {"x": x}, outputs=4, axis=1, sorted=1),
        one_node("TopK", {"x": x, "k": np.array([2])}, outputs=2, axis=1),
        one_node("DynamicQuantizeLinear", {"x": x}, outputs=3),
        one_node("LayerNormalization", {"x": x, "s": x[0]}, outputs=3, axis=-1, epsilon=1e-5),
        one_node(
            "LSTM",
            {"x": batch, "w": weights.reshape(1, 16, 3), "r": np.linspace(-1, 1, 64, dtype=f32).reshape(1, 16, 4)},
            outputs=3,
            hidden_size=4,
            opset=22,
        ),
        one_node("Split", {"x": picture}, outputs=2, axis=2, num_outputs=2),
        one_node("ReduceSum", {"x": x}, axes=[1], keepdims=0, opset=11),
        one_node("Transpose", {"x": picture}, perm=[0, 2, 3, 1]),
        one_node("ConcatFromSequence", {"s": parts}, axis=0, new_axis=1),
        one_node("SequenceAt", {"s": parts, "i": np.array(1)}),
        one_node("SequenceEmpty", {}, dtype=1),
        one_node("SequenceErase", {"s": parts, "i": np.array(0)}),
        one_node("SequenceLength", {"s": parts}),
        one_node("SequenceConstruct", {"a": x, "b": x}),
        one_node("Multinomial", {"x": x}, sample_size=4, dtype=6, seed=1.0, opset=22),
        one_node(
            "MaxRoiPool",
            {"x": np.arange(32, dtype=f32).reshape(1, 2, 4, 4), "r": np.array([[0, 0, 0, 3, 3]], f32)},
            pooled_shape=[2, 2],
            spatial_scale=1.0,
            opset=22,
        ),
        one_node("GlobalLpPool", {"x": np.arange(32, dtype=f32).reshape(1, 2, 4, 4)}, p=2, opset=22),
    ]


def _classical(x: Any) -> list[Base]:
    """Operators of ai.onnx.ml."""
    ml = {"domain": "ai.onnx.ml", "opset": 3}
    tree = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [1, 0, 0],
        "nodes_values": [0.6, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
    }
    svm = {"support_vectors": [1.0, 0.0, 0.5, 0.25, 0.5, 1.0], "coefficients": [0.5, -0.5], "rho": [0.1]}
    return [
        one_node("Imputer", {"x": x}, imputed_value_floats=[1.0], replaced_value_float=0.25, **ml),
        one_node("Normalizer", {"x": x}, norm="L2", **ml),
        one_node("Scaler", {"x": x}, offset=[0.5, 1.0, 0.0], scale=[2.0, 1.0, 3.0], **ml),
        one_node("FeatureVectorizer", {"x": x, "z": x}, inputdimensions=[3, 3], **ml),
        one_node("OneHotEncoder", {"x": np.array([1, 2, 5])}, cats_int64s=[1, 2, 3], zeros=1, **ml),
        one_node("OneHotEncoder", {"x": np.array(["a", "z"])}, cats_strings=["a", "b"], zeros=1, **ml, name="texts"),
        one_node(
            "CategoryMapper",
            {"x": np.array(["a", "c"])},
            cats_int64s=[4, 5],
            cats_strings=["a", "b"],
            default_int64=-1,
            **ml,
        ),
        one_node(
            "LinearRegressor",
            {"x": x},
            coefficients=[1.0, 2.0, 3.0] * 2,
            intercepts=[0.5, 1.0],
            targets=2,
            post_transform="NONE",
            **ml,
        ),
        one_node(
            "LinearClassifier",
            {"x": x},
            outputs=2,
            coefficients=[1.0, 2.0, 3.0, -1.0, 0.5, 0.0],
            intercepts=[0.5, 1.0],
            classlabels_ints=[7, 9],
            multi_class=0,
            post_transform="SOFTMAX",
            **ml,
        ),
        one_node(
            "SVMRegressor",
            {"x": x},
            **svm,
            n_supports=2,
            one_class=0,
            kernel_type="RBF",
            kernel_params=[0.5, 0.0, 3.0],
            post_transform="NONE",
            **ml,
        ),
        one_node(
            "SVMClassifier",
            {"x": x},
            outputs=2,
            **svm,
            vectors_per_class=[1, 1],
            classlabels_ints=[0, 1],
            prob_a=[-1.0],
            prob_b=[0.1],
            kernel_type="RBF",
            kernel_params=[0.5, 0.0, 3.0],
            post_transform="NONE",
            **ml,
        ),
        one_node(
            "TreeEnsembleRegressor",
            {"x": x},
            **tree,
            n_targets=1,
            target_ids=[0, 0],
            target_nodeids=[1, 2],
            target_treeids=[0, 0],
            target_weights=[1.5, 2.5],
            aggregate_function="SUM",
            post_transform="NONE",
            base_values=[0.5],
            **ml,
        ),
        one_node(
            "TreeEnsembleClassifier",
            {"x": x},
            outputs=2,
            **tree,
            class_ids=[0, 1],
            class_nodeids=[1, 2],
            class_treeids=[0, 0],
            class_weights=[0.25, 0.75],
            classlabels_int64s=[3, 4],
            post_transform="NONE",
            **ml,
        ),
    ]


def _older(base: Base) -> Iterator[Base]:
    """The same node as an operator of each older opset in which it is another one, as far as it can be said there."""
    node = base.node
    versions = {
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == (node.domain, node.op_type)
    }
    try:
        own = onnx.defs.get_schema(node.op_type, base.opset, node.domain)
    except onnx.defs.SchemaError:
        return
    for version in sorted(versions, reverse=True):
        if version < own.since_version:
            made = _at(base, version, own)
            if made is not None:
                yield made


def _at(base: Base, version: int, own: onnx.defs.OpSchema) -> Base | None:
    schema = onnx.defs.get_schema(base.node.op_type, version, base.node.domain)
    model = onnx.ModelProto()
    model.CopyFrom(base.model)
    node = model.graph.node[0]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    feeds = dict(base.feeds)
    for index in range(len(node.input) - 1, -1, -1):
        kept_name = schema.inputs[min(index, len(schema.inputs) - 1)].name if schema.inputs else ""
        formal = own.inputs[min(index, len(own.inputs) - 1)].name
        attribute = _ATTRIBUTE_OF_INPUT.get(formal, formal)
        if index < schema.max_input and attribute not in schema.attributes:
            continue
        name = node.input[index]
        array = feeds.get(name, constants.get(name))
        if name and attribute in schema.attributes and isinstance(array, np.ndarray):
            value = array.reshape(-1).tolist()
            wanted = schema.attributes[attribute].type.name
            if not wanted.endswith("S"):
                if len(value) != 1:
                    return None
                value = value[0]
            node.attribute.append(helper.make_attribute(attribute, value) if value != [] else _empty(attribute))
        elif name and kept_name == formal:
            continue
        del node.input[index]
        if name not in node.input:
            feeds.pop(name, None)
            for values in (model.graph.input, model.graph.initializer):
                for item in [item for item in values if item.name == name]:
                    values.remove(item)
    for attribute_proto in list(node.attribute):
        known = schema.attributes.get(attribute_proto.name)
        if known is None or known.type.value != attribute_proto.type:
            node.attribute.remove(attribute_proto)
    if len(node.input) < schema.min_input or len(node.output) > schema.max_output:
        return None
    for entry in model.opset_import:
        if entry.domain == node.domain:
            entry.version = version
    model.ir_version = min(model.ir_version, 10)
    return Base(f"{base.name} at opset {version}", model, feeds)


def _empty(name: str) -> onnx.AttributeProto:
    return onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS)


__all__ = ["Base", "bases", "by_hand", "one_node"]

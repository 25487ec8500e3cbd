"""Attributes of ai.onnx.ml."""

from __future__ import annotations

from mace_core.graph.attribute import AttributeKind as K
from mace_core.operators.attributes import declare_attributes
from mace_core.operators.attributes.rule import (
    LARGEST_NUMBER,
    Rule,
    count,
    flag,
    list_of,
    number,
    numbers,
    of_kind,
    one_of,
    real,
    reals,
    size,
    text,
    texts,
)
from mace_core.operators.ml import DOMAIN

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF")
_PLACE = numbers(0, LARGEST_NUMBER)

BY_NAME: dict[str, Rule] = {
    **dict.fromkeys(("multi_class", "one_class", "zeros"), flag()),
    **dict.fromkeys(("default_float", "replaced_value_float", "threshold"), real()),
    **dict.fromkeys(("default_int64", "replaced_value_int64"), number()),
    **dict.fromkeys(("default_string",), text()),
    **dict.fromkeys(
        (
            *("base_values", "class_weights", "coefficients", "imputed_value_floats", "intercepts", "kernel_params"),
            *("keys_floats", "nodes_hitrates", "nodes_values", "offset", "prob_a", "prob_b", "rho", "scale"),
            *("support_vectors", "target_weights", "values_floats"),
        ),
        reals(),
    ),
    **dict.fromkeys(
        (
            *("cats_strings", "classes_strings", "classlabels_strings", "keys_strings", "string_vocabulary"),
            "values_strings",
        ),
        texts(),
    ),
    **dict.fromkeys(
        (
            *("cats_int64s", "classlabels_int64s", "classlabels_ints", "imputed_value_int64s", "int64_vocabulary"),
            *("keys_int64s", "values_int64s"),
        ),
        numbers(),
    ),
    **dict.fromkeys(
        (
            *("base_values_as_tensor", "class_weights_as_tensor", "default_tensor", "keys_tensor"),
            *("nodes_hitrates_as_tensor", "nodes_values_as_tensor", "target_weights_as_tensor", "values_tensor"),
        ),
        of_kind(K.TENSOR),
    ),
    # trees and their nodes have any numbers for names in the older operators
    **dict.fromkeys(
        (
            *("class_nodeids", "class_treeids", "nodes_falsenodeids", "nodes_nodeids", "nodes_treeids"),
            *("nodes_truenodeids", "target_nodeids", "target_treeids"),
        ),
        numbers(),
    ),
    **dict.fromkeys(("class_ids", "leaf_targetids", "nodes_featureids", "target_ids", "tree_roots"), _PLACE),
    **dict.fromkeys(("nodes_falseleafs", "nodes_missing_value_tracks_true", "nodes_trueleafs"), numbers(0, 1)),
    "aggregate_function": one_of("AVERAGE", "SUM", "MIN", "MAX"),
    "cast_to": one_of("TO_FLOAT", "TO_STRING", "TO_INT64"),
    "inputdimensions": _PLACE,
    "kernel_type": one_of("LINEAR", "POLY", "RBF", "SIGMOID"),
    "map_form": one_of("DENSE", "SPARSE"),
    "max_map": size(),
    "n_supports": size(),
    "n_targets": count(),
    "nodes_modes": list_of(*_MODES),
    "norm": one_of("MAX", "L1", "L2"),
    "post_transform": one_of("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"),
    "targets": count(),
    "vectors_per_class": _PLACE,
}

declare_attributes(DOMAIN, BY_NAME)

"""Attributes of com.microsoft, of which onnx has no schemas: from onnxruntime's ContribOperators.md."""

from __future__ import annotations

from mace_core.graph.attribute import AttributeKind as K
from mace_core.operators.attributes import declare_attributes
from mace_core.operators.attributes.rule import (
    LARGEST_NUMBER,
    Rule,
    axis,
    code,
    count,
    flag,
    number,
    numbers,
    of_kind,
    one_of,
    real,
    reals,
)
from mace_core.operators.microsoft import DOMAIN

BY_NAME: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("causal", "channels_last", "do_rotary", "is_packed_batching", "mask_index_type", "qk_output"),
            *("past_present_share_buffer", "rotary_interleaved", "smooth_softmax", "transBatchA", "transBatchB"),
            *("transC", "unidirectional", "weight_prepacked"),
        ),
        flag(),
    ),
    **dict.fromkeys(("leaky_relu_alpha", "mask_filter_value", "qk_scale"), real()),
    "activation_alpha": of_kind(K.FLOAT, K.FLOATS),
    "activation_beta": of_kind(K.FLOAT, K.FLOATS),
    "activation_params": reals(),
    "gather_axis": axis(),
    "groups": count(),
    "local_window_size": number(-1, LARGEST_NUMBER),
    "opset": number(1, LARGEST_NUMBER),
    "metric": one_of("euclidean", "sqeuclidean"),
    "qkv_hidden_sizes": numbers(1, LARGEST_NUMBER),
    "quantize_axis": axis(),
    "num_heads": count(),
    "kv_num_heads": count(),
    "hidden_size": count(),
    "block_size": count(),
    "bits": code(2, 4, 8),
}

declare_attributes(DOMAIN, BY_NAME, base="")

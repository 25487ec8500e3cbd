"""Inputs whose shapes contradict each other are refused before any kernel reads beyond one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.errors import ModelError

F, I64, B, S = np.float32, np.int64, np.uint8, np.int32


def ones(*shape: int, dtype: Any = F) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def whole(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, I64)


ROTARY = ones(1, 2, 3, 4)
FLOATS_OF_LSTM = (ones(3, 2, 4), ones(1, 8, 4), ones(1, 8, 2))
QUANTIZED = (ones(1, 2, 4, 4, dtype=B), F(1), B(0), ones(2, 2, 1, 1, dtype=B))

CASES: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str]] = [
    ("RoiAlign", "image", (ones(1, 1, 8, 8), ones(2, 4), whole(1)), {}, r"image of each region must be \[2\]"),
    ("RoiAlign", "corners", (ones(1, 1, 8, 8), ones(1, 3), whole(1)), {}, r"must be \(count, 4\)"),
    ("RoiAlign", "samples", (ones(1, 1, 8, 8), ones(1, 4), whole(1)), {"sampling_ratio": 2**31}, "sampling_ratio"),
    ("GridSample", "nothing", (ones(1, 1, 0, 8), ones(1, 2, 2, 2)), {}, "nothing"),
    ("NonMaxSuppression", "boxes", (ones(1, 5, 4), ones(1, 2, 7)), {}, "classes, boxes"),
    ("NonMaxSuppression", "corners", (ones(1, 5, 3), ones(1, 2, 5)), {}, "boxes, 4"),
    ("NonMaxSuppression", "count", (ones(1, 5, 4), ones(1, 2, 5), whole(0)), {}, "largest number of boxes"),
    ("MaxUnpool", "indices", (ones(1, 1, 2, 2), whole(1, 1, 1, 2)), {"kernel_shape": [2, 2]}, "one for each element"),
    ("Col2Im", "count", (ones(1, 4, 8), np.array([5, 5]), np.array([2, 2])), {}, "16 blocks of 4"),
    ("Col2Im", "channels", (ones(1, 5, 16), np.array([5, 5]), np.array([2, 2])), {}, "16 blocks of 4"),
    ("DeformConv", "offsets", (ones(1, 2, 4, 4), ones(3, 2, 2, 2), ones(1, 8, 2, 3)), {}, r"\[1, 8, 3, 3\]"),
    ("DeformConv", "bias", (ones(1, 2, 4, 4), ones(3, 2, 2, 2), ones(1, 8, 3, 3), ones(2)), {}, r"bias must be \[3\]"),
    (
        *("DeformConv", "mask"),
        (ones(1, 2, 4, 4), ones(3, 2, 2, 2), ones(1, 8, 3, 3), None, ones(1, 4, 3, 2)),
        *({}, r"mask must be \[1, 4, 3, 3\]"),
    ),
    ("ConvTranspose", "kernel", (ones(1, 2, 4, 4), ones(2, 1, 1, 1)), {"kernel_shape": [3, 3]}, "contradicts"),
    ("GroupNormalization", "groups", (ones(1, 4, 2), ones(4), ones(4)), {"num_groups": 3}, "3 groups"),
    ("LRN", "size", (ones(1, 4, 2),), {"size": -1}, "from 1"),
    ("LSTM", "bias", (*FLOATS_OF_LSTM, ones(1, 3)), {"hidden_size": 2}, r"bias must be \[1, 16\]"),
    ("LSTM", "lengths", (*FLOATS_OF_LSTM, None, ones(1, dtype=S)), {"hidden_size": 2}, "one for each sequence"),
    ("LSTM", "state", (*FLOATS_OF_LSTM, None, None, ones(1, 5, 2)), {"hidden_size": 2}, "first hidden state"),
    ("LSTM", "cell", (*FLOATS_OF_LSTM, None, None, None, ones(1, 1, 2)), {"hidden_size": 2}, "first cell state"),
    ("LSTM", "peepholes", (*FLOATS_OF_LSTM, None, None, None, None, ones(1, 4)), {"hidden_size": 2}, "peepholes"),
    ("LSTM", "direction", FLOATS_OF_LSTM, {"hidden_size": 2, "direction": "sideways"}, "sideways"),
    ("GRU", "weights", (ones(3, 2, 4), ones(1, 9, 4), ones(1, 6, 2)), {"hidden_size": 2}, r"W must be \[1, 6, 4\]"),
    ("RNN", "recurrence", (ones(3, 2, 4), ones(1, 2, 4), ones(1, 0, 2)), {"hidden_size": 2}, "R must be"),
    ("ScatterElements", "updates", (ones(3, 2), whole(2, 2), ones(1, 1)), {}, "one for each index"),
    ("ScatterElements", "reach", (ones(3, 2), whole(4, 3), ones(4, 3)), {}, "lie in it"),
    ("ScatterND", "updates", (ones(3, 2), whole(1, 1), ones(1, 3)), {}, r"updates must be \[1, 2\]"),
    ("ScatterND", "axes", (ones(3, 2), whole(1, 5), ones(1)), {}, "more axes"),
    ("GatherElements", "reach", (ones(2, 3), whole(1, 4)), {}, "beyond data"),
    ("GatherND", "batches", (ones(3, 2), whole(4, 1)), {"batch_dims": 1}, "batch dimensions"),
    ("TensorScatter", "cache", (ones(2, 0, 3), ones(2, 1, 3)), {"axis": 1, "mode": "circular"}, "not longer"),
    ("TensorScatter", "places", (ones(2, 4, 3), ones(2, 1, 3), whole(1)), {"axis": 1}, "one for each batch"),
    ("OneHot", "values", (whole(2), I64(4), ones(3)), {}, "off and on"),
    ("ReverseSequence", "lengths", (ones(4, 2), whole(1)), {"time_axis": 0, "batch_axis": 1}, "one for each sequence"),
    ("Einsum", "two sizes of one index", (ones(3, 0, 1),), {"equation": "...ii->...i"}, "two sizes"),
    ("QLinearConv", "bias", (*QUANTIZED, F(1), B(0), F(1), B(0), ones(1, dtype=S)), {}, r"bias must be \[2\]"),
    ("QLinearConv", "scales", (*QUANTIZED, ones(3), B(0), F(1), B(0)), {}, "scale of the weights"),
    ("ConvInteger", "points", (QUANTIZED[0], QUANTIZED[3], B(0), ones(5, dtype=B)), {}, "zero point of the weights"),
    ("DequantizeLinear", "points", (QUANTIZED[0], ones(2), ones(1, dtype=B)), {}, "zero point"),
    ("QuantizeLinear", "scales", (ones(1, 1, 8), ones(3)), {}, "does not fit axis 1"),
    ("DequantizeLinear", "blocks", (QUANTIZED[0], ones(1, 2, 1, 4)), {"axis": 2, "block_size": 2}, "axis 2"),
    ("DFT", "axis", (ones(1, 8, 1), None, I64(9)), {}, "axis 9"),
    ("DFT", "parts", (ones(1, 8, 3),), {}, "real"),
    ("STFT", "window", (ones(1, 32, 1), I64(4), ones(16), I64(9)), {}, "window of 16"),
    ("Attention", "sizes", (ones(1, 1, 2, 4), ones(1, 1, 3, 5), ones(1, 1, 3, 4)), {}, "queries of 4"),
    ("Attention", "past keys alone", (*[ones(1, 1, 2, 4)] * 3, None, ones(1, 1, 3, 4)), {}, "given together"),
    ("Attention", "past values alone", (*[ones(1, 1, 2, 4)] * 3, None, None, ones(1, 1, 3, 4)), {}, "given together"),
    (
        *("Attention", "past keys"),
        (*[ones(1, 1, 2, 4)] * 3, None, ones(1, 1, 3, 5), ones(1, 1, 3, 4)),
        *({}, r"past keys must be \[1, 1, 3, 4\]"),
    ),
    (
        *("Attention", "past values"),
        (*[ones(1, 1, 2, 4)] * 3, None, ones(1, 1, 3, 4), ones(1, 1, 2, 4)),
        *({}, r"past values must be \[1, 1, 3, 4\]"),
    ),
    ("Attention", "mask", (*[ones(1, 1, 2, 4)] * 3, ones(2, 5)), {}, "mask"),
    ("Pad", "cut", (ones(4), np.array([-5, 2])), {"mode": "edge"}, "cut more"),
    ("Resize", "axes", (ones(2, 2), None, None, np.array([2, 2])), {"axes": [0, 0]}, "twice"),
    ("Resize", "policy", (ones(2, 2), None, None, np.array([2, 2])), {"keep_aspect_ratio_policy": "x"}, "policy"),
    ("RotaryEmbedding", "cache", (ROTARY, ones(5, 7), ones(5, 7), whole(1, 3)), {}, "cosines"),
    ("RotaryEmbedding", "positions", (ROTARY, ones(5, 2), ones(5, 2), whole(1, 1)), {}, "positions"),
    ("LayerNormalization", "scale", (ones(2, 4), ones(3)), {}, "broadcast"),
    ("Range", "start", (ones(2), F(4), F(1)), {}, "start"),
    ("Trilu", "rank", (ones(3),), {}, "2 axes"),
    ("Slice", "starts", (ones(3), whole(1, 1), whole(1)), {}, "a list"),
]  # fmt: skip

OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}


@pytest.mark.parametrize(
    ("op", "arrays", "attributes", "message"),
    [pytest.param(op, arrays, more, message, id=f"{op}-{name}") for op, name, arrays, more, message in CASES],
)
def test_shapes_that_contradict_each_other_are_refused_with_words(
    op: str, arrays: tuple[Any, ...], attributes: dict[str, Any], message: str
) -> None:
    given = {f"x{i}": np.asarray(array) for i, array in enumerate(arrays) if array is not None}
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(OUTPUTS.get(op, 1))], name="n", **attributes)
    sizes = {name for name, array in given.items() if array.dtype == I64 and name != "x0"}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in given.items()
        if name not in sizes
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    constants = [numpy_helper.from_array(given[name], name) for name in sizes]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
    feeds = {name: array for name, array in given.items() if name not in sizes}
    with (
        pytest.raises(ModelError, match=message),
        mace.Session(model.SerializeToString(), devices=["cpu"], cache=False) as session,
    ):
        session.run(feeds)


def _trees(true_branches: list[int], false_branches: list[int]) -> bytes:
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"],
        nodes_nodeids=[0, 1, 2],
        nodes_treeids=[0, 0, 0],
        nodes_truenodeids=true_branches,
        nodes_falsenodeids=false_branches,
        nodes_values=[0.5, 0.25, 0.0],
        target_ids=[0],
        target_nodeids=[2],
        target_treeids=[0],
        target_weights=[3.0],
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())


@pytest.mark.parametrize(
    ("true_branches", "false_branches", "message"),
    [([1, 0, 0], [2, 2, 0], "circle"), ([0, 2, 0], [1, 2, 0], "circle"), ([1, 9, 0], [2, 2, 0], "not there")],
    ids=["to the root", "to itself", "to nowhere"],
)
def test_trees_that_no_walk_leaves_are_refused(
    true_branches: list[int], false_branches: list[int], message: str
) -> None:
    with (
        pytest.raises(ModelError, match=message),
        mace.Session(_trees(true_branches, false_branches), devices=["cpu"], cache=False) as session,
    ):
        session.run({"x": ones(2, 1)})


def test_a_tree_whose_branches_meet_again_is_computed() -> None:
    with mace.Session(_trees([1, 2, 0], [2, 2, 0]), devices=["cpu"], cache=False) as session:
        np.testing.assert_array_equal(session.run({"x": ones(2, 1)})["y"], [[3.0], [3.0]])


def _members(**changes: Any) -> bytes:
    """A tree that asks whether its only feature is 1, 2 or 5; ``changes`` to its attributes, None takes one away."""
    attributes: dict[str, Any] = {
        "n_targets": 1,
        "tree_roots": [0],
        "nodes_featureids": [0],
        "nodes_modes": numpy_helper.from_array(np.array([6], B)),
        "nodes_splits": numpy_helper.from_array(np.zeros(1, F)),
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": numpy_helper.from_array(np.array([7, 8], F)),
        "membership_values": numpy_helper.from_array(np.array([1, 2, 5, np.nan], F)),
    }
    given = {name: value for name, value in {**attributes, **changes}.items() if value is not None}
    node = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **given)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())


def test_a_tree_that_asks_for_membership_is_computed() -> None:
    with mace.Session(_members(), devices=["cpu"], cache=False) as session:
        np.testing.assert_array_equal(session.run({"x": np.array([[1], [3], [5]], F)})["y"], [[7], [8], [7]])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("membership_values", None, "1 nodes ask for membership, and 'membership_values' has 0 sets"),
        ("membership_values", np.array([1, np.nan, 2], F), "has 2 sets"),
        ("membership_values", np.array([np.nan, 2], F), r"has 2 sets \(1 empty\)"),
        ("nodes_modes", np.array([9], B), "a mode that is none of 0 to 6"),
        ("nodes_modes", np.array([0, 0], B), "'nodes_modes' has 2 elements"),
        ("nodes_splits", np.zeros(0, F), "'nodes_splits' has 0 elements"),
        ("nodes_hitrates", np.ones(3, F), "'nodes_hitrates' has 3 elements"),
        ("nodes_missing_value_tracks_true", [0, 1], "'nodes_missing_value_tracks_true' has 2 elements"),
        ("leaf_weights", np.ones(1, F), "'leaf_weights' has 1 elements"),
        ("leaf_targetids", [0, 4], "none of the 1 targets"),
    ],
)
def test_tensors_that_do_not_fit_a_tree_are_refused(name: str, value: Any, message: str) -> None:
    given = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
    with (
        pytest.raises(ModelError, match=message),
        mace.Session(_members(**{name: given}), devices=["cpu"], cache=False) as session,
    ):
        session.run({"x": ones(2, 1)})


def test_scan_of_opset_8_takes_its_element_types_from_the_body() -> None:
    """Its first input may be the lengths, which are whole numbers whatever is scanned."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Identity", ["t"], ["o"])],
        "body",
        [value("s", TensorProto.FLOAT, [2]), value("e", TensorProto.FLOAT, [2])],
        [value("t", TensorProto.FLOAT, [2]), value("o", TensorProto.FLOAT, [2])],
    )
    scan = helper.make_node("Scan", ["lengths", "s0", "x"], ["y", "z"], body=body, num_scan_inputs=1)
    graph = helper.make_graph(
        [scan],
        "g",
        [
            value("lengths", TensorProto.INT64, [2]),
            value("s0", TensorProto.FLOAT, [2, 2]),
            value("x", TensorProto.FLOAT, [2, 3, 2]),
        ],
        [value("y", TensorProto.FLOAT, [2, 2]), value("z", TensorProto.FLOAT, [2, 3, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)
    with mace.Session(model.SerializeToString(), devices=["cpu"], cache=False) as session:
        found = session.run({"lengths": np.array([3, 1]), "s0": np.zeros((2, 2), F), "x": ones(2, 3, 2)})
    np.testing.assert_array_equal(found["y"], [[3, 3], [1, 1]])

"""The reference provider: what onnx.reference can do, and nothing claimed that it cannot."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_suite import KNOWN_DIFFERENCES, cases, check_case
from scheduler_models import chain, constant, model, op, tensor
from scheduler_stand_ins import registry_of

from mace_core.errors import MaceError, ProviderError, UsageError
from mace_core.scheduler.host.reference import ReferenceProvider
from mace_core.session import Session

# Strings, sequences, optionals, functions with a context, old opsets, narrow types: what a plain array test misses.
TELLING = (
    "test_string_concat",
    "test_string_split_basic",
    "test_strnormalizer_export_monday_casesensintive_lower",
    "test_equal_string",
    "test_sequence_insert_at_back",
    "test_sequence_map_add_1_sequence_1_tensor",
    "test_split_to_sequence_1",
    "test_identity_sequence",
    "test_optional_get_element_optional_sequence",
    "test_optional_has_element_empty_optional_input",
    "test_gru_defaults",
    "test_sce_mean",
    "test_layer_normalization_3d_axis1_epsilon",
    "test_clip_default_int8_inbounds",
    "test_cast_FLOAT_to_INT4",
    "test_quantizelinear_int4",
    "test_dequantizelinear_e5m2",
    "test_castlike_FLOAT_to_BFLOAT16",
    "test_unique_not_sorted_without_axis",
    "test_nonmaxsuppression_two_batches",
    "test_ai_onnx_ml_label_encoder_string_int",
    "test_adam_multiple",
    "test_dropout_default_mask",
)


@pytest.mark.parametrize("name", TELLING)
def test_telling_cases_of_the_onnx_suite(name: str) -> None:
    check_case(cases()[name], devices=["reference"], registry=registry_of(), optimize=False)


@pytest.mark.full
def test_the_whole_onnx_node_suite() -> None:
    registry = registry_of()
    failures = {}
    for name, case in cases().items():
        try:
            check_case(case, devices=["reference"], registry=registry, optimize=False)
        except (AssertionError, MaceError) as error:
            failures[name] = str(error)
    assert {name: text for name, text in failures.items() if name not in KNOWN_DIFFERENCES} == {}
    assert set(KNOWN_DIFFERENCES) - set(failures) <= {n for n, why in KNOWN_DIFFERENCES.items() if why == "random"}


def test_an_operator_of_an_unknown_domain_is_declined_with_a_reason() -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="frob", domain="acme")
    graph = helper.make_graph([node], "g", [tensor("x", [1])], [tensor("y", [1])])
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)])
    with pytest.raises(MaceError) as caught:
        Session(built, devices=["reference"], registry=registry_of()).run({"x": np.zeros(1, np.float32)})
    for words in ("'frob'", "acme.Frobnicate", "reference:0", "no implementation"):
        assert words in str(caught.value)


def test_versions_of_an_operator_follow_the_models_opset() -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    for opset, flattens in ((11, True), (13, False)):  # Softmax worked on a flattened matrix before opset 13
        built = model(
            [op("Softmax", ["x"], ["y"], axis=1)], [tensor("x", [2, 2, 2])], [tensor("y", [2, 2, 2])], opset=opset
        )
        with Session(built, devices=["reference"], registry=registry_of()) as session:
            rows = session.run({"x": x})["y"]
        sums = rows.reshape(2, -1).sum(1) if flattens else rows.sum(1)
        np.testing.assert_allclose(sums, np.ones_like(sums), rtol=1e-6)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax", "Resize"])
def test_old_meanings_agree_with_onnxruntime(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float32)
    if name == "Resize":
        nodes = [op("Resize", ["x", "scales"], ["y"], mode="nearest")]
        constants = [constant("scales", np.float32([1, 1, 1.5, 2]))]
    else:
        nodes, constants = [op(name, ["x"], ["y"], axis=2)], []
    built = model(nodes, [tensor("x", x.shape)], [tensor("y", [None] * 4)], constants, opset=10)
    expected = ort.InferenceSession(built.SerializeToString()).run(None, {"x": x})[0]
    with Session(built, devices=["reference"], registry=registry_of(), optimize=False) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)


def test_old_broadcasting_along_an_axis_is_declined_not_guessed() -> None:
    nodes = [op("Add", ["x", "b"], ["y"], broadcast=1, axis=1)]
    built = model(nodes, [tensor("x", [1, 3, 3]), tensor("b", [3])], [tensor("y", [1, 3, 3])], opset=6)
    with pytest.raises(MaceError, match="convert the model to opset 7"):
        Session(built, devices=["reference"], registry=registry_of(), optimize=False)


def test_a_node_that_fails_is_named_with_its_shapes() -> None:
    nodes = [op("Gather", ["x", "i"], ["y"])]
    built = model(nodes, [tensor("x", [3])], [tensor("y", [1])], [constant("i", np.array([7]))])
    with Session(built, devices=["reference"], registry=registry_of(), optimize=False) as session:
        with pytest.raises(ProviderError) as caught:
            session.run({"x": np.zeros(3, np.float32)})
        assert caught.value.node == "Gather_y"
        assert caught.value.device == "reference:0"
        assert "float32[3]" in str(caught.value)


def test_strings_flow_in_and_out() -> None:
    built = model(
        [op("StringConcat", ["a", "b"], ["y"])],
        [tensor("a", ["n"], TensorProto.STRING), tensor("b", [1], TensorProto.STRING)],
        [tensor("y", ["n"], TensorProto.STRING)],
        opset=20,
    )
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        assert session.run({"a": np.array(["ü", "v"]), "b": ["!"]})["y"].tolist() == ["ü!", "v!"]


def test_sequences_and_absent_optionals_flow_in_and_out() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    out = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    built = model([op("SequenceInsert", ["s", "x"], ["y"])], [sequence, tensor("x", [None])], [out])
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        assert str(session.inputs[0]) == "s: seq(float32[...])"
        found = session.run({"s": [np.ones(2, np.float32)], "x": np.zeros(3, np.float32)})["y"]
        assert [item.tolist() for item in found] == [[1, 1], [0, 0, 0]]
        with pytest.raises(UsageError, match="is a sequence"):
            session.run({"s": np.ones(2, np.float32), "x": np.zeros(3, np.float32)})
    optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    given = onnx.ValueInfoProto(name="o", type=optional)
    built = model([op("OptionalHasElement", ["o"], ["y"])], [given], [tensor("y", [], TensorProto.BOOL)], opset=18)
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        assert not session.run({"o": None})["y"]
        assert session.run({"o": np.ones(2, np.float32)})["y"]


def test_options_are_refused() -> None:
    with pytest.raises(UsageError, match="no option 'speed'"):
        Session(chain("Neg"), devices=["reference"], options={"reference": {"speed": 1}}, registry=registry_of())


def test_the_device_is_real_but_never_chosen_before_others() -> None:
    (device,) = ReferenceProvider().probe().devices
    assert (device.qualified_name, device.is_virtual, device.can_execute) == ("reference:0", False, True)

"""Sessions that stop at the first NaN or infinity: node, output, count, place, device, and whether inputs were bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scheduler_stand_ins import make_provider, registry_of

import mace_core as mace
from mace_core.errors import NumericsError, UsageError
from mace_core.tensor import MemoryKind
from mace_core.testing.models import PP_OCR_CLS, find_packaged_model

F32 = TensorProto.FLOAT


def model(nodes: list[onnx.NodeProto], outputs: list[str], **constants: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "numbers",
        [helper.make_tensor_value_info("x", F32, ["n"])],
        [helper.make_tensor_value_info(name, F32, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def logarithm() -> bytes:
    """``y = relu(log(abs(x)))``: the relu hides an infinity below zero."""
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], name="abs"),
        helper.make_node("Log", ["a"], ["l"], name="log"),
        helper.make_node("Relu", ["l"], ["y"], name="relu"),
    ]
    return model(nodes, ["y"])


DEVICES = ("cpu", "reference")


@pytest.mark.parametrize("device", DEVICES)
def test_the_node_is_named_with_output_count_place_and_inputs(device: str) -> None:
    with mace.Session(logarithm(), devices=[device], check_numerics=True) as session:
        with pytest.raises(NumericsError) as caught:
            session.run({"x": np.array([1, 0, 2, 0], np.float32)})
        error = caught.value
        assert (error.node, error.output, error.device) == ("log", "l", f"{device}:0")
        assert (error.nan_count, error.infinity_count, error.first_index) == (0, 2, (1,))
        assert error.bad_inputs == ()
        assert str(error) == (
            f"model 'numbers': node 'log' (Log) on {device}:0 computed 2 infinities among the 4 values of its "
            "output 'l' float32[4], the first at [1]; its inputs were all finite: 'a' from 0 to 2"
        )
        again = session.run({"x": np.array([1, 2], np.float32)})  # the session works on
    np.testing.assert_allclose(again["y"], [0, np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_session_that_does_not_look_gives_what_comes_out(device: str) -> None:
    with mace.Session(logarithm(), devices=[device]) as session:
        assert session.run({"x": np.array([0], np.float32)})["y"].tolist() == [0]


def test_infinities_may_pass() -> None:
    with mace.Session(logarithm(), devices=["cpu"], check_numerics="nan") as session:
        assert session.run({"x": np.array([0], np.float32)})["y"].tolist() == [0]
        with pytest.raises(NumericsError, match=r"computed 1 NaN among"):
            session.run({"x": np.array([np.nan], np.float32)})


def test_an_input_that_was_bad_already_is_told() -> None:
    with (
        mace.Session(logarithm(), devices=["cpu"], check_numerics=True) as session,
        pytest.raises(NumericsError, match="its inputs were bad already: 'x' with 1 NaN") as caught,
    ):
        session.run({"x": np.array([1, np.nan], np.float32)})
    assert (caught.value.node, caught.value.bad_inputs) == ("abs", ("x",))


def test_a_weight_that_is_bad_is_told() -> None:
    made = model([helper.make_node("Mul", ["x", "w"], ["y"], name="scale")], ["y"], w=np.array([1, np.inf], np.float32))
    with (
        mace.Session(made, devices=["cpu"], check_numerics=True) as session,
        pytest.raises(NumericsError, match="bad already: 'x' from 1 to 1, 'w' with 1 infinity"),
    ):
        session.run({"x": np.ones(2, np.float32)})


def test_fused_forms_are_split_so_that_nothing_hides() -> None:
    """Everything here is one kernel on the cpu; the infinity is gone again before its end."""
    nodes = [
        helper.make_node("Exp", ["x"], ["e"], name="exp"),
        helper.make_node("Reciprocal", ["e"], ["r"], name="reciprocal"),
        helper.make_node("Neg", ["r"], ["y"], name="neg"),
    ]
    feeds = {"x": np.array([1000], np.float32)}
    with mace.Session(model(nodes, ["y"]), devices=["cpu"]) as session:
        assert session.run(feeds)["y"].tolist() == [0]
    with (
        mace.Session(model(nodes, ["y"]), devices=["cpu"], check_numerics=True) as session,
        pytest.raises(NumericsError, match=r"node 'exp' \(Exp\)"),
    ):
        session.run(feeds)


def test_bodies_of_control_flow_are_looked_into() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_out"]),
            helper.make_node("Mul", ["v", "v"], ["w"], name="square"),
        ],
        "body",
        [
            helper.make_tensor_value_info("t", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", F32, ["n"]),
        ],
        [helper.make_tensor_value_info("go_out", TensorProto.BOOL, []), helper.make_tensor_value_info("w", F32, ["n"])],
    )
    made = model(
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], name="loop", body=body)], ["y"], turns=np.int64(9)
    )
    with (
        mace.Session(made, devices=["cpu"], check_numerics=True) as session,
        pytest.raises(NumericsError, match=r"node 'square' \(Mul\) on cpu:0 .*its inputs were all finite"),
    ):
        session.run({"x": np.array([10.0], np.float32)})


@pytest.mark.parametrize("memory", [MemoryKind.DEVICE, MemoryKind.PINNED])
@pytest.mark.parametrize("has_queue", [True, False])
def test_memory_of_the_device_s_own_is_read_back(
    memory: MemoryKind, has_queue: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    provider = make_provider("unit", memory=memory, has_queue=has_queue)
    with (
        mace.Session(logarithm(), devices=["unit"], check_numerics=True, registry=registry_of(provider)) as session,
        pytest.raises(NumericsError, match=r"node 'log' \(Log\) on unit:0 computed 1 infinity .* 'a' from 0 to 3"),
    ):
        session.run({"x": np.array([0, 3], np.float32)})


def test_a_real_model_gives_the_same_when_checked_and_names_its_first_node_when_fed_a_nan() -> None:
    path = find_packaged_model(*PP_OCR_CLS)
    x = np.random.default_rng(0).standard_normal((1, 3, 48, 192)).astype(np.float32)
    with mace.Session(path, devices=["cpu"]) as plain:
        expected = plain.run({"x": x})
    with mace.Session(path, devices=["cpu"], check_numerics=True) as session:
        found = session.run({"x": x})
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6)
        x[0, 1, 7, 11] = np.nan
        with pytest.raises(NumericsError, match=r"\(Conv\) on cpu:0 computed \d+ NaN .*bad already: 'x' with 1 NaN"):
            session.run({"x": x})


@pytest.mark.parametrize("wanted", ["yes", 3, "NaN"])
def test_another_wish_is_refused(wanted: Any) -> None:
    with pytest.raises(UsageError, match="check_numerics is True, False"):
        mace.Session(logarithm(), devices=["reference"], check_numerics=wanted)

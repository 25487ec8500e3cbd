"""Comparing a model's values with a reference's: good devices agree, of a wrong one the first wrong node is found."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from acme_npu.backend import AcmeBackend
from acme_npu.operators import OPERATORS
from acme_npu.provider import AcmeProvider
from onnx import TensorProto, helper
from scheduler_stand_ins import registry_of

from mace_core.errors import UsageError
from mace_core.numerics import Validation, validate
from mace_core.numerics.chart import html, svg
from mace_core.numerics.table import COLUMNS, as_data, rows
from mace_core.provider import CompiledSubgraph, Device
from mace_core.provider.registry import Registry
from mace_core.testing.models import PP_OCR_CLS, find_packaged_model

pytestmark = pytest.mark.usefixtures("own_cache")

CLASSIFIER_INPUT = np.random.default_rng(0).standard_normal((1, 3, 48, 64)).astype(np.float32)


class WrongBackend(AcmeBackend):
    """Multiplies by a scale per channel as if all channels had the first one's."""

    def compile(self, subgraphs: Any) -> list[CompiledSubgraph]:
        compiled = super().compile(subgraphs)
        for item in compiled:
            for command in item.program.commands:  # type: ignore[attr-defined]
                if command.operator == "Mul":
                    object.__setattr__(command, "operator", "WrongMul")
        return compiled


class WrongProvider(AcmeProvider):
    """The example vendor's provider after a bad release."""

    name: ClassVar[str] = "acme"

    def open(self, device: Device, options: Mapping[str, object]) -> WrongBackend:
        return WrongBackend(device, 1 << 28)


def wrong_multiplication(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Right but for a factor of shape (1, C, 1, 1)."""
    if b.ndim == 4 and a.ndim == 4 and b.shape[1] > 1 and b.shape[2:] == (1, 1) and a.shape[2:] != (1, 1):
        b = b[:, :1]
    return np.multiply(a, b)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setitem(OPERATORS, "WrongMul", wrong_multiplication)
    return registry_of(WrongProvider)


def small() -> bytes:
    """``y = relu((x * s) + x)``."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "s"], ["a"], name="scale"),
            helper.make_node("Add", ["a", "x"], ["b"], name="sum"),
            helper.make_node("Relu", ["b"], ["y"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([1, 3], np.float32).reshape(1, 2, 1, 1), "s")],
    )
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


SMALL_INPUT = {"x": np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 2, 3, 3)}


def test_a_right_device_agrees_value_by_value_and_node_by_node() -> None:
    found = validate(
        small(), SMALL_INPUT, devices=["acme:sim0"], layers=True, isolated=True, registry=registry_of(AcmeProvider)
    )
    assert found.is_good and found.first is None
    assert [(layer.node, layer.device) for layer in found.layers] == [
        ("scale", "acme:sim0"),
        ("sum", "acme:sim0"),
        ("relu", "acme:sim0"),
    ]
    assert all(layer.difference is not None and layer.isolated is not None for layer in found.layers)
    assert "agrees with reference within 0.001" in found.verdict


def test_the_first_wrong_node_of_a_real_model_is_found(wrong: Registry) -> None:
    path = find_packaged_model(*PP_OCR_CLS)
    found = validate(path, {"x": CLASSIFIER_INPUT}, devices=["acme:sim0"], layers=True, isolated=True, registry=wrong)
    assert not found.is_good
    first = found.first
    assert first is not None and first.op == "Mul" and first.device == "acme:sim0"
    before = found.layers[: found.layers.index(first)]
    assert before and not any(found.diverges(layer, layer.difference) for layer in before)
    assert "the node itself is wrong" in found.verdict and f"'{first.node}'" in found.verdict
    scales = [layer for layer in found.layers if found.diverges(layer, layer.isolated)]
    assert first in scales and all(layer.op == "Mul" for layer in scales)
    behind = [
        layer for layer in found.layers[found.layers.index(first) + 1 :] if found.diverges(layer, layer.difference)
    ]
    assert any(not found.diverges(layer, layer.isolated) for layer in behind), "errors passed on are not the nodes' own"


def test_without_layers_the_outputs_alone_are_compared(wrong: Registry) -> None:
    found = validate(small(), SMALL_INPUT, devices=["acme:sim0"], registry=wrong)
    assert not found.is_good and not found.layers
    assert "output 'y' differs" in found.verdict and "--layers" in found.verdict


def test_each_node_by_itself_needs_no_run_of_all(wrong: Registry) -> None:
    found = validate(small(), SMALL_INPUT, devices=["acme:sim0"], isolated=True, registry=wrong)
    assert [(layer.node, found.diverges(layer, layer.isolated)) for layer in found.layers] == [
        ("scale", True),
        ("sum", False),
        ("relu", False),
    ]
    assert all(layer.difference is None for layer in found.layers)
    assert "'scale' (Mul)" in found.verdict


def test_an_error_that_builds_up_is_not_blamed_on_the_node_where_it_shows() -> None:
    """A little noise in every sum: each is within what is allowed, the tenth result is not."""

    class Noisy(AcmeProvider):
        name: ClassVar[str] = "acme"

        def open(self, device: Device, options: Mapping[str, object]) -> AcmeBackend:
            return NoisyBackend(device, 1 << 24)

    class NoisyBackend(AcmeBackend):
        def compile(self, subgraphs: Any) -> list[CompiledSubgraph]:
            compiled = super().compile(subgraphs)
            for item in compiled:
                for command in item.program.commands:  # type: ignore[attr-defined]
                    object.__setattr__(command, "operator", "NoisyAdd")
            return compiled

    nodes = [helper.make_node("Add", [f"v{i}", "s"], [f"v{i + 1}"], name=f"n{i}") for i in range(10)]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("v10", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([0, 1, 2, 3], np.float32), "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPERATORS, "NoisyAdd", lambda a, b: ((a + b) * np.float32(1.0004)).astype(np.float32))
        feeds = {"v0": np.arange(4, dtype=np.float32)}
        found = validate(model, feeds, devices=["acme:sim0"], layers=True, registry=registry_of(Noisy))
    assert found.first is not None and found.first.node not in ("n0", "n1")
    assert "the error has built up before it" in found.verdict
    assert not found.is_good


def test_onnxruntime_may_be_what_is_believed(wrong: Registry) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is optional")
    good = validate(
        small(),
        SMALL_INPUT,
        devices=["acme:sim0"],
        against="onnxruntime",
        registry=registry_of(AcmeProvider),
        layers=True,
    )
    assert good.is_good and len(good.layers) == 3
    bad = validate(small(), SMALL_INPUT, devices=["acme:sim0"], against="onnxruntime", registry=wrong, layers=True)
    assert bad.first is not None and bad.first.node == "scale"


def test_control_flow_and_data_dependent_shapes_are_values_like_others() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Add", ["v", "x"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("t", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["n", "", "x"], ["looped"], name="loop", body=body),
            helper.make_node("NonZero", ["looped"], ["places"], name="places"),
            helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise"),
            helper.make_node("Mul", ["noise", "nothing"], ["silent"], name="silence"),
            helper.make_node("Add", ["looped", "silent"], ["y"], name="end"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info(name, 0, None) for name in ("y", "places")],
        [onnx.numpy_helper.from_array(np.int64(2), "n"), onnx.numpy_helper.from_array(np.float32(0), "nothing")],
    )
    for output, kind in zip(graph.output, (TensorProto.FLOAT, TensorProto.INT64), strict=True):
        output.type.tensor_type.elem_type = kind
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = validate(
        model, {"x": np.array([0, 1, 2], np.float32)}, devices=["reference"], layers=True, isolated=True,
        registry=registry_of(),
    )  # fmt: skip
    assert found.is_good, found.verdict
    assert {"loop", "places", "end"} <= {layer.node for layer in found.layers}
    assert any("random" in note and "noise" in note for note in found.notes)


# --- what is made of it -----------------------------------------------------------------------------------------------


@pytest.fixture
def bad(wrong: Registry) -> Validation:
    return validate(small(), SMALL_INPUT, devices=["acme:sim0"], layers=True, isolated=True, registry=wrong)


def test_the_picture_is_self_contained_and_marks_the_first(bad: Validation) -> None:
    drawn = svg(bad)
    root = xml.etree.ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    texts = [element.text or "" for element in root.iter(f"{space}text")]
    assert any(text.startswith("first: scale (Mul)") for text in texts)
    dots = [circle for circle in root.iter(f"{space}circle") if circle.find(f"{space}title") is not None]
    assert len(dots) == 2 * len(bad.layers)
    assert "href" not in drawn and "url(" not in drawn and "<script" not in drawn


def test_the_picture_of_outputs_alone(wrong: Registry) -> None:
    found = validate(small(), SMALL_INPUT, devices=["acme:sim0"], registry=wrong)
    xml.etree.ElementTree.fromstring(svg(found))


def test_names_are_escaped() -> None:
    model = onnx.load_from_string(small())
    model.graph.node[0].name = "<script>&\"'"
    found = validate(
        model.SerializeToString(), SMALL_INPUT, devices=["acme:sim0"], layers=True, registry=registry_of(AcmeProvider)
    )
    page = html(found)
    assert "<script>" not in page and "&lt;script&gt;" in page
    xml.etree.ElementTree.fromstring(svg(found))


def test_rows_and_json_hold_the_same_figures(bad: Validation) -> None:
    table = list(rows(bad, bad.layers))
    assert [is_bad for _, is_bad in table] == [True, True, True]
    assert all(len(row) == len(COLUMNS) for row, _ in table)
    data = json.loads(json.dumps(as_data(bad), allow_nan=False))
    assert data["good"] is False and data["first"]["node"] == "scale"
    assert len(data["layers"]) == 3 and data["layers"][0]["difference"]["relative"] > 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"tolerance": -1.0}, "tolerance"), ({"tolerance": float("nan")}, "tolerance"), ({"against": "zap"}, "zap")],
)
def test_arguments_that_mean_nothing_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        validate(small(), SMALL_INPUT, devices=["reference"], registry=registry_of(), **arguments)


def test_a_graph_is_refused_as_it_would_be_changed() -> None:
    from mace_core.frontend import load_model

    with pytest.raises(UsageError, match="would be changed"):
        validate(load_model(small()), SMALL_INPUT)

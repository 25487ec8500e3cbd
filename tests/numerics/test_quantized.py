"""Layers of quantized models: each is compared by itself, in steps of its quantization, with what a reference makes of
our values before it."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from acme_npu.backend import AcmeBackend
from acme_npu.operators import OPERATORS
from acme_npu.provider import AcmeProvider
from onnx import TensorProto, helper, numpy_helper
from scheduler_stand_ins import registry_of

from mace_core.errors import UsageError
from mace_core.frontend import load_model
from mace_core.graph import Graph
from mace_core.numerics import Steps, Validation, validate
from mace_core.numerics.chart import html, svg
from mace_core.numerics.quantized_layers import Cut, cut_at_quantized_values, describe_layer
from mace_core.numerics.steps import count_steps
from mace_core.numerics.table import as_data, headings, layers_table, rows
from mace_core.operators import resolve

pytestmark = pytest.mark.usefixtures("own_cache")

RNG = np.random.default_rng(5)
FEEDS = {"x": RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)}


class Chain:
    """A QDQ model that grows: each value is quantized to uint8 and dequantized again."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[Any]] = {"scale": np.float32(0.05), "zero": np.uint8(120)}

    def op(self, name: str, op_type: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, outputs or [name], name=name, **attributes))
        return name

    def again(self, value: str, name: str) -> str:
        """``value`` quantized as ``name``, and dequantized."""
        self.op(name, "QuantizeLinear", value, "scale", "zero")
        return self.op(f"{name}_real", "DequantizeLinear", name, "scale", "zero")

    def weight(self, name: str, *shape: int) -> str:
        self.constants[f"{name}_steps"] = RNG.integers(-127, 128, shape).astype(np.int8)
        self.constants[f"{name}_scales"] = RNG.uniform(0.002, 0.008, shape[0]).astype(np.float32)
        self.constants[f"{name}_zeros"] = np.zeros(shape[0], np.int8)
        return self.op(name, "DequantizeLinear", *(f"{name}_{part}" for part in ("steps", "scales", "zeros")), axis=0)

    def model(self, *outputs: str, kind: int = TensorProto.FLOAT) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items()],
        )
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())


def network() -> bytes:
    """Two convolutions, the second with a residual sum, global pooling, and a Softmax in float."""
    chain = Chain()
    first = chain.op("conv", "Conv", chain.again("x", "q_x"), chain.weight("w", 6, 3, 3, 3), pads=[1] * 4)
    first = chain.again(chain.op("relu", "Relu", first), "q_relu")
    second = chain.again(chain.op("conv_again", "Conv", first, chain.weight("v", 6, 6, 1, 1)), "q_conv")
    total = chain.again(chain.op("sum", "Add", first, second), "q_sum")
    pooled = chain.again(chain.op("pool", "GlobalAveragePool", total), "q_pool")
    chain.op("y", "Softmax", pooled, axis=1)
    return chain.model("y")


def scaling() -> bytes:
    """``y = relu(x * s)`` with a scale for each channel, then the negative of it, both quantized."""
    chain = Chain()
    chain.constants["s"] = np.array([1, 3, 2], np.float32).reshape(1, 3, 1, 1)
    product = chain.again(chain.op("scale_by", "Mul", chain.again("x", "q_x"), "s"), "q_product")
    chain.again(chain.op("negative", "Neg", product), "q_negative")
    return chain.model("q_negative_real")


def steps_of(found: Validation) -> dict[str, Steps | None]:
    return {layer.output: layer.steps for layer in found.layers}


QUANTIZED = ["q_x", "q_relu", "q_conv", "q_sum", "q_pool"]


def check_network(against: str) -> Validation:
    found = validate(network(), FEEDS, devices=["cpu"], layers=True, against=against)
    assert found.is_good, found.verdict
    assert found.in_steps
    assert [layer.output for layer in found.layers] == [*QUANTIZED, "y"]
    steps = steps_of(found)
    assert all(counted is not None and counted.worst <= 1 for name, counted in steps.items() if name != "y")
    assert steps["y"] is None  # a float: judged by the tolerance
    assert [layer.op for layer in found.layers] == [
        "QuantizeLinear", "Conv+Relu", "Conv", "Add", "GlobalAveragePool", "Softmax",
    ]  # fmt: skip
    assert f"each of 5 quantized values is within 1 step of what {against} makes of the values before it" in (
        found.verdict
    )
    return found


def test_layers_of_integers_agree_with_onnxruntime() -> None:
    pytest.importorskip("onnxruntime")
    found = check_network("onnxruntime")
    assert found.outputs[0].difference is not None and found.outputs[0].difference.relative < 0.2
    assert {layer.device for layer in found.layers} == {"cpu:0"}


def test_layers_of_integers_agree_with_openvino() -> None:
    pytest.importorskip("openvino")
    check_network("openvino")


def test_layers_of_integers_agree_with_another_device() -> None:
    check_network("reference")


class WrongBackend(AcmeBackend):
    """Multiplies by a scale for each channel as if all channels had the first one's."""

    def compile(self, subgraphs: Any) -> Any:
        compiled = super().compile(subgraphs)
        for item in compiled:
            for command in item.program.commands:  # type: ignore[attr-defined]
                if command.operator == "Mul":
                    object.__setattr__(command, "operator", "WrongMul")
        return compiled


class WrongProvider(AcmeProvider):
    """The example vendor's provider after a bad release."""

    def open(self, device: Any, options: Any) -> WrongBackend:
        return WrongBackend(device, 1 << 28)


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Validation:
    def multiply(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.multiply(a, b[:, :1])

    monkeypatch.setitem(OPERATORS, "WrongMul", multiply)
    return validate(scaling(), FEEDS, devices=["acme:sim0"], layers=True, registry=registry_of(WrongProvider))


def test_a_wrong_layer_is_named_and_those_behind_it_are_not(bad: Validation) -> None:
    assert not bad.is_good
    steps = steps_of(bad)
    product, negative = steps["q_product"], steps["q_negative"]
    assert product is not None and product.worst > 20 and product.far > 50
    assert negative is not None and negative.worst == 0  # from our wrong values the right thing is made
    assert bad.first is not None and bad.first.output == "q_product"
    assert "1 of 4 layers are more than 1 step off what reference makes of the values before them" in bad.verdict
    assert "the worst is 'q_product' of node 'scale_by' (Mul) on acme:sim0" in bad.verdict


def test_the_table_has_the_worst_first_and_the_picture_its_steps(bad: Validation) -> None:
    table = layers_table(bad, worst_first=True)
    assert table.rows[0][:2] == ["!", "scale_by"] and [row[0] for row in table.rows[1:]] == ["", "", ""]
    listed = list(rows(bad, bad.layers))
    assert all(len(row) == len(headings(bad)) for row, _ in listed)
    assert [is_bad for _, is_bad in listed] == [False, True, False, False]
    drawn = svg(bad)
    xml.etree.ElementTree.fromstring(drawn)
    assert "steps of the quantization" in drawn and "first: scale_by (Mul)" in drawn
    assert "numbers off" in html(bad)


def test_json_has_the_steps(bad: Validation) -> None:
    data = json.loads(json.dumps(as_data(bad), allow_nan=False))
    assert data["in_steps"] is True and data["good"] is False
    layers = {layer["output"]: layer for layer in data["layers"]}
    assert layers["q_product"]["steps"]["worst"] > 20
    assert layers["q_x"]["steps"] == {"worst": 0, "off": 0, "far": 0, "elements": 192}
    assert data["first"]["output"] == "q_product"


def test_isolated_compares_the_nodes_as_they_stand_in_the_file() -> None:
    found = validate(network(), FEEDS, devices=["reference"], layers=True, isolated=True, registry=registry_of())
    assert not found.in_steps and found.is_good
    assert "conv" in {layer.output for layer in found.layers}


def test_without_layers_outputs_alone_are_compared() -> None:
    found = validate(network(), FEEDS, devices=["reference"], registry=registry_of())
    assert not found.in_steps and found.layers == []


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_framework_that_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"{name} is not installed: 'pip install {name}' brings it"):
        validate(network(), FEEDS, devices=["reference"], layers=True, against=name, registry=registry_of())


def test_a_model_that_the_framework_cannot_run_is_told_in_one_sentence() -> None:
    pytest.importorskip("onnxruntime")
    chain = Chain()
    real = chain.again("x", "q_x")
    chain.constants["more"] = np.array([1], np.int64)
    chain.op("y", "Det", chain.op("odd", "Unsqueeze", real, "more"), outputs=["y"])
    chain.nodes[-1].domain = "com.microsoft"
    with pytest.raises(UsageError, match="onnxruntime cannot run this model"):
        from mace_core.numerics.peers import values_by_onnxruntime

        values_by_onnxruntime(load_model(chain.model("y")), FEEDS)


def test_layers_are_compared_where_the_framework_runs_some_of_them_alone() -> None:
    pytest.importorskip("onnxruntime")
    chain = Chain()
    first = chain.again(chain.op("relu", "Relu", chain.again("x", "q_x")), "q_relu")
    odd = chain.op("odd", "Exp", chain.op("narrow", "Cast", first, to=TensorProto.BFLOAT16))
    chain.again(chain.op("wide", "Cast", odd, to=TensorProto.FLOAT), "q_odd")
    found = validate(
        chain.model("q_odd_real"),
        FEEDS,
        devices=["reference"],
        layers=True,
        against="onnxruntime",
        registry=registry_of(),
    )
    assert found.outputs == [] and any("gave no outputs of the whole model" in note for note in found.notes)
    failures = {layer.output: layer.failure for layer in found.layers}
    assert failures["q_x"] == failures["q_relu"] == "" and "onnxruntime cannot run" in failures["q_odd"]
    assert not found.is_good and "1 of 4 layers could not be compared" in found.verdict
    assert any("onnxruntime cannot run" in row[-1] for row, _ in rows(found, found.layers))


# --- where models are cut ---------------------------------------------------------------------------------------------


def cut(model: bytes) -> tuple[Graph, Cut]:
    from mace_core.tensor import DType, TensorType

    graph = load_model(model)
    types = {value: TensorType(DType.FLOAT32, (1, 3, 8, 8)) for value in graph.inputs}
    return graph, cut_at_quantized_values(graph, resolve(graph, types).types)


def names(found: Cut) -> list[str]:
    return [value.name for value in found.values]


def test_a_float_that_layers_share_is_computed_once() -> None:
    chain = Chain()
    shared = chain.op("shared", "Abs", chain.again("x", "q_x"))
    chain.again(chain.op("left", "Neg", shared), "q_left")
    chain.again(chain.op("right", "Exp", shared), "q_right")
    _, found = cut(chain.model("q_left_real", "q_right_real"))
    assert names(found) == ["q_x", "q_left", "q_right"]
    counted = [sum(node.name == "shared" for node in part.nodes) for part in found.parts]
    assert sum(counted) == 1
    both = found.parts[counted.index(1)]
    assert [value.name for value in both.results] == ["q_left", "q_right"]
    assert [describe_layer(both, value)[1] for value in both.results] == ["Abs+Neg", "Abs+Exp"]


def test_weights_that_the_file_quantizes_itself_stay_constants() -> None:
    chain = Chain()
    chain.constants["floats"] = RNG.standard_normal((4, 3, 1, 1)).astype(np.float32)
    chain.constants["w_scale"], chain.constants["w_zero"] = np.float32(0.02), np.int8(0)
    chain.op("w_steps", "QuantizeLinear", "floats", "w_scale", "w_zero")
    weight = chain.op("w", "DequantizeLinear", "w_steps", "w_scale", "w_zero")
    chain.again(chain.op("conv", "Conv", chain.again("x", "q_x"), weight), "q_conv")
    _, found = cut(chain.model("q_conv_real"))
    assert names(found) == ["q_x", "q_conv"]
    part = next(part for part in found.parts if part.results[0].name == "q_conv")
    assert [node.name for node in part.nodes] == ["w_steps", "w", "q_x_real", "conv", "q_conv"]


def test_operators_of_quantized_numbers_are_cut_too() -> None:
    chain = Chain()
    real = chain.again("x", "q_x")
    chain.op("pooled", "MaxPool", "q_x", kernel_shape=[2, 2])
    chain.op("total", "QLinearAdd", *("pooled", "scale", "zero") * 2, "scale", "zero", domain="com.microsoft")
    _, found = cut(chain.model("total", kind=TensorProto.UINT8))
    assert names(found) == ["q_x", "pooled", "total"] and real


def test_dynamic_quantization_is_cut_with_its_scales() -> None:
    chain = Chain()
    chain.op("dynamic", "DynamicQuantizeLinear", "x", outputs=["steps", "found_scale", "found_zero"])
    chain.op("y", "DequantizeLinear", "steps", "found_scale", "found_zero")
    _, found = cut(chain.model("y"))
    assert names(found) == ["steps", "found_scale", "found_zero"]
    done = validate(chain.model("y"), FEEDS, devices=["reference"], layers=True, registry=registry_of())
    assert done.is_good and [layer.output for layer in done.layers] == ["steps", "found_scale", "found_zero", "y"]


def test_random_numbers_and_nested_graphs_are_left_out_and_told() -> None:
    inner = [
        helper.make_node("QuantizeLinear", ["q_x_real", "scale", "zero"], ["inside"], name="inside"),
        helper.make_node("DequantizeLinear", ["inside", "scale", "zero"], ["real_inside"], name="real_inside"),
    ]
    body = helper.make_graph(inner, "body", [], [helper.make_tensor_value_info("real_inside", TensorProto.FLOAT, None)])
    chain = Chain()
    chain.again("x", "q_x")
    chain.constants["always"] = np.array(True)
    chosen = chain.op("chosen", "If", "always", then_branch=body, else_branch=body)
    chain.again(chosen, "q_chosen")
    chain.again(chain.op("noise", "RandomNormalLike", chosen), "q_noise")
    model = chain.model("q_chosen_real")
    found = validate(model, FEEDS, devices=["reference"], layers=True, registry=registry_of())
    assert {layer.output for layer in found.layers} >= {"q_x"}
    assert any("nested graphs are not compared one by one: chosen" in note for note in found.notes)
    assert any("random numbers" in note for note in found.notes)


def test_a_float_model_has_no_quantized_values(tmp_path: Path) -> None:
    chain = Chain()
    chain.op("bytes", "Cast", "x", to=TensorProto.UINT8)
    chain.op("y", "Relu", "x")
    assert cut(chain.model("y"))[1].values == ()
    weights = Chain()
    weights.op("y", "Conv", "x", weights.weight("w", 4, 3, 1, 1))
    assert cut(weights.model("y"))[1].values == ()


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "numbers", "others", "worst"),
    [
        (np.uint8, [0, 255], [255, 0], 255),
        (np.int8, [-128, 127, 5], [127, 127, 6], 255),
        (np.uint16, [65535], [65533], 2),
        (ml_dtypes.int4, [-8, 7], [7, 7], 15),
        (ml_dtypes.float8_e4m3fn, [1.0, -0.0], [1.125, 0.0], 1),
        (ml_dtypes.float8_e5m2, [2.0**-16, 4.0], [-(2.0**-16), 4.0], 2),
    ],
)
def test_steps_are_counted_without_wrapping(dtype: Any, numbers: list[float], others: list[float], worst: int) -> None:
    found = count_steps(np.array(numbers).astype(dtype), np.array(others).astype(dtype))
    assert found.worst == worst and found.elements == len(numbers)
    assert found.is_good == (worst <= 1)

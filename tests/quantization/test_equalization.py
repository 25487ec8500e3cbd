"""Cross-layer equalization leaves a network's function as it is and makes its channels alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mace_core.frontend.load import load_model
from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import Graph
from mace_core.quantization.encodings import fake_quantize, weight_encoding
from mace_core.quantization.equalization import equalize, find_pairs
from mace_core.quantization.grids import Grid
from mace_core.tensor import DType

Array = npt.NDArray[Any]

BETWEEN: dict[str, list[tuple[str, list[str], dict[str, Any]]]] = {
    "nothing": [],
    "Relu": [("Relu", [], {})],
    "LeakyRelu": [("LeakyRelu", [], {"alpha": 0.3})],
    "PRelu": [("PRelu", ["slope"], {})],
    "pools": [
        ("MaxPool", [], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
        ("AveragePool", [], {"kernel_shape": [2, 2]}),
    ],
    "Pad": [("Relu", [], {}), ("Pad", ["amounts"], {})],
    "Clip": [("Clip", ["zero", "six"], {})],
}
LAST = {
    "Conv": ([], {}, (4, 8, 1, 1)),
    "ConvTranspose": ([], {"group": 2}, (8, 2, 2, 2)),
    "Gemm": ([("GlobalAveragePool", [], {}), ("Flatten", [], {})], {}, (8, 5)),
}


def network(between: str, last: str = "Conv", seed: int = 0, group: int = 1, size: float = 1.0) -> Graph:
    """A convolution, one by channels, and a last layer; channels are of very different sizes."""
    generator = np.random.default_rng(seed)
    sizes = size * np.exp(1.5 * generator.normal(size=8))
    before_last, last_attributes, last_shape = LAST[last]
    constants: dict[str, Array] = {
        "w1": generator.normal(size=(8, 6 // group, 3, 3)) * sizes.reshape(8, 1, 1, 1),
        "b1": generator.normal(size=8) * sizes,
        "w2": generator.normal(size=(8, 1, 3, 3)) * np.exp(generator.normal(size=(8, 1, 1, 1))),
        "b2": generator.normal(size=8),
        "w3": generator.normal(size=last_shape),
        "slope": generator.normal(size=(8, 1, 1)),
        "zero": np.zeros(()),
        "six": np.full((), 6.0),
    }
    nodes: list[onnx.NodeProto] = []

    def add(op_type: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op_type, inputs, [f"{op_type}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    value = add("Conv", "x", "w1", "b1", group=group)
    for layer in (("Conv", ["w2", "b2"], {"group": 8, "pads": [1, 1, 1, 1]}), (last, ["w3"], last_attributes)):
        for op_type, more, attributes in BETWEEN[between] + (
            before_last if layer[0] == last and "w3" in layer[1] else []
        ):
            value = add(op_type, value, *more, **attributes)
        op_type, more, attributes = layer
        value = add(op_type, value, *more, **attributes)
    initializers = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    initializers.append(onnx.numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, 0, 2]), "amounts"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6, 9, 9])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        initializers,
    )
    return load_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def run(graph: Graph, x: Array, names: list[str] | None = None) -> list[Array]:
    model = to_onnx(graph)
    for name in names or []:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(names or [graph.outputs[0].name], {"x": x})
    return found


def sample(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(2, 6, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("between", [name for name in BETWEEN if name != "Clip"])
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), group=st.sampled_from([1, 2]))
def test_the_function_stays_and_channels_become_alike(between: str, last: str, seed: int, group: int) -> None:
    graph = network(between, last, seed, group)
    x = sample(seed)
    (expected,) = run(graph, x)
    assert len(find_pairs(graph)) == 2
    totals = equalize(graph)
    assert len(totals) == 2
    assert all(np.abs(np.log(total)).max() > 0.1 for total in totals.values())
    (found,) = run(graph, x)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    first = np.abs(graph.initializers["w1"].constant.numpy()).max(axis=(1, 2, 3))  # type: ignore[union-attr]
    second = np.abs(graph.initializers["w2"].constant.numpy()).max(axis=(1, 2, 3))  # type: ignore[union-attr]
    np.testing.assert_allclose(first, second, rtol=0.02)


def test_uneven_channels_survive_one_scale_for_all_of_them() -> None:
    """What equalization is for: weights of one scale, in 8 bits."""

    def error(graph: Graph) -> float:
        x = sample(1)
        (expected,) = run(graph, x)
        for name in ("w1", "w2", "w3"):
            value = graph.initializers[name]
            assert value.constant is not None
            weights = value.constant.numpy()
            value.constant = type(value.constant).from_numpy(
                fake_quantize(weights, weight_encoding(weights, Grid(DType.INT8, True)))
            )
        (found,) = run(graph, x)
        return float(np.square(found - expected).sum() / np.square(expected).sum())

    plain = error(network("Relu", seed=3))
    graph = network("Relu", seed=3)
    equalize(graph)
    assert error(graph) < 0.25 * plain


def test_a_clip_is_passed_by_channels_that_do_not_reach_it_and_by_no_others() -> None:
    graph = network("Clip", seed=5, size=0.2)
    x = sample(5)
    (expected,) = run(graph, x)
    pairs = find_pairs(graph)
    clipped = [pair.clipped for pair in pairs]
    assert equalize(graph) == {}  # nothing is known of the numbers before the Clip
    before = run(graph, x, [value.name for value in clipped if value is not None])
    largest = {
        value: array.max(axis=(0, 2, 3)) for value, array in zip(clipped, before, strict=True) if value is not None
    }
    assert any((numbers > 6).any() and (numbers < 4).any() for numbers in largest.values())
    totals = equalize(graph, largest)
    for pair in pairs:
        assert pair.clipped is not None
        is_clipped = largest[pair.clipped] >= 6
        assert (totals[pair.first][is_clipped] == 1.0).all()
        assert (totals[pair.first][~is_clipped] != 1.0).any()
    (found,) = run(graph, x)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_what_is_read_elsewhere_is_left_alone() -> None:
    graph = network("Relu")
    graph.outputs.append(graph.nodes[1].outputs[0])  # type: ignore[arg-type]
    assert [pair.first.name for pair in find_pairs(graph)] == [graph.nodes[2].name]
    shared = network("Relu")
    shared.nodes[2].inputs[2] = shared.nodes[0].inputs[2]
    assert find_pairs(shared) == []
    for between, change in (("Pad", [0, 1, 1, 0, 0, 0, 0, 2]), ("Pad", [0, 1, 1, 0, 0, -1, 0, 2])):
        padded = network(between)
        value = padded.initializers["amounts"]
        assert value.constant is not None
        value.constant = type(value.constant).from_numpy(np.array(change))
        assert find_pairs(padded) == []


def test_dead_channels_stay_as_they_are() -> None:
    graph = network("Relu", seed=2)
    value = graph.initializers["w1"]
    assert value.constant is not None
    weights = value.constant.numpy().copy()
    weights[3] = 0
    value.constant = type(value.constant).from_numpy(weights)
    totals = equalize(graph)
    assert all(np.isfinite(total).all() for total in totals.values())
    (found,) = run(graph, sample(2))
    assert np.isfinite(found).all()

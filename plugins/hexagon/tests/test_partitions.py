"""What the HTP declines runs elsewhere, quantized clusters stay whole, and spelled-out operators are found again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hexagon_support import Array, model_of, onnxruntime_outputs, quantized, small_network
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.lowering.engine import Lowering
from mace_hexagon.lowering.table import LOWERINGS
from onnx import TensorProto, helper

from mace_core.errors import StrictPlacementError
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.optimizer import optimize
from mace_core.session import Session
from mace_core.testing.models import sample_image
from mace_core.testing.runner import view_of

pytest.importorskip("onnxruntime", reason="onnxruntime is the reference and the quantizer; it is not installed")

NODE = helper.make_node
F32 = np.float32


def view(model: object, feeds: dict[str, Array]) -> GraphView:
    graph = load_model(model)  # type: ignore[arg-type]
    optimize(graph)
    return view_of(graph, feeds)


def operations(backend: HexagonBackend, seen: GraphView) -> Counter[str]:
    """QNN operations a view becomes."""
    lowering = Lowering(seen, LOWERINGS, backend.check)
    assert not lowering.run().declined
    return Counter(op.type for op in lowering.ops)


def middle_declined() -> object:
    """Tan, which has no translation, between two convolutions."""
    weights = np.random.default_rng(0).uniform(-0.05, 0.05, (4, 4, 3, 3)).astype(F32)
    nodes = [
        NODE("Conv", ["x", "w"], ["a"], name="first", pads=[1, 1, 1, 1]),
        NODE("Tan", ["a"], ["b"], name="middle"),
        NODE("Conv", ["b", "w"], ["y"], name="last", pads=[1, 1, 1, 1]),
    ]
    return model_of(nodes, {"x": (1, 4, 8, 8)}, {"y": (1, 4, 8, 8)}, {"w": weights})


def test_a_declined_middle_runs_elsewhere(library_folder: Path) -> None:
    model = middle_declined()
    feeds = {"x": sample_image((1, 4, 8, 8))}
    with Session(model, devices=["hexagon:v75"], cache=False) as session:
        found = session.run(feeds)["y"]
        text = str(session.explain())
    assert "no translation of Tan" in text
    (expected,) = onnxruntime_outputs(model.SerializeToString(), feeds)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.ptp(expected))


def test_strict_names_the_node_and_the_reason(library_folder: Path) -> None:
    with pytest.raises(StrictPlacementError, match=r"'middle' \(Tan\).*no translation of Tan"):
        Session(middle_declined(), devices=["hexagon:v75"], strict=True, cache=False)


def test_the_librarys_own_reason_reaches_the_user(backend: HexagonBackend) -> None:
    """Six dimensions pass no check of ours here: five are the most this provider hands on."""
    nodes = [NODE("Softmax", ["x"], ["y"], name="soft", axis=0)]
    shape = (2, 1, 1, 1, 1, 3)
    model = model_of(nodes, {"x": shape}, {"y": shape}, {})
    (rejection,) = backend.capability(view(model, {"x": np.zeros(shape, F32)})).rejections
    assert "6 dimensions; the HTP takes up to 5" in rejection.reason


def test_resize_forms_that_the_htp_computes_otherwise_are_spelled_out(library_folder: Path) -> None:
    """To one element with pytorch_half_pixel the first is meant; the HTP takes the middle."""
    x = sample_image((1, 1, 3, 4))
    to_one: dict[str, object] = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    to_fit: dict[str, object] = {"mode": "linear", "keep_aspect_ratio_policy": "not_larger", "axes": [2, 3]}
    for sizes, attributes, result in (
        ([1, 1, 3, 1], to_one, (1, 1, 3, 1)),
        ([6, 9], to_fit, (1, 1, 6, 8)),
    ):
        nodes = [NODE("Resize", ["x", "", "", "sizes"], ["y"], name="resize", **attributes)]
        model = model_of(nodes, {"x": x.shape}, {"y": result}, {"sizes": np.array(sizes, np.int64)})
        model.opset_import[0].version = 18
        with Session(model, devices=["hexagon:v75"], strict=True, cache=False) as session:
            found = session.run({"x": x})["y"]
        (expected,) = onnxruntime_outputs(model.SerializeToString(), {"x": x})
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_averages_over_padding_are_spelled_out(library_folder: Path) -> None:
    """The library's own are wrong, or crash."""
    pool = NODE("AveragePool", ["x"], ["y"], name="pool", kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    model = model_of([pool], {"x": (1, 3, 6, 6)}, {"y": (1, 3, 6, 6)}, {})
    x = sample_image((1, 3, 6, 6))
    with Session(model, devices=["hexagon:v75"], strict=True, cache=False) as session:
        found = session.run({"x": x})["y"]
    (expected,) = onnxruntime_outputs(model.SerializeToString(), {"x": x})
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_scales_of_some_axes_resize_these(backend: HexagonBackend) -> None:
    attributes: dict[str, object] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    attributes |= {"nearest_mode": "floor", "axes": [3, -2]}
    nodes = [NODE("Resize", ["x", "", "scales"], ["y"], name="resize", **attributes)]
    model = model_of(nodes, {"x": (1, 1, 3, 4)}, {"y": (1, 1, 6, 8)}, {"scales": np.array([2, 2], F32)})
    model.opset_import[0].version = 18
    assert not backend.capability(view(model, {"x": np.zeros((1, 1, 3, 4), F32)})).rejections


def test_long_numbers_of_five_axes_are_declined(backend: HexagonBackend) -> None:
    """The library crashes on them."""
    shapes = {"x": (3, 6, 6, 5)}, {"y": (3, 1, 6, 6, 5)}
    model = model_of([NODE("Reshape", ["x", "shape"], ["y"])], *shapes, {"shape": np.array([3, 1, 6, 6, 5], np.int64)})
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.INT64
    (rejection,) = backend.capability(view(model, {"x": np.zeros((3, 6, 6, 5), np.int64)})).rejections
    assert "int64 of 5 dimensions" in rejection.reason


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_are_right_wherever_they_run(mode: str, library_folder: Path) -> None:
    """The library's scheme for the edge gives zeros: that one runs elsewhere."""
    node = NODE("Pad", ["x", "pads"], ["y"], mode=mode)
    pads = np.array([0, 0, 2, 1, 0, 0, 1, 2], np.int64)
    model = model_of([node], {"x": (1, 3, 5, 6)}, {"y": (1, 3, 8, 9)}, {"pads": pads})
    x = sample_image((1, 3, 5, 6))
    with Session(model, devices=["hexagon:v75"], cache=False) as session:
        found = session.run({"x": x})["y"]
    np.testing.assert_allclose(found, np.pad(x, [(0, 0), (0, 0), (2, 1), (1, 2)], mode=mode), atol=1e-3)  # type: ignore[call-overload]


def test_repeating_once_is_no_tile(library_folder: Path) -> None:
    """The library crashes on a Tile of five axes that repeats nothing."""
    shape = (2, 4, 1, 6, 16)
    model = model_of([NODE("Tile", ["x", "times"], ["y"])], {"x": shape}, {"y": shape}, {"times": np.ones(5, np.int64)})
    x = np.random.default_rng(0).random(shape, F32)
    with Session(model, devices=["hexagon:v75"], strict=True, cache=False) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], x, rtol=1e-3)


def test_quantized_clusters_are_atomic(backend: HexagonBackend, tmp_path: Path) -> None:
    shape = (1, 3, 20, 18)
    path = quantized(small_network(), tmp_path, [sample_image(shape)])
    seen = view(str(path), {"x": sample_image(shape)})
    capability = backend.capability(seen)
    assert not capability.rejections
    clusters = [claim for claim in capability.claims if claim.atomic]
    middle = {node.op_type for claim in clusters for node in claim.nodes} - {"QuantizeLinear", "DequantizeLinear"}
    assert {"Conv", "Add", "MaxPool", "GlobalAveragePool", "Gemm"} <= middle
    for claim in clusters:
        kinds = [node.op_type for node in claim.nodes]
        assert kinds[0] == "DequantizeLinear"
        assert kinds[-1] == "QuantizeLinear"


def test_a_quantized_network_computes_in_integers_alone(backend: HexagonBackend, tmp_path: Path) -> None:
    shape = (1, 3, 20, 18)
    path = quantized(small_network(), tmp_path, [sample_image(shape)])
    found = operations(backend, view(str(path), {"x": sample_image(shape)}))
    assert found["Quantize"] == found["Dequantize"] == 1
    assert found["Conv2d"] == 2
    assert found["DepthWiseConv2d"] == 1


def test_an_operator_pinned_elsewhere_leaves_its_conversions_here(library_folder: Path, tmp_path: Path) -> None:
    shape = (1, 3, 20, 18)
    path = str(quantized(small_network(), tmp_path, [sample_image(shape)]))
    feeds = {"x": sample_image(shape)}
    with Session(path, devices=["hexagon:v75"], pins={"Add": "cpu:0"}, cache=False) as session:
        found = next(iter(session.run(feeds).values()))
        elsewhere = [item.node for item in session.explain().nodes if item.device == "cpu:0"]
    assert len(elsewhere) == 1
    (expected,) = onnxruntime_outputs(path, feeds)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.ptp(expected))


def test_layouts_change_at_the_borders_only(backend: HexagonBackend) -> None:
    shape = (1, 3, 20, 18)
    found = operations(backend, view(small_network(), {"x": sample_image(shape)}))
    assert found["Transpose"] == 1  # on the way in; the way out has one element per channel


def test_a_spelled_out_hard_swish_is_one_operation(backend: HexagonBackend) -> None:
    nodes = [
        NODE("Add", ["x", "three"], ["a"], name="a"),
        NODE("Clip", ["a", "zero", "six"], ["b"], name="b"),
        NODE("Mul", ["x", "b"], ["c"], name="c"),
        NODE("Div", ["c", "six"], ["y"], name="d"),
    ]
    constants = {"three": np.array(3, F32), "zero": np.array(0, F32), "six": np.array(6, F32)}
    model = model_of(nodes, {"x": (2, 5)}, {"y": (2, 5)}, constants)
    assert operations(backend, view(model, {"x": np.zeros((2, 5), F32)})) == {"HardSwish": 1}
    check(model, {"x": np.linspace(-5, 5, 10, dtype=F32).reshape(2, 5)})


def test_a_spelled_out_gelu_is_one_operation(backend: HexagonBackend) -> None:
    nodes = [
        NODE("Div", ["x", "root"], ["a"], name="a"),
        NODE("Erf", ["a"], ["b"], name="b"),
        NODE("Add", ["b", "one"], ["c"], name="c"),
        NODE("Mul", ["x", "c"], ["d"], name="d"),
        NODE("Mul", ["d", "half"], ["y"], name="e"),
    ]
    constants = {"root": np.array(np.sqrt(2), F32), "one": np.array(1, F32), "half": np.array(0.5, F32)}
    model = model_of(nodes, {"x": (2, 5)}, {"y": (2, 5)}, constants)
    assert operations(backend, view(model, {"x": np.zeros((2, 5), F32)})) == {"Gelu": 1}
    check(model, {"x": np.linspace(-3, 3, 10, dtype=F32).reshape(2, 5)})


def test_a_spelled_out_layer_norm_is_one_operation(backend: HexagonBackend) -> None:
    nodes = [
        NODE("ReduceMean", ["x"], ["mean"], name="a", axes=[-1]),
        NODE("Sub", ["x", "mean"], ["centered"], name="b"),
        NODE("Pow", ["centered", "two"], ["square"], name="c"),
        NODE("ReduceMean", ["square"], ["variance"], name="d", axes=[-1]),
        NODE("Add", ["variance", "epsilon"], ["shifted"], name="e"),
        NODE("Sqrt", ["shifted"], ["root"], name="f"),
        NODE("Div", ["centered", "root"], ["divided"], name="g"),
        NODE("Mul", ["divided", "gain"], ["scaled"], name="h"),
        NODE("Add", ["scaled", "shift"], ["y"], name="i"),
    ]
    random = np.random.default_rng(0)
    constants = {"two": np.array(2, F32), "epsilon": np.array(1e-5, F32)}
    constants |= {name: random.uniform(0.5, 1.5, 16).astype(F32) for name in ("gain", "shift")}
    model = model_of(nodes, {"x": (2, 3, 16)}, {"y": (2, 3, 16)}, constants)
    feeds = {"x": random.standard_normal((2, 3, 16)).astype(F32)}
    assert operations(backend, view(model, feeds)) == {"LayerNorm": 1}
    check(model, feeds)


def test_a_part_needed_elsewhere_keeps_a_pattern_apart(backend: HexagonBackend) -> None:
    nodes = [
        NODE("MatMul", ["x", "w"], ["product"], name="a"),
        NODE("Add", ["product", "bias"], ["y"], name="b"),
    ]
    constants = {"w": np.ones((4, 6), F32), "bias": np.arange(6, dtype=F32)}
    feeds = {"x": np.ones((2, 4), F32)}
    alone = model_of(nodes, {"x": (2, 4)}, {"y": (2, 6)}, constants)
    assert operations(backend, view(alone, feeds)) == {"FullyConnected": 1}
    shared = model_of(nodes, {"x": (2, 4)}, {"y": (2, 6), "product": (2, 6)}, constants)
    assert operations(backend, view(shared, feeds)) == {"MatMul": 1, "ElementWiseAdd": 1}
    check(shared, feeds)


def test_batch_normalization_is_folded_into_the_convolution(backend: HexagonBackend) -> None:
    random = np.random.default_rng(1)
    nodes = [
        NODE("Conv", ["x", "w", "b"], ["a"], name="a"),
        NODE("BatchNormalization", ["a", "s", "t", "m", "v"], ["c"], name="b"),
        NODE("Relu", ["c"], ["y"], name="c"),
    ]
    constants = {"w": random.uniform(-1, 1, (4, 3, 2, 2)).astype(F32)}
    constants |= {name: random.uniform(0.5, 2, 4).astype(F32) for name in ("b", "s", "t", "m", "v")}
    model = model_of(nodes, {"x": (1, 3, 6, 6)}, {"y": (1, 4, 5, 5)}, constants)
    feeds = {"x": sample_image((1, 3, 6, 6))}
    assert operations(backend, view(model, feeds)).keys() <= {"Conv2d", "Relu", "Transpose"}
    check(model, feeds)


def check(model: object, feeds: dict[str, Array]) -> None:
    """hexagon:v75 alone agrees with onnxruntime."""
    with Session(model, devices=["hexagon:v75"], strict=True, cache=False) as session:
        found = session.run(feeds)
    for array, expected in zip(
        found.values(), onnxruntime_outputs(model.SerializeToString(), feeds), strict=True  # type: ignore[attr-defined]
    ):  # fmt: skip
        np.testing.assert_allclose(array, expected, atol=5e-3 * np.abs(expected).max())

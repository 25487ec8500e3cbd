"""Nodes that no device claims run as what they are made of, where a device claims all of that."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scheduler_models import constant, model, op, tensor
from scheduler_stand_ins import make_provider, registry_of

from mace_core.errors import StrictPlacementError
from mace_core.operators.microsoft.low_bits import unpack_blocks
from mace_core.session import Session

X = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
GELU_PARTS = {"Add", "Sub", "Mul", "Div", "Erf", "Sqrt", "CastLike", "Sum"}


def unary(op_type: str, *, opset: int = 20, dtype: int = TensorProto.FLOAT, **attributes: object) -> onnx.ModelProto:
    node = op(op_type, ["x"], ["y"], **attributes)
    built = model([node], [tensor("x", [3, 4], dtype)], [tensor("y", [3, 4], dtype)], opset=opset)
    built.ir_version = 10
    return built


def reference(built: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(built).run(None, feeds)


def test_the_body_of_a_function_runs_on_the_device_that_claims_its_parts() -> None:
    far = make_provider("far", claims=GELU_PARTS)
    built = unary("Gelu")
    with Session(built, devices=["far"], strict=True, registry=registry_of(far)) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], reference(built, {"x": X})[0], rtol=1e-5, atol=1e-6)
        explanation = session.explain()
    assert {entry.device for entry in explanation.nodes} == {"far:0"}
    assert all(entry.node.startswith("Gelu_y/") for entry in explanation.nodes)
    assert explanation.fallback_count == 0


def test_a_node_whose_parts_are_not_all_claimed_stays_whole() -> None:
    far = make_provider("far", claims=GELU_PARTS - {"Erf"})
    with Session(unary("Gelu"), devices=["far"], registry=registry_of(far)) as session:
        session.run({"x": X})
        assert [entry.node for entry in session.explain().nodes] == ["Gelu_y"]
        assert session.explain().nodes[0].device == "reference:0"
    with pytest.raises(StrictPlacementError, match="Gelu_y"):
        Session(unary("Gelu"), devices=["far"], strict=True, registry=registry_of(far))


def test_a_node_that_is_claimed_whole_is_not_taken_apart() -> None:
    far = make_provider("far", claims=GELU_PARTS | {"Gelu"})
    with Session(unary("Gelu"), devices=["far"], registry=registry_of(far)) as session:
        assert [entry.node for entry in session.explain().nodes] == ["Gelu_y"]


def test_nodes_pinned_to_the_reference_or_on_a_named_reference_run_as_they_are_written() -> None:
    far = make_provider("far", claims=GELU_PARTS)
    for options in ({"devices": ["far"], "pins": {"Gelu": "reference"}}, {"devices": ["far", "reference"]}):
        with Session(unary("Gelu"), registry=registry_of(far), **options) as session:  # type: ignore[arg-type]
            assert [entry.device for entry in session.explain().nodes] == ["reference:0"]


def test_attributes_left_out_take_their_defaults_in_the_body() -> None:
    far = make_provider("far", claims={"Less", "CastLike", "Mul", "Where"})
    for attributes in ({}, {"alpha": 0.3}):
        built = unary("LeakyRelu", opset=16, **attributes)
        with Session(built, devices=["far"], registry=registry_of(far)) as session:
            found = session.run({"x": X})["y"]
            np.testing.assert_allclose(found, reference(built, {"x": X})[0], rtol=1e-6)
            assert {entry.device for entry in session.explain().nodes} == {"far:0"}


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 21])
def test_bodies_serve_models_of_older_opsets(opset: int) -> None:
    pytest.importorskip("mace_cpu", reason="needs the CPU provider")
    node = op("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    outputs = [
        tensor("y", [3, 4], TensorProto.UINT8), tensor("scale", []), tensor("zero", [], TensorProto.UINT8),
    ]  # fmt: skip
    built = model([node], [tensor("x", [3, 4])], outputs, opset=opset)
    with Session(built, devices=["cpu"], strict=True) as session:
        found = session.run({"x": X})
    for value, expected in zip(found.values(), reference(built, {"x": X}), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_half_precision_is_computed_in_float32_between_casts() -> None:
    pytest.importorskip("mace_cpu", reason="needs the CPU provider")
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4).astype(np.float16)
    node = op("AveragePool", ["x"], ["y"], kernel_shape=[2, 2])
    shapes = [tensor("x", [1, 3, 4, 4], TensorProto.FLOAT16)], [tensor("y", [1, 3, 3, 3], TensorProto.FLOAT16)]
    with Session(model([node], *shapes), devices=["cpu"], strict=True) as session:
        found = session.run({"x": x})["y"]
        kinds = [entry.op for entry in session.explain().nodes]
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float32), (2, 2), (2, 3))
    np.testing.assert_allclose(found.astype(np.float32), windows.mean((4, 5)), atol=1e-3)
    assert found.dtype == np.float16
    assert kinds == ["Cast", "AveragePool", "Cast"]


def test_widening_leaves_wide_results_wide() -> None:
    pytest.importorskip("mace_cpu", reason="needs the CPU provider")
    node = op("TopK", ["x", "k"], ["v", "i"])
    outputs = [tensor("v", [3, 2], TensorProto.FLOAT16), tensor("i", [3, 2], TensorProto.INT64)]
    built = model([node], [tensor("x", [3, 4], TensorProto.FLOAT16)], outputs, [constant("k", np.array([2]))])
    with Session(built, devices=["cpu"], strict=True) as session:
        found = session.run({"x": X.astype(np.float16)})
    assert found["v"].dtype == np.float16 and found["i"].dtype == np.int64
    np.testing.assert_array_equal(found["i"], [[3, 2]] * 3)


def test_shapes_that_differ_are_expanded_each_for_itself() -> None:
    far = make_provider("far", claims=GELU_PARTS)
    built = model([op("Gelu", ["x"], ["t"]), op("Neg", ["t"], ["y"])], [tensor("x", ["n", 4])], [tensor("y", ["n", 4])])
    built.opset_import[0].version = 20
    with Session(built, devices=["far"], registry=registry_of(far)) as session:
        for x in (X, X[:1], X):
            np.testing.assert_allclose(session.run({"x": x})["y"], reference(built, {"x": x})[0], rtol=1e-5, atol=1e-6)
            assert session.explain().nodes_per_device == {"far:0": 9, "reference:0": 1}


def test_results_without_elements_are_there_without_being_computed() -> None:
    far = make_provider("far", claims={"Relu"})

    def erf(rows: int) -> onnx.ModelProto:
        x, y = tensor("x", [rows, 4]), tensor("y", [rows, 4])
        return model([op("Erf", ["x"], ["y"])], [x], [y], opset=20)

    with Session(erf(0), devices=["far"], strict=True, registry=registry_of(far)) as session:
        np.testing.assert_array_equal(session.run({"x": X[:0]})["y"], X[:0], strict=True)
    with pytest.raises(StrictPlacementError, match="Erf"):
        Session(erf(3), devices=["far"], strict=True, registry=registry_of(far))


def test_a_body_inside_a_branch() -> None:
    far = make_provider("far", claims=GELU_PARTS)
    branches = {}
    for name, inner in (("then_branch", "Gelu"), ("else_branch", "Neg")):
        nodes = [helper.make_node(inner, ["x"], [f"{name}_y"], name=f"{name}_{inner}")]
        branches[name] = helper.make_graph(nodes, name, [], [tensor(f"{name}_y", [3, 4])])
    node = helper.make_node("If", ["c"], ["y"], name="if", **branches)
    built = model([node], [tensor("x", [3, 4]), tensor("c", [], TensorProto.BOOL)], [tensor("y", [3, 4])], opset=20)
    built.ir_version = 10
    with Session(built, devices=["far"], registry=registry_of(far)) as session:
        for c in (True, False):
            feeds = {"x": X, "c": np.array(c)}
            np.testing.assert_allclose(session.run(feeds)["y"], reference(built, feeds)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights_are_unpacked_lowest_bits_first(bits: int) -> None:
    rng = np.random.default_rng(bits)
    rows, columns, block = 20, 3, 16
    numbers = rng.integers(0, 1 << bits, (columns, 2, block))
    packed = np.zeros((columns, 2, block * bits // 8), np.uint8)
    for i in range(block):
        packed[..., i * bits // 8] |= (numbers[..., i] << (i * bits % 8)).astype(np.uint8)
    scales = rng.random((columns, 2)).astype(np.float32)
    found = unpack_blocks(packed, scales.reshape(-1), None, rows=rows, columns=columns, bits=bits, block=block)
    for row in range(rows):
        expected = (numbers[:, row // block, row % block] - (1 << (bits - 1))) * scales[:, row // block]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)


def test_rows_that_were_sorted_before_packing_take_scale_and_zero_point_of_the_block_they_name() -> None:
    rng = np.random.default_rng(0)
    packed, scales = rng.integers(0, 256, (3, 2, 8), np.uint8), rng.uniform(0.5, 1, (3, 2)).astype(np.float32)
    zeros = rng.uniform(0, 15, (3, 2)).astype(np.float32)
    layout = {"rows": 32, "columns": 3, "bits": 4, "block": 16}
    plain = unpack_blocks(packed, scales, zeros, **layout)
    same = unpack_blocks(packed, scales, zeros, **layout, groups=np.arange(32) // 16)
    np.testing.assert_array_equal(same, plain)
    swapped = unpack_blocks(packed, scales[:, ::-1], zeros[:, ::-1], **layout, groups=1 - np.arange(32) // 16)
    np.testing.assert_array_equal(swapped, plain)


def test_the_first_device_runs_a_function_in_pieces_though_one_behind_it_takes_it_whole() -> None:
    far, near = make_provider("far", claims=GELU_PARTS), make_provider("near", claims={"Gelu"})
    with Session(unary("Gelu"), devices=["far", "near"], registry=registry_of(far, near)) as session:
        np.testing.assert_allclose(
            session.run({"x": X})["y"], reference(unary("Gelu"), {"x": X})[0], rtol=1e-5, atol=1e-6
        )
        assert set(session.explain().nodes_per_device) == {"far:0"}
    with Session(unary("Gelu"), devices=["near", "far"], registry=registry_of(far, near)) as session:
        assert session.explain().nodes_per_device == {"near:0": 1}

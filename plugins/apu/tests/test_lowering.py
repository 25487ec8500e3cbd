"""Operators of real numbers as Neuron operations: which, with which operands in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from lowering_support import LATEST, Array, lowered, node, numbers, only, operations, reason
from mace_apu.lowering.engine import lower
from mace_apu.neuron.constants import Fuse, OperandCode, Operation
from onnx import TensorProto

from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.optimizer import optimize
from mace_core.testing import models
from mace_core.testing.runner import view_of

FLOAT = OperandCode.TENSOR_FLOAT32


def weights(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_convolution_has_its_operands_in_the_order_of_the_interface() -> None:
    w = weights(5, 3, 3, 2)
    found = lowered(
        [node("Conv", ["x", "w"], pads=[1, 2, 3, 4], strides=[2, 1], dilations=[1, 2])], (1, 3, 8, 9), {"w": w}
    )
    call = only(found, Operation.CONV_2D)
    x, filters, bias, *scalars = call.inputs
    assert (x.shape, x.code) == ((1, 8, 9, 3), FLOAT)
    np.testing.assert_array_equal(filters.data, w.transpose(0, 2, 3, 1))
    assert (bias.shape, bias.code, numbers([bias])) == ((5,), FLOAT, [[0.0] * 5])
    left, right, top, bottom = 2, 4, 1, 3
    across, down = 1, 2
    assert numbers(scalars) == [left, right, top, bottom, across, down, Fuse.NONE, False, 2, 1]
    assert [scalar.code for scalar in scalars] == [OperandCode.INT32] * 7 + [OperandCode.BOOL] + [OperandCode.INT32] * 2


def test_a_depthwise_convolution_tells_its_multiplier() -> None:
    w = weights(6, 1, 3, 3)
    call = only(lowered([node("Conv", ["x", "w"], group=3)], (1, 3, 8, 8), {"w": w}), Operation.DEPTHWISE_CONV_2D)
    np.testing.assert_array_equal(call.inputs[1].data, w.transpose(1, 2, 3, 0))
    assert numbers(call.inputs[9:]) == [2, Fuse.NONE, False, 1, 1]


def test_a_grouped_convolution_tells_its_groups_and_takes_no_dilations() -> None:
    w = {"w": weights(4, 2, 3, 3)}
    call = only(lowered([node("Conv", ["x", "w"], group=2)], (1, 4, 8, 8), w), Operation.GROUPED_CONV_2D)
    assert numbers(call.inputs[9:]) == [2, Fuse.NONE, False]
    assert "dilations" in reason(lowered([node("Conv", ["x", "w"], group=2, dilations=[2, 2])], (1, 4, 8, 8), w))


def test_a_convolution_over_one_dimension_is_one_over_a_row() -> None:
    found = lowered([node("Conv", ["x", "w"], pads=[1, 2])], (2, 3, 9), {"w": weights(5, 3, 3)})
    call = only(found, Operation.CONV_2D)
    assert (call.inputs[0].shape, call.inputs[1].shape) == ((2, 1, 9, 3), (5, 1, 3, 3))
    assert numbers(call.inputs[3:7]) == [1, 2, 0, 0]


def test_output_padding_is_less_padding_behind() -> None:
    w = weights(3, 4, 3, 3)
    attributes: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [0, 1]}
    call = only(lowered([node("ConvTranspose", ["x", "w"], **attributes)], (1, 3, 5, 5), {"w": w}),
                Operation.TRANSPOSE_CONV_2D)  # fmt: skip
    np.testing.assert_array_equal(call.inputs[1].data, w.transpose(1, 2, 3, 0))
    assert numbers(call.inputs[3:]) == [1, 0, 1, 1, 2, 2, Fuse.NONE, False]
    beyond = lowered([node("ConvTranspose", ["x", "w"], strides=[2, 2], output_padding=[1, 1])], (1, 3, 5, 5), {"w": w})
    assert "negative padding" in reason(beyond)


@pytest.mark.parametrize(
    ("activation", "constants", "code"),
    [
        (node("Relu", ["r"]), {}, Fuse.RELU),
        (node("Clip", ["r", "low", "high"]), {"low": np.float32(0), "high": np.float32(6)}, Fuse.RELU6),
        (node("Clip", ["r", "low", "high"]), {"low": np.float32(-1), "high": np.float32(1)}, Fuse.RELU1),
    ],
)
def test_an_activation_behind_is_fused(activation: onnx.NodeProto, constants: dict[str, Array], code: Fuse) -> None:
    held = {"w": weights(5, 3, 1, 1), **{name: np.asarray(array) for name, array in constants.items()}}
    found = lowered([node("Conv", ["x", "w"], ["r"]), activation], (1, 3, 4, 4), held)
    assert numbers(only(found, Operation.CONV_2D).inputs[9:10]) == [code]
    assert {each.op_type for claim in found.claims for each in claim.nodes} == {"Conv", activation.op_type}


def test_an_activation_whose_operand_is_needed_too_is_not_fused() -> None:
    nodes = [node("Conv", ["x", "w"], ["r"]), node("Relu", ["r"], ["a"]), node("Add", ["a", "r"])]
    found = lowered(nodes, (1, 3, 4, 4), {"w": weights(3, 3, 1, 1)})
    assert operations(found)[1:4] == [Operation.CONV_2D, Operation.RELU, Operation.ADD]


def test_other_bounds_are_a_maximum_and_a_minimum() -> None:
    held = {"low": np.asarray(np.float32(-2)), "high": np.asarray(np.float32(3))}
    found = lowered([node("Clip", ["x", "low", "high"])], (2, 3), held)
    assert operations(found) == [Operation.MAXIMUM, Operation.MINIMUM]


def test_layouts_are_converted_at_the_borders_alone() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Sigmoid", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2]),
        node("Mul", ["c", "s"], ["d"]),
        node("Concat", ["d", "c"], ["y"], axis=1),
    ]
    held = {"w": weights(3, 3, 1, 1), "s": weights(1, 3, 1, 1)}
    found = lowered(nodes, (1, 3, 6, 5), held)
    kinds = operations(found)
    assert kinds.count(Operation.TRANSPOSE) == 2
    assert (kinds[0], kinds[-1]) == (Operation.TRANSPOSE, Operation.TRANSPOSE)
    assert numbers(only(found, Operation.CONCATENATION).inputs[2:]) == [3]


def test_a_transposition_is_another_view_of_its_operand() -> None:
    nodes = [node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]), node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
             node("Relu", ["b"])]  # fmt: skip
    assert operations(lowered(nodes, (1, 3, 6, 5))) == [Operation.RELU]


def test_axes_of_length_one_make_room_for_five_dimensions() -> None:
    nodes = [node("Reshape", ["x", "s"], ["a"]), node("Transpose", ["a"], ["b"], perm=[2, 0, 3, 1, 4]),
             node("Relu", ["b"], ["c"]), node("Squeeze", ["c", "one"])]  # fmt: skip
    held = {"s": np.array([1, 4, 3, 2, 5]), "one": np.array([1])}
    found = lowered(nodes, (1, 4, 30), held)
    assert all(len(operand.shape) <= 4 for call in found.network.calls for operand in (*call.inputs, *call.outputs))
    assert found.network.outputs[0].shape == (3, 2, 4, 5)
    full = lowered([node("Reshape", ["x", "s"])], (2, 4, 30), {"s": np.array([2, 4, 3, 2, 5])})
    assert "5 dimensions" in reason(full)


def test_products_of_matrices() -> None:
    w = weights(3, 5)
    call = only(lowered([node("Gemm", ["x", "w"])], (2, 3), {"w": w}), Operation.FULLY_CONNECTED)
    np.testing.assert_array_equal(call.inputs[1].data, w.T)
    assert (numbers(call.inputs[2:]), call.outputs[0].shape) == ([[0.0] * 5, Fuse.NONE], (2, 5))
    pair = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"])]
    call = only(lowered(pair, (2, 3, 4)), Operation.BATCH_MATMUL)
    assert ([operand.shape for operand in call.inputs[:2]], numbers(call.inputs[2:])) == (
        [(2, 3, 4), (2, 4, 3)], [False, False],
    )  # fmt: skip


def test_an_operation_that_the_version_does_not_have_is_declined() -> None:
    pair = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"])]
    assert (
        reason(lowered(pair, (2, 3, 4), version=(5, 1, 1))) == "BATCH_MATMUL needs Neuron 5.1.2, this library is 5.1.1"
    )
    assert not lowered(pair, (2, 3, 4), version=(5, 1, 2)).declined


def test_reductions_keep_dimensions_by_a_number_or_a_truth_value() -> None:
    mean = only(lowered([node("ReduceMean", ["x"], axes=[-1], keepdims=0)], (2, 3, 4)), Operation.MEAN)
    assert (numbers(mean.inputs[1:]), mean.inputs[2].code) == ([[2], 0], OperandCode.INT32)
    most = only(lowered([node("ReduceMax", ["x"], axes=[1], keepdims=1)], (2, 3, 4)), Operation.REDUCE_MAX)
    assert (numbers(most.inputs[1:]), most.inputs[2].code) == ([[1], True], OperandCode.BOOL)


def test_a_slice_backwards_to_the_first_element_has_no_end() -> None:
    held = {"start": np.array([-1]), "end": np.array([-100]), "axis": np.array([1]), "step": np.array([-2])}
    call = only(lowered([node("Slice", ["x", *held])], (2, 5), held), Operation.STRIDED_SLICE)
    begin, end, strides, begin_mask, end_mask, shrink = numbers(call.inputs[1:])
    assert (begin, end, strides) == ([0, 4], [2, 0], [1, -2])
    assert (begin_mask, end_mask, shrink) == (0, 0b10, 0)
    held = {"start": np.array([1]), "end": np.array([4])}
    call = only(lowered([node("Slice", ["x", *held])], (5, 2), held), Operation.SLICE)
    assert numbers(call.inputs[1:]) == [[1, 0], [3, 2]]


@pytest.mark.parametrize(
    ("attributes", "flags"),
    [
        ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, [False, False]),
        ({"mode": "nearest"}, [False, False]),
        ({"mode": "linear"}, [False, True]),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, [True, False]),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, [False, False]),
    ],
)
def test_coordinates_of_resizing_are_flags(attributes: dict[str, str], flags: list[bool]) -> None:
    held = {"s": np.array([1, 1, 2, 3], np.float32)}
    found = lowered([node("Resize", ["x", "", "s"], **attributes)], (1, 2, 4, 5), held)
    kind = Operation.RESIZE_BILINEAR if attributes["mode"] == "linear" else Operation.RESIZE_NEAREST_NEIGHBOR
    assert numbers(only(found, kind).inputs[1:]) == [15, 8, False, *flags]


def test_resizing_to_less_takes_the_elements_at_the_centres() -> None:
    held = {"s": np.array([1, 1, 1 / 3, 1 / 3], np.float32)}
    found = lowered([node("Resize", ["x", "", "s"], nearest_mode="round_prefer_ceil")], (1, 2, 6, 9), held)
    assert numbers(only(found, Operation.RESIZE_NEAREST_NEIGHBOR).inputs[1:]) == [3, 2, False, False, True]


def test_resizing_that_takes_other_elements_is_declined() -> None:
    held = {"s": np.array([1, 1, 2, 2], np.float32)}
    nodes = [node("Resize", ["x", "", "s"], mode="nearest", nearest_mode="ceil")]
    assert "takes elements here" in reason(lowered(nodes, (1, 2, 4, 5), held))


def test_softmax_tells_factor_and_axis() -> None:
    call = only(lowered([node("Softmax", ["x"], axis=1)], (2, 3, 4)), Operation.SOFTMAX)
    assert (numbers(call.inputs[1:]), call.inputs[1].code) == ([1.0, 1], OperandCode.FLOAT32)
    rows = only(lowered([node("Softmax", ["x"], axis=1)], (2, 3, 4), opset=11), Operation.SOFTMAX)
    assert rows.inputs[0].shape == (2, 12)


def test_an_average_that_counts_padding_pads_first() -> None:
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    counting = lowered([node("AveragePool", ["x"], count_include_pad=1, **attributes)], (1, 2, 6, 6))
    pad, pool = only(counting, Operation.PAD_V2), only(counting, Operation.AVERAGE_POOL_2D)
    assert numbers(pad.inputs[1:]) == [[[0, 0], [1, 1], [1, 1], [0, 0]], 0.0]
    assert numbers(pool.inputs[1:5]) == [0, 0, 0, 0]
    plain = only(lowered([node("AveragePool", ["x"], **attributes)], (1, 2, 6, 6)), Operation.AVERAGE_POOL_2D)
    assert numbers(plain.inputs[1:5]) == [1, 1, 1, 1]


def test_positions_are_int32_inside() -> None:
    found = lowered([node("ArgMax", ["x"], axis=1, keepdims=1)], (2, 3, 4), outputs={"y": TensorProto.INT64})
    assert operations(found) == [Operation.ARGMAX, Operation.EXPAND_DIMS]
    assert (found.network.outputs[0].code, found.network.outputs[0].shape) == (OperandCode.TENSOR_INT32, (2, 1, 4))


def test_spelled_out_hard_swish_is_one_operation() -> None:
    nodes = [node("HardSigmoid", ["x"], ["g"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "g"])]
    assert operations(lowered(nodes, (2, 3))) == [Operation.HARD_SWISH]
    held = {name: np.asarray(np.float32(number)) for name, number in (("3", 3), ("0", 0), ("6", 6))}
    nodes = [node("Add", ["x", "3"], ["a"]), node("Clip", ["a", "0", "6"], ["b"]), node("Mul", ["x", "b"], ["c"]),
             node("Div", ["c", "6"])]  # fmt: skip
    assert operations(lowered(nodes, (2, 3), held)) == [Operation.HARD_SWISH]


def test_what_declined_nodes_make_and_read_are_borders() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Erf", ["a"], ["b"]), node("Neg", ["b"])]
    found = lowered(nodes, (2, 3), claims_only=True)
    assert reason(found) == "the APU provider has no translation of Erf to Neuron"
    assert [operand.name for operand in found.network.inputs] == ["x", "b"]
    assert [operand.name for operand in found.network.outputs] == ["y", "a"]


def test_numbers_beyond_half_precision_are_declined_where_it_is_used() -> None:
    from lowering_support import model_of

    view = view_of(load_model(model_of([node("Add", ["x", "c"])], (2, 3), {"c": np.array([1e9], np.float32)})),
                   {"x": np.zeros((2, 3), np.float32)})  # fmt: skip
    assert "float16" in reason(lower(view, LATEST, float16=True))
    assert not lower(view, LATEST).declined


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mobilenet_v2", (1, 3, 224, 224)),
        ("resnet50", (1, 3, 224, 224)),
        ("fsrcnn", (1, 1, 720, 1280)),
        ("PP_OCR_DET", (1, 3, 160, 160)),
        ("PP_OCR_REC", (1, 3, 48, 160)),
    ],
)
def test_whole_networks_are_taken(name: str, shape: tuple[int, ...]) -> None:
    found = getattr(models, name)
    try:
        source = str(models.find_packaged_model(*found)) if isinstance(found, tuple) else found().SerializeToString()
    except UsageError as error:
        pytest.skip(str(error))
    graph = load_model(source)
    optimize(graph)
    lowered_network = lower(view_of(graph, {graph.inputs[0].name: np.zeros(shape, np.float32)}), LATEST)
    assert not lowered_network.declined
    assert {each for claim in lowered_network.claims for each in claim.nodes} == set(graph.nodes)

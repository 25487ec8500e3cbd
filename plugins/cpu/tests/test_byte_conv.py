"""Convolutions of bytes: exact sums, the requantization of onnxruntime, in every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from exact_convolutions import exact_sums, given_inputs, requantized
from harness import BYTE_FEATURES, Ran, ask_onnxruntime, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.quantized.integer_form import INTEGERS
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]

MASKS = BYTE_FEATURES
NAMES = ("x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias")


def check_conv(inputs: dict[str, Array], attributes: dict[str, Any], **how: Any) -> Ran:
    """Run a QLinearConv whose operands but the first are known, and compare with the definition."""
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], attributes)
    constants = [name for name in inputs if name != "x"]
    return check_node(
        "QLinearConv", inputs, attributes, expected=[requantized(sums, inputs)], constants=constants, **how
    )


@given(
    batch=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    per_in=st.integers(1, 20),
    per_out=st.integers(1, 70),
    size=st.tuples(st.integers(1, 9), st.integers(1, 17)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    types=st.tuples(*[st.sampled_from(["uint8", "int8"])] * 3),
    per_channel=st.booleans(),
    bias=st.sampled_from(["int32", ""]),
    zeros=st.sampled_from([None, (0, 0), (127, 127)]),
    threads=st.integers(1, 2),
    features=st.sampled_from(MASKS),
    seed=st.integers(0, 99),
)
@settings(max_examples=150)
def test_results_are_those_of_the_definition(
    batch: int,
    groups: int,
    per_in: int,
    per_out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    types: tuple[str, str, str],
    per_channel: bool,
    bias: str,
    zeros: tuple[int, int] | None,
    threads: int,
    features: Any,
    seed: int,
) -> None:
    spans = [(kernel[i] - 1) * dilations[i] + 1 for i in range(2)]
    size = (max(size[0], spans[0] - pads[0] - pads[2]), max(size[1], spans[1] - pads[1] - pads[3]))
    x_shape, w_shape = (batch, groups * per_in, *size), (groups * per_out, per_in, *kernel)
    inputs = given_inputs(
        np.random.default_rng(seed), x_shape, w_shape, types, per_channel=per_channel, bias=bias, zeros=zeros
    )
    attributes: dict[str, Any] = {"group": groups, "strides": strides, "dilations": dilations, "pads": pads}
    check_conv(inputs, attributes, features=features, threads=threads)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "attributes"),
    [
        ((1, 64, 14, 14), (64, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 256, 7, 7), (512, 256, 1, 1), {}),
        ((1, 3, 30, 30), (32, 3, 7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
        ((2, 40, 9, 9), (24, 40, 1, 1), {"strides": [2, 2]}),
        ((1, 32, 12, 12), (32, 4, 3, 3), {"pads": [1, 1, 1, 1], "group": 8}),
        ((1, 24, 200), (40, 24, 9), {"pads": [4, 4]}),
    ],
    ids=["3x3", "1x1", "stem", "strided", "groups", "one axis"],
)
def test_layers_agree_with_onnxruntime(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any], features: str | None
) -> None:
    inputs = given_inputs(np.random.default_rng(1), x_shape, w_shape)
    ran = check_node(
        "QLinearConv",
        inputs,
        attributes,
        constants=[name for name in inputs if name != "x"],
        oracle="onnxruntime",
        features=features,
        threads=2,
    )
    assert ran.steps[0] == "ToChannelsLast"


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("extreme", ["least", "most"])
def test_extreme_numbers_do_not_saturate_on_the_way(extreme: str, features: str | None) -> None:
    for x_type in ("uint8", "int8"):
        inputs = given_inputs(np.random.default_rng(2), (1, 64, 4, 4), (5, 64, 3, 3), (x_type, "int8", "uint8"))
        held = np.iinfo(x_type)
        inputs["x"][:] = held.min if extreme == "least" else held.max
        inputs["x_zero"] = np.array(held.max if extreme == "least" else held.min, x_type)
        for weight in (-128, 127):
            inputs["w"][:] = weight
            inputs["y_scale"] = np.float32(10.0)
            check_conv(inputs, {"pads": [1, 1, 1, 1]}, features=features)


def test_sums_that_leave_int32_when_scaled_saturate() -> None:
    inputs = given_inputs(np.random.default_rng(3), (1, 64, 3, 3), (8, 64, 3, 3), bias="")
    inputs["w_scale"] = np.full(8, 1e6, np.float32)
    inputs["y_scale"] = np.float32(1e-3)
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], {})
    wanted = np.where(sums > 0, 255, np.where(sums < 0, 0, inputs["y_zero"])).astype(np.uint8)
    constants = [name for name in inputs if name != "x"]
    check_node("QLinearConv", inputs, {}, expected=[wanted], constants=constants)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("converted", [False, True])
def test_integer_convolutions_are_exact(converted: bool, features: str | None) -> None:
    generator = np.random.default_rng(4)
    x = generator.integers(0, 255, (2, 20, 9, 11), np.uint8, endpoint=True)
    w = generator.integers(-128, 127, (37, 20, 3, 3), np.int8, endpoint=True)
    zero = np.array(117, np.uint8)
    attributes = {"pads": [1, 0, 2, 1], "strides": [2, 1]}
    sums = exact_sums(x, w, 117, np.zeros(1), attributes)
    nodes = [helper.make_node("ConvInteger", ["x", "w", "zero"], ["sums"], name="conv", **attributes)]
    found = {"sums": sums.astype(np.int32), "y": sums.astype(np.float32)}
    if converted:
        nodes.append(helper.make_node("Cast", ["sums"], ["y"], name="cast", to=onnx.TensorProto.FLOAT))
    outputs = ["y" if converted else "sums"]
    inputs = {"x": x, "w": w, "zero": zero}
    check_nodes(
        nodes,
        inputs,
        outputs,
        constants=("w", "zero"),
        features=features,
        threads=2,
        oracle=lambda model, feeds: [found[output] for node in nodes for output in node.output],
    )


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("x_type", ["uint8", "int8"])
@pytest.mark.parametrize(("channels", "out", "groups"), [(8, 6, 1), (20, 70, 1), (8, 6, 2)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_may_be_far_from_their_zero_points(
    x_type: str, channels: int, out: int, groups: int, per_channel: bool, features: str | None
) -> None:
    generator = np.random.default_rng(5)
    shape = (out, channels // groups, 3, 3)
    for w_type in ("uint8", "int8"):
        inputs = given_inputs(generator, (2, channels, 6, 7), shape, (x_type, w_type, "uint8"))
        held = np.iinfo(w_type)
        zeros = generator.integers(held.min, held.max, out if per_channel else 1, w_type, endpoint=True)
        inputs["w_zero"] = zeros
        check_conv(inputs, {"pads": [1, 0, 2, 1], "group": groups}, features=features, threads=2)


def test_onnxruntime_computes_the_definition() -> None:
    inputs = given_inputs(np.random.default_rng(6), (1, 6, 8, 8), (7, 6, 3, 3))
    node = helper.make_node("QLinearConv", list(NAMES), ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, inputs["x"].shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, None)],
        [numpy_helper.from_array(inputs[name], name) for name in NAMES[1:]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (found,) = ask_onnxruntime(model, {"x": inputs["x"]})
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], {"pads": [1, 1, 1, 1]})
    np.testing.assert_array_equal(found, requantized(sums, inputs))


@given(
    batch=st.integers(1, 2),
    channels=st.integers(2, 150),
    size=st.tuples(st.integers(1, 9), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    types=st.tuples(*[st.sampled_from(["uint8", "int8"])] * 3),
    threads=st.integers(1, 2),
    features=st.sampled_from(MASKS),
    seed=st.integers(0, 99),
)
@settings(max_examples=100)
def test_depthwise_results_are_those_of_the_definition(
    batch: int,
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    types: tuple[str, str, str],
    threads: int,
    features: Any,
    seed: int,
) -> None:
    spans = [(kernel[i] - 1) * dilations[i] + 1 for i in range(2)]
    size = (max(size[0], spans[0] - pads[0] - pads[2]), max(size[1], spans[1] - pads[1] - pads[3]))
    inputs = given_inputs(np.random.default_rng(seed), (batch, channels, *size), (channels, 1, *kernel), types)
    attributes: dict[str, Any] = {"group": channels, "strides": strides, "dilations": dilations, "pads": pads}
    check_conv(inputs, attributes, features=features, threads=threads)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride"),
    [(64, 20, 3, 1), (96, 19, 3, 2), (144, 14, 5, 1), (33, 9, 7, 2), (16, 30, 3, 1)],
)
def test_depthwise_layers_agree_with_onnxruntime(
    channels: int, size: int, kernel: int, stride: int, features: str | None
) -> None:
    inputs = given_inputs(np.random.default_rng(7), (1, channels, size, size), (channels, 1, kernel, kernel))
    attributes = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": channels}
    constants = [name for name in inputs if name != "x"]
    check_node(
        "QLinearConv", inputs, attributes, constants=constants, oracle="onnxruntime", features=features, threads=2
    )


def following_nodes(kinds: str, types: list[str], channels: int, zeros: list[int], bounded: bool) -> Any:
    """A convolution with sums ("a") and tables ("t") after it: nodes, constants, other operands' names."""
    generator = np.random.default_rng(8)
    nodes, constants, others = [], {}, []
    held = "y"
    for i, kind in enumerate(kinds):
        result = f"z{i}"
        if kind == "t":
            constants[f"table{i}"] = generator.integers(0, 255, 256, np.uint8, endpoint=True).view(types[i])
            nodes.append(helper.make_node("Table", [held, f"table{i}"], [result], domain=INTEGERS, name=f"n{i}"))
        else:
            others.append(f"other{i}")
            numbers = {"own": (0.031, zeros[i]), "its": (0.017, 120), "sum": (0.04, 90)}
            for name, (scale, zero) in numbers.items():
                constants[f"{name}_scale{i}"] = np.float32(scale)
                constants[f"{name}_zero{i}"] = np.array(zero, types[i - 1] if name == "own" and i else types[i])
            own, its = ([held, f"own_scale{i}", f"own_zero{i}"], [f"other{i}", f"its_scale{i}", f"its_zero{i}"])
            operands = [*own, *its] if i % 2 == 0 else [*its, *own]
            attributes = {"minimum": 95, "maximum": 120} if bounded else {}
            inputs = [*operands, f"sum_scale{i}", f"sum_zero{i}"]
            nodes.append(helper.make_node("QLinearAdd", inputs, [result], domain=INTEGERS, name=f"n{i}", **attributes))
        held = result
    return nodes, constants, others


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("kinds", ["t", "a", "at", "ta", "aa", "ttat"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "attributes"),
    [
        ((1, 16, 9, 9), (64, 16, 3, 3), {}),
        ((1, 5, 6, 7), (21, 5, 1, 1), {}),
        ((1, 40, 8, 8), (40, 1, 3, 3), {"group": 40}),
    ],
    ids=["3x3", "1x1", "depthwise"],
)
@pytest.mark.parametrize("bounded", [False, True])
def test_what_follows_computes_what_separate_nodes_do(
    kinds: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    attributes: dict[str, Any],
    bounded: bool,
    features: str | None,
) -> None:
    generator = np.random.default_rng(9)
    inputs = given_inputs(generator, x_shape, w_shape)
    zeros = [int(inputs["y_zero"])] + [90] * len(kinds)
    nodes, constants, others = following_nodes(kinds, ["uint8"] * len(kinds), w_shape[0], zeros, bounded)
    bounds = {"minimum": 20, "maximum": 200} if bounded else {}
    conv = helper.make_node("QLinearConv", list(inputs), ["y"], name="conv", domain=INTEGERS, **attributes, **bounds)
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], attributes)
    held = requantized(sums, inputs, *bounds.values())
    found = {"y": held}
    everything = {**inputs, **constants}
    for i, kind in enumerate(kinds):
        if kind == "t":
            held = constants[f"table{i}"][held]
        else:
            other = generator.integers(0, 255, held.shape, np.uint8, endpoint=True)
            everything[f"other{i}"] = other
            factors = {
                name: (np.float32(constants[f"{name}_scale{i}"]) / np.float32(constants[f"sum_scale{i}"]))
                for name in ("own", "its")
            }
            own = (held.astype(np.float32) - np.float32(constants[f"own_zero{i}"])) * factors["own"]
            its = (other.astype(np.float32) - np.float32(120)) * factors["its"]
            whole = np.rint(own + its) + 90
            held = whole.clip(95, 120).astype(np.uint8) if bounded else whole.clip(0, 255).astype(np.uint8)
        found[f"z{i}"] = held
    last = f"z{len(kinds) - 1}"
    ran = check_nodes(
        [conv, *nodes],
        everything,
        [last],
        constants=[name for name in everything if name != "x" and name not in others],
        features=features,
        threads=2,
        oracle=lambda model, feeds: [found[output] for node in model.graph.node for output in node.output],
    )
    fused = "+".join(["QLinearConv", *("Table" if kind == "t" else "QLinearAdd" for kind in kinds)])
    assert fused in ran.steps, ran.steps


@given(
    batch=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 2]),
    per_in=st.integers(1, 12),
    per_out=st.integers(1, 20),
    size=st.tuples(st.integers(1, 6), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    types=st.tuples(*[st.sampled_from(["uint8", "int8"])] * 3),
    bias=st.sampled_from(["int32", "float32", ""]),
    threads=st.integers(1, 2),
    features=st.sampled_from(MASKS),
    seed=st.integers(0, 99),
)
@settings(max_examples=80)
def test_transposed_results_are_those_of_the_definition(
    batch: int,
    groups: int,
    per_in: int,
    per_out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    types: tuple[str, str, str],
    bias: str,
    threads: int,
    features: Any,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    out = groups * per_out
    full = [(size[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(2)]
    if any(full[i] - pads[i] - pads[2 + i] < 1 for i in range(2)):
        pads = (0, 0, 0, 0)
    inputs = given_inputs(generator, (batch, groups * per_in, *size), (out, per_in, *kernel), types, bias=bias)
    weights = inputs["w"]
    grouped = weights.reshape(groups, per_out, per_in, *kernel).swapaxes(1, 2)
    inputs["w"] = np.ascontiguousarray(grouped.reshape(groups * per_in, per_out, *kernel))
    if groups > 1:
        inputs["w_scale"], inputs["w_zero"] = inputs["w_scale"][:1], inputs["w_zero"][:1]
    # by definition: zeros between the pixels, a kernel turned around
    x_zero = int(inputs["x_zero"])
    spread = np.full((batch, groups * per_in, *(full[i] - (kernel[i] - 1) * dilations[i] for i in range(2))), x_zero)
    spread[:, :, :: strides[0], :: strides[1]] = inputs["x"]
    margin = [(kernel[i] - 1) * dilations[i] for i in range(2)]
    spread = np.pad(spread, [(0, 0), (0, 0), *((m, m) for m in margin)], constant_values=x_zero)
    attributes: dict[str, Any] = {"group": groups, "dilations": dilations}
    sums = exact_sums(spread, weights[:, :, ::-1, ::-1], x_zero, inputs["w_zero"], attributes)
    sums = sums[:, :, pads[0] : full[0] - pads[2], pads[1] : full[1] - pads[3]]
    check_node(
        "QLinearConvTranspose",
        inputs,
        {**attributes, "strides": strides, "pads": pads},
        domain=INTEGERS,
        expected=[requantized(sums, inputs)],
        constants=[name for name in inputs if name != "x"],
        features=features,
        threads=threads,
    )


@pytest.mark.parametrize("features", MASKS)
def test_biases_of_floats_and_bounds(features: str | None) -> None:
    for shape in ((20, 6, 3, 3), (24, 1, 3, 3)):
        inputs = given_inputs(np.random.default_rng(11), (1, 6 if shape[1] == 6 else 24, 7, 7), shape, bias="float32")
        attributes: dict[str, Any] = {"pads": [1, 1, 1, 1], "group": 24 if shape[1] == 1 else 1}
        sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], attributes)
        check_node(
            "QLinearConv",
            inputs,
            {**attributes, "minimum": 30, "maximum": 170},
            domain=INTEGERS,
            expected=[requantized(sums, inputs, 30, 170)],
            constants=[name for name in inputs if name != "x"],
            features=features,
        )

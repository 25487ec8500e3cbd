"""Convolutions, poolings, resizing, padding and normalization of pictures whose sizes vary from run to run.

Each model is run with sizes far from each other.  The first one is planned with numbers, the second one makes a plan
for sizes that are not decided; the plan must serve the others but for a few, and every result is onnxruntime's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from mace_core import Session

Array = npt.NDArray[Any]
Dims = Sequence[int | str]
Sizes = Sequence[dict[str, int]]

PICTURES: Sizes = [
    {"n": 2, "h": 40, "w": 56},
    {"n": 3, "h": 48, "w": 64},
    {"n": 2, "h": 33, "w": 47},
    {"n": 5, "h": 91, "w": 130},
    {"n": 2, "h": 36, "w": 300},
    {"n": 1, "h": 1, "w": 1},
    {"n": 2, "h": 7, "w": 5},
    {"n": 1, "h": 2, "w": 3},
    {"n": 9, "h": 48, "w": 31},
    {"n": 2, "h": 40, "w": 56},
]
LINES: Sizes = [{"n": n, "w": w} for n, w in [(2, 50), (3, 51), (2, 400), (1, 17), (4, 33), (1, 1), (2, 3), (2, 50)]]


def make_model(nodes: list[onnx.NodeProto], x: Dims, constants: dict[str, Array], opset: int = 21) -> bytes:
    """Values have the names that the nodes give them; ``x`` is the input, ``y`` the output."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x))]
    outputs = [helper.make_empty_tensor_value_info("y")]
    outputs[0].type.tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "varying", inputs, outputs, [numpy_helper.from_array(c, k) for k, c in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


JUDGE_REFUSES = (errors.Fail, errors.InvalidArgument, errors.RuntimeException)


def check_sizes(
    caplog: pytest.LogCaptureFixture, model: bytes, x: Dims, sizes: Sizes, plans: int, tolerance: float = 5e-5
) -> None:
    """Compare with onnxruntime; at most ``plans`` are made, the one of the first sizes included."""
    judge = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(7)
    caplog.clear()
    caplog.set_level("INFO", "mace")
    with Session(model, devices=["cpu"], strict=True, options={"cpu": {"threads": 2}}) as session:
        for size in sizes:
            shape = [dim if isinstance(dim, int) else size[dim] for dim in x]
            picture = random.standard_normal(shape, dtype=np.float32)
            try:
                (expected,) = judge.run(None, {"x": picture})
            except JUDGE_REFUSES:  # (onnxruntime refuses what is smaller than a window)
                continue
            found = session.run({"x": picture})["y"]
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=str(size))
    compiled = [record for record in caplog.records if "compiled in" in record.getMessage()]
    assert len(compiled) <= plans, [record.getMessage() for record in compiled]


def _weights(*shape: int) -> Array:
    random = np.random.default_rng(sum(shape))
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def _node(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), ["y"], **attributes)


# --- convolutions -----------------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "direct": ((32, 16, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "direct, plain input": ((24, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "direct, in passes": ((32, 160, 3, 3), {"strides": [2, 2]}),
    "direct, SAME": ((32, 16, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    "direct, dilated": ((32, 32, 2, 3), {"dilations": [2, 3], "pads": [2, 3, 0, 3]}),
    "pointwise": ((48, 32, 1, 1), {}),
    "groups of blocks": ((64, 32, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "winograd": ((64, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
    "depthwise": ((24, 1, 5, 3), {"group": 24, "pads": [2, 1, 2, 1], "strides": [1, 2]}),
    "depthwise, repeated": ((48, 1, 3, 3), {"group": 24, "pads": [1, 1, 1, 1]}),
    "planar": ((3, 8, 3, 3), {"pads": [1, 1, 1, 1]}),
    "planar, small groups": ((12, 4, 3, 3), {"group": 3, "strides": [1, 2], "pads": [0, 1, 1, 0]}),
    "planar, one tap": ((2, 5, 1, 1), {"strides": [2, 3]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(caplog: pytest.LogCaptureFixture, name: str) -> None:
    shape, attributes = CONVOLUTIONS[name]
    x: Dims = ["n", shape[1] * attributes.get("group", 1), "h", "w"]
    constants = {"w": _weights(*shape), "b": _weights(shape[0])}
    check_sizes(caplog, make_model([_node("Conv", "x", "w", "b", **attributes)], x, constants), x, PICTURES, plans=6)


TRANSPOSED = {
    "phases": ((32, 16, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "phases, uneven": ((32, 16, 3, 5), {"strides": [2, 3], "output_padding": [1, 1]}),
    "shuffled": ((32, 2, 2, 2), {"strides": [2, 2]}),
    "planar": ((6, 3, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "general": ((6, 3, 3, 3), {"strides": [2, 2], "group": 2, "dilations": [2, 2]}),
    "SAME": ((32, 16, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions(caplog: pytest.LogCaptureFixture, name: str) -> None:
    shape, attributes = TRANSPOSED[name]
    x: Dims = ["n", shape[0], "h", "w"]
    nodes = [_node("ConvTranspose", "x", "w", **attributes)]
    check_sizes(caplog, make_model(nodes, x, {"w": _weights(*shape)}), x, PICTURES, plans=6)


def test_lines(caplog: pytest.LogCaptureFixture) -> None:
    """One axis: a convolution with growing dilation, a residual and a transposed one, as vocoders have them."""
    x: Dims = ["n", 16, "w"]
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["a"], alpha=0.1),
        helper.make_node("Conv", ["a", "w", "b"], ["c"], dilations=[3], pads=[9, 9]),
        helper.make_node("Add", ["x", "c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "t"], ["e"], strides=[8], pads=[4, 4]),
        helper.make_node("Tanh", ["e"], ["y"]),
    ]
    constants = {"w": _weights(16, 16, 7), "b": _weights(16), "t": _weights(16, 8, 16)}
    check_sizes(caplog, make_model(nodes, x, constants), x, LINES, plans=6)


def test_three_axes(caplog: pytest.LogCaptureFixture) -> None:
    x: Dims = ["n", 3, "h", 5, "w"]
    nodes = [_node("Conv", "x", "w", pads=[1, 0, 1, 1, 0, 1])]
    check_sizes(caplog, make_model(nodes, x, {"w": _weights(4, 3, 3, 1, 3)}), x, PICTURES, plans=4)


def test_weights_that_are_not_known(caplog: pytest.LogCaptureFixture) -> None:
    x: Dims = ["n", 4, "h", "w"]
    nodes = [helper.make_node("Abs", ["k"], ["w"]), _node("Conv", "x", "w", pads=[1, 1, 1, 1])]
    check_sizes(caplog, make_model(nodes, x, {"k": _weights(4, 4, 3, 3)}), x, PICTURES, plans=6)


def test_bands(caplog: pytest.LogCaptureFixture) -> None:
    """A large result that a depthwise convolution and a pooling read, band by band."""
    x: Dims = [1, 16, "h", "w"]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["c"]),
        helper.make_node("Conv", ["c", "d"], ["e"], group=64, pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["e", "v"], ["f"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["f"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    constants = {
        "w": _weights(64, 16, 1, 1),
        "b": _weights(64),
        "d": _weights(64, 1, 3, 3),
        "v": _weights(32, 64, 3, 3),
    }
    sizes = [
        {"h": h, "w": w} for h, w in ((112, 112), (120, 128), (64, 200), (20, 30), (250, 150), (9, 20), (112, 112))
    ]
    check_sizes(caplog, make_model(nodes, x, constants), x, sizes, plans=5)


def test_squeeze_and_excite(caplog: pytest.LogCaptureFixture) -> None:
    """A depthwise convolution, the mean of its pixels, and a product that scales the next weights."""
    x: Dims = [1, 32, "h", "w"]
    nodes = [
        helper.make_node("Conv", ["x", "d"], ["a"], group=32, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "s"], ["c"]),
        helper.make_node("HardSigmoid", ["c"], ["e"]),
        helper.make_node("Mul", ["a", "e"], ["f"]),
        helper.make_node("Conv", ["f", "w"], ["y"]),
    ]
    constants = {"d": _weights(32, 1, 3, 3), "s": _weights(32, 32, 1, 1), "w": _weights(16, 32, 1, 1)}
    sizes = [{"h": h, "w": w} for h, w in ((40, 56), (48, 64), (20, 300), (15, 15), (30, 1100), (1, 1), (3, 4))]
    check_sizes(caplog, make_model(nodes, x, constants), x, sizes, plans=6)


# --- poolings ---------------------------------------------------------------------------------------------------------

POOLINGS: dict[str, dict[str, Any]] = {
    "MaxPool": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "MaxPool up": {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    "MaxPool same": {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "AveragePool": {"kernel_shape": [3, 2], "strides": [3, 2]},
    "AveragePool counted": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    "LpPool": {"kernel_shape": [3, 3], "strides": [2, 1]},
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
    "GlobalLpPool": {},
}


@pytest.mark.parametrize("blocked", [False, True], ids=["rows", "blocks"])
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings(caplog: pytest.LogCaptureFixture, name: str, blocked: bool) -> None:
    """Of what lies row by row, and of the result of a convolution, which lies in blocks of channels."""
    x: Dims = ["n", 16, "h", "w"]
    before = [helper.make_node("Conv", ["x", "w"], ["a"])] if blocked else []
    pooled = _node(name.split()[0], "a" if blocked else "x", **POOLINGS[name])
    constants = {"w": _weights(24, 16, 1, 1)} if blocked else {}
    sizes = [size for size in PICTURES if min(size["h"], size["w"]) > 3]  # (onnxruntime dies of empty results)
    check_sizes(caplog, make_model([*before, pooled], x, constants), x, sizes, plans=6)


# --- resizing, padding ------------------------------------------------------------------------------------------------

NEAREST = [
    ("asymmetric", "floor", [1, 1, 2, 2]),
    ("half_pixel", "round_prefer_floor", [1, 1, 0.5, 1.5]),
    ("half_pixel", "round_prefer_ceil", [1, 1, 3, 0.25]),
    ("align_corners", "ceil", [1, 1, 2, 4]),
    ("pytorch_half_pixel", "floor", [1, 1, 0.5, 2]),
    ("half_pixel_symmetric", "round_prefer_floor", [1, 1, 1.25, 2]),
]


@pytest.mark.parametrize("blocked", [False, True], ids=["rows", "blocks"])
@pytest.mark.parametrize(("coordinates", "rounding", "scales"), NEAREST)
def test_nearest_resizing(
    caplog: pytest.LogCaptureFixture, coordinates: str, rounding: str, scales: list[float], blocked: bool
) -> None:
    _check_resizing(caplog, blocked, scales, coordinate_transformation_mode=coordinates, nearest_mode=rounding)


INTERPOLATIONS: list[tuple[str, str, list[float], dict[str, Any]]] = [
    ("linear", "half_pixel", [1, 1, 2, 2], {}),
    ("linear", "align_corners", [1, 1, 2, 3], {}),
    ("linear", "asymmetric", [1, 1, 1.5, 0.5], {}),
    ("cubic", "half_pixel", [1, 1, 2, 1.5], {"cubic_coeff_a": -0.5}),
    ("cubic", "pytorch_half_pixel", [1, 1, 2, 3], {"exclude_outside": 1}),
    ("linear", "half_pixel", [1, 1, 0.5, 0.25], {"antialias": 1}),
]


@pytest.mark.parametrize("blocked", [False, True], ids=["rows", "blocks"])
@pytest.mark.parametrize(("mode", "coordinates", "scales", "more"), INTERPOLATIONS)
def test_interpolation(
    caplog: pytest.LogCaptureFixture,
    mode: str,
    coordinates: str,
    scales: list[float],
    more: dict[str, Any],
    blocked: bool,
) -> None:
    _check_resizing(caplog, blocked, scales, mode=mode, coordinate_transformation_mode=coordinates, **more)


def _check_resizing(caplog: pytest.LogCaptureFixture, blocked: bool, scales: list[float], **attributes: Any) -> None:
    x: Dims = ["n", 16, "h", "w"]
    constants: dict[str, Array] = {"s": np.asarray(scales, np.float32), "none": np.zeros(0, np.float32)}
    nodes = [_node("Resize", "a" if blocked else "x", "none", "s", **attributes)]
    if blocked:
        nodes.insert(0, helper.make_node("Conv", ["x", "w"], ["a"]))
        constants["w"] = _weights(24, 16, 1, 1)
    check_sizes(caplog, make_model(nodes, x, constants, opset=19), x, PICTURES, plans=6, tolerance=1e-4)


COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")


@pytest.mark.parametrize("coordinates", [*COORDINATES, "tf_half_pixel_for_nn", "tf_crop_and_resize"])
@pytest.mark.parametrize(
    "attributes",
    [
        *({"mode": "nearest", "nearest_mode": f"round_prefer_{way}"} for way in ("floor", "ceil")),
        *({"mode": "nearest", "nearest_mode": way} for way in ("floor", "ceil")),
        {"mode": "linear"},
        {"mode": "cubic", "exclude_outside": 1},
        {"mode": "linear", "antialias": 1},
    ],
    ids=lambda attributes: "-".join(map(str, attributes.values())),
)
def test_tables_are_those_of_sizes_that_are_decided(coordinates: str, attributes: dict[str, Any]) -> None:
    """Judges differ about lengths that are no whole number: what is computed must not depend on how it is planned."""
    x: Dims = [1, 1, "h", "w"]
    constants = {
        "s": np.asarray([1, 1, 0.75, 2.5], np.float32),
        "r": np.asarray([0, 0, 0.1, -0.2, 1, 1, 0.9, 1.2], np.float32),
    }
    nodes = [_node("Resize", "x", "r", "s", coordinate_transformation_mode=coordinates, **attributes)]
    model = make_model(nodes, x, constants, opset=19)
    random = np.random.default_rng(3)
    with Session(model, devices=["cpu"]) as session:
        for h, w in ((8, 9), (13, 12), (4, 2)):
            picture = random.standard_normal((1, 1, h, w), dtype=np.float32)
            with Session(model, devices=["cpu"]) as fresh:
                expected = fresh.run({"x": picture})["y"]
            np.testing.assert_array_equal(session.run({"x": picture})["y"], expected)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_to_the_size_of_another(caplog: pytest.LogCaptureFixture, mode: str) -> None:
    """The sizes are those of the picture that a pooling made smaller."""
    x: Dims = ["n", 4, "h", "w"]
    nodes = [
        helper.make_node("MaxPool", ["x"], ["small"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Resize", ["small", "", "", "sizes"], ["large"], mode=mode),
        helper.make_node("Sub", ["x", "large"], ["y"]),
    ]
    check_sizes(caplog, make_model(nodes, x, {}, opset=19), x, PICTURES, plans=6, tolerance=1e-4)


PADS = ([0, 0, 1, 2, 0, 0, 3, 1], [0, 0, -1, 2, 0, 0, 3, -2], [1, 0, 0, 5, 0, 2, 0, 0])


@pytest.mark.parametrize("pads", PADS, ids=str)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_padding(caplog: pytest.LogCaptureFixture, mode: str, pads: list[int]) -> None:
    x: Dims = ["n", 8, "h", "w"]
    sizes = [
        size
        for size in PICTURES
        if min(size["h"], size["w"]) > 6 and (size["n"] > 2 or mode == "constant" or not pads[0])
    ]
    nodes = [_node("Pad", "x", "p", mode=mode)]
    check_sizes(caplog, make_model(nodes, x, {"p": np.asarray(pads, np.int64)}), x, sizes, plans=6)


def test_padding_of_blocks(caplog: pytest.LogCaptureFixture) -> None:
    x: Dims = ["n", 16, "h", "w"]
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), _node("Pad", "a", "p", mode="reflect")]
    constants = {"w": _weights(24, 16, 1, 1), "p": np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}
    sizes = [size for size in PICTURES if min(size["h"], size["w"]) > 1]
    check_sizes(caplog, make_model(nodes, x, constants), x, sizes, plans=6)


def test_padding_to_a_multiple(caplog: pytest.LogCaptureFixture) -> None:
    """The amounts follow from the sizes, as exporters of windowed attention write it."""
    x: Dims = [1, 4, 6, "w"]
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=3),
        helper.make_node("Neg", ["s"], ["m"]),
        helper.make_node("Mod", ["m", "eight"], ["more"]),
        helper.make_node("Concat", ["zeros", "more"], ["p"], axis=0),
        _node("Pad", "x", "p"),
    ]
    constants = {"eight": np.asarray([8], np.int64), "zeros": np.zeros(7, np.int64)}
    sizes = [{"w": w} for w in (50, 51, 52, 55, 57, 300, 17, 9, 1)]
    check_sizes(caplog, make_model(nodes, x, constants), x, sizes, plans=6)


# --- normalization ----------------------------------------------------------------------------------------------------

NORMALIZATIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "InstanceNormalization": (("c", "c"), {}),
    "GroupNormalization": (("c", "c"), {"num_groups": 4}),
    "BatchNormalization": (("c", "c", "c", "v"), {}),
    "LRN": ((), {"size": 3}),
    "LpNormalization": ((), {"axis": -1}),
    "MeanVarianceNormalization": ((), {}),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalization_over_pixels(caplog: pytest.LogCaptureFixture, name: str) -> None:
    given, attributes = NORMALIZATIONS[name]
    x: Dims = ["n", 16, "h", "w"]
    nodes = [_node(name, "x", *given, **attributes)]
    constants = {"c": _weights(16), "v": np.abs(_weights(16)) + 0.5} if given else {}
    sizes = [size for size in PICTURES if min(size["h"], size["w"]) > 1]
    check_sizes(caplog, make_model(nodes, x, constants), x, sizes, plans=6, tolerance=2e-4)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceSum"])
def test_reduction_of_all_pixels(caplog: pytest.LogCaptureFixture, op: str) -> None:
    x: Dims = ["n", 16, "h", "w"]
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), _node(op, "a", "axes")]
    constants = {"w": _weights(24, 16, 1, 1), "axes": np.asarray([2, 3], np.int64)}
    check_sizes(caplog, make_model(nodes, x, constants), x, PICTURES, plans=6, tolerance=2e-4)

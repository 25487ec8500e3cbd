"""Products of floats with weights in integers: LiteRT stores the floats in 8 bits in each run, and so does MACE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lite_models import Arrays, LiteGraph, LiteModel, assert_agree, lite_results

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.optimizer import default_passes, optimize

SAME, VALID = 0, 1
Draw = Callable[[np.random.Generator], tuple[bytes, Arrays]]


def _weights(g: LiteGraph, rng: np.random.Generator, shape: tuple[int, ...], axis: int, *, bits: int = 8) -> int:
    """Constant weights with a scale for each unit."""
    reach = 7 if bits == 4 else 127
    content = rng.integers(-reach, reach + 1, shape).astype(np.int8)
    scales = rng.uniform(0.001, 0.01, shape[axis]).astype(np.float32)
    if bits == 8:
        return g.constant("w", content, scale=scales, axis=axis)
    nibbles = content.reshape(-1) & 0xF
    return g.tensor("w", shape, "int4", data=(nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8), scale=scales,
                    zero=0, axis=axis)  # fmt: skip


def _floats(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Of a range that need not hold 0, each image its own."""
    spread = rng.uniform(0.1, 5, (shape[0],) + (1,) * (len(shape) - 1))
    return (rng.normal(size=shape) * spread + rng.uniform(-4, 4)).astype(np.float32)


def convolution(kernel: int, *, images: int = 1, bits: int = 8, stride: int = 1) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[bytes, Arrays]:
        model = LiteModel()
        g = model.graph()
        x = g.input("x", (images, 9, 8, 16))
        w = _weights(g, rng, (24, kernel, kernel, 16), 0, bits=bits)
        b = g.constant("b", rng.normal(size=24).astype(np.float32))
        y = g.output("y", (images, -(-9 // stride), -(-8 // stride), 24))
        g.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", version=7 if bits == 4 else 5, strideH=stride,
             strideW=stride, padding=SAME, fusedActivationFunction=int(rng.integers(2)))  # fmt: skip
        return model.bytes(), {"x": _floats(rng, (images, 9, 8, 16))}

    return draw


def depthwise(images: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[bytes, Arrays]:
        model = LiteModel()
        g = model.graph()
        x, w = g.input("x", (images, 9, 8, 16)), _weights(g, rng, (1, 3, 3, 16), 3)
        b = g.constant("b", rng.normal(size=16).astype(np.float32))
        g.op("DEPTHWISE_CONV_2D", [x, w, b], [g.output("y", (images, 9, 8, 16))], "DepthwiseConv2DOptions", version=6,
             strideH=1, strideW=1, padding=SAME, depthMultiplier=1)  # fmt: skip
        return model.bytes(), {"x": _floats(rng, (images, 9, 8, 16))}

    return draw


def padded(operator: str, fill: float = 0.0, images: int = 1) -> Draw:
    """Zeros, or something else, around the picture, as exporters write what is not SAME."""

    def draw(rng: np.random.Generator) -> tuple[bytes, Arrays]:
        model = LiteModel()
        g = model.graph()
        x, y = _first(g, rng, g.input("x", (images, 9, 8, 16)), images), g.output("y", (images, 5, 4, 16))
        around = g.constant("around", [[0, 0], [1, 1], [0, 1], [0, 0]], "int32")
        wide = g.tensor("wide", (images, 11, 9, 16))
        if fill:
            g.op("PADV2", [x, around, g.constant("fill", np.float32(fill))], [wide], "PadV2Options")
        else:
            g.op("PAD", [x, around], [wide], "PadOptions")
        b = g.constant("b", rng.normal(size=16).astype(np.float32))
        if operator == "CONV_2D":
            w = _weights(g, rng, (16, 3, 3, 16), 0)
            g.op(operator, [wide, w, b], [y], "Conv2DOptions", version=5, strideH=2, strideW=2, padding=VALID)
        else:
            w = _weights(g, rng, (1, 3, 3, 16), 3)
            g.op(operator, [wide, w, b], [y], "DepthwiseConv2DOptions", version=6, strideH=2, strideW=2, padding=VALID,
                 depthMultiplier=1)  # fmt: skip
        return model.bytes(), {"x": _floats(rng, (images, 9, 8, 16))}

    return draw


def _first(g: LiteGraph, rng: np.random.Generator, x: int, images: int) -> int:
    """A convolution: what is behind it does not read the input of the model."""
    made = g.tensor("first", (images, 9, 8, 16))
    w, b = _weights(g, rng, (16, 3, 3, 16), 0), g.constant("b", rng.normal(size=16).astype(np.float32))
    g.op("CONV_2D", [x, w, b], [made], "Conv2DOptions", version=5, strideH=1, strideW=1, padding=SAME)
    return made


def joined(rng: np.random.Generator) -> tuple[bytes, Arrays]:
    """Two convolutions joined, pooled and read by a third."""
    model = LiteModel()
    g = model.graph()
    x, parts = _first(g, rng, g.input("x", (1, 9, 8, 16)), 1), []
    for index, (filters, kernel) in enumerate(((20, 1), (12, 3))):
        b = g.constant(f"b{index}", rng.normal(size=filters).astype(np.float32))
        parts.append(g.tensor(f"part{index}", (1, 9, 8, filters)))
        g.op("CONV_2D", [x, _weights(g, rng, (filters, kernel, kernel, 16), 0), b], parts[-1:], "Conv2DOptions",
             version=5, strideH=1, strideW=1, padding=SAME, fusedActivationFunction=1)  # fmt: skip
    whole, small = g.tensor("whole", (1, 9, 8, 32)), g.tensor("small", (1, 4, 3, 32))
    g.op("CONCATENATION", parts, [whole], "ConcatenationOptions", axis=3)
    g.op("MAX_POOL_2D", [whole], [small], "Pool2DOptions", filterHeight=3, filterWidth=3, strideH=2, strideW=2,
         padding=VALID)  # fmt: skip
    b = g.constant("b", rng.normal(size=24).astype(np.float32))
    g.op("CONV_2D", [small, _weights(g, rng, (24, 1, 1, 32), 0), b], [g.output("y", (1, 4, 3, 24))], "Conv2DOptions",
         version=5, strideH=1, strideW=1, padding=SAME)  # fmt: skip
    return model.bytes(), {"x": _floats(rng, (1, 9, 8, 16))}


def transposed(rng: np.random.Generator) -> tuple[bytes, Arrays]:
    model = LiteModel()
    g = model.graph()
    size, w = g.constant("size", [1, 18, 16, 24], "int32"), _weights(g, rng, (24, 3, 3, 16), 0)
    x = g.input("x", (1, 9, 8, 16))
    g.op("TRANSPOSE_CONV", [size, w, x], [g.output("y", (1, 18, 16, 24))], "TransposeConvOptions", version=3,
         strideH=2, strideW=2, padding=SAME)  # fmt: skip
    return model.bytes(), {"x": _floats(rng, (1, 9, 8, 16))}


def fully_connected(rows: int, *, bits: int = 8) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[bytes, Arrays]:
        model = LiteModel()
        g = model.graph()
        x, w = g.input("x", (rows, 64)), _weights(g, rng, (24, 64), 0, bits=bits)
        b = g.constant("b", rng.normal(size=24).astype(np.float32))
        g.op("FULLY_CONNECTED", [x, w, b], [g.output("y", (rows, 24))], "FullyConnectedOptions",
             version=10, asymmetricQuantizeInputs=bool(rng.integers(2)))  # fmt: skip
        return model.bytes(), {"x": _floats(rng, (rows, 64))}

    return draw


def batch_product(rng: np.random.Generator) -> tuple[bytes, Arrays]:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 5, 16))
    w = g.constant("w", rng.integers(-127, 128, (2, 16, 7)).astype(np.int8), scale=0.01)
    g.op("BATCH_MATMUL", [x, w], [g.output("y", (2, 5, 7))], "BatchMatMulOptions", version=2, adjX=False, adjY=False)
    return model.bytes(), {"x": _floats(rng, (2, 5, 16))}


PRODUCTS: dict[str, Draw] = {
    "convolution": convolution(3),
    "convolution of one pixel": convolution(1),
    "convolution of one pixel in two": convolution(1, stride=2),
    "convolution of several images": convolution(3, images=3, stride=2),
    "convolution with 4 bits": convolution(3, bits=4),
    "depthwise": depthwise(1),
    "depthwise of several images": depthwise(2),
    "zeros around a convolution": padded("CONV_2D"),
    "zeros around a depthwise convolution": padded("DEPTHWISE_CONV_2D"),
    "ones around a convolution": padded("CONV_2D", 1.0),
    "zeros around several images": padded("DEPTHWISE_CONV_2D", images=2),
    "joined and pooled": joined,
    "transposed": transposed,
    "fully connected": fully_connected(5),
    "fully connected, one row": fully_connected(1),
    "fully connected with 4 bits": fully_connected(5, bits=4),
    "batch product": batch_product,
}


@pytest.mark.parametrize("examples", [1, pytest.param(40, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_rounds_its_activations_as_litert_does(name: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        assert_agree(*PRODUCTS[name](np.random.default_rng(seed)), tolerance=1e-6)

    check()


def network() -> tuple[bytes, Arrays]:
    """Six layers: a difference of one bit in one would be a step of 8 bits in a later one."""
    rng = np.random.default_rng(3)
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 12, 12, 3))
    before, channels = x, 3
    for index, (kernel, filters) in enumerate(((3, 16), (1, 24), (3, 24), (1, 16), (3, 8))):
        w = _weights(g, rng, (filters, kernel, kernel, channels), 0)
        b = g.constant("b", rng.normal(size=filters).astype(np.float32))
        after = g.tensor(f"t{index}", (1, 12, 12, filters))
        g.op("CONV_2D", [before, w, b], [after], "Conv2DOptions", version=5, strideH=1, strideW=1, padding=SAME,
             fusedActivationFunction=3)  # fmt: skip
        before, channels = after, filters
    w, b = _weights(g, rng, (10, 12 * 12 * 8), 0), g.constant("b", rng.normal(size=10).astype(np.float32))
    flat = g.tensor("flat", (1, 12 * 12 * 8))
    g.op("RESHAPE", [before, g.constant("shape", [1, 12 * 12 * 8], "int32")], [flat], "ReshapeOptions")
    g.op("FULLY_CONNECTED", [flat, w, b], [g.output("y", (1, 10))], "FullyConnectedOptions", version=9)
    return model.bytes(), {"x": rng.normal(size=(1, 12, 12, 3)).astype(np.float32)}


def test_differences_do_not_grow_from_layer_to_layer() -> None:
    assert_agree(*network(), tolerance=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        *("convolution", "depthwise", "fully connected", "network", "joined and pooled"),
        *("zeros around a convolution", "zeros around a depthwise convolution"),
    ],
)
def test_rows_become_bytes_in_one_step(name: str) -> None:
    """And what is done to sums of products is done where they are."""
    content, feeds = network() if name == "network" else PRODUCTS[name](np.random.default_rng(0))
    with mace.Session(content, devices=["cpu"], strict=True) as session:
        session.run(feeds)
        heads = {part.name.split("+")[0] for part in session.profile(feeds).parts}
    assert "QuantizeRows" in heads
    assert not heads & {"ReduceMin", "Round", "Div", "Less", "Pad", "Cast", "Mul", "Sub", "ToBlocked"}, heads
    assert not any(head.startswith("tiled_transpose") for head in heads), heads


def test_activations_stay_floats_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    content, feeds = network()
    (lite,) = lite_results(content, feeds)
    with mace.Session(content, devices=["cpu"], dynamic_range="float") as session:
        floats = session.run(feeds)["y"]
    assert 1e-4 < np.abs(floats - lite["y"]).max() / np.ptp(lite["y"]) < 0.05
    monkeypatch.setenv("MACE_DYNAMIC_RANGE", "float")
    with mace.Session(content, devices=["cpu"]) as session:
        assert np.array_equal(session.run(feeds)["y"], floats)


def test_floats_of_zero_are_stored_as_such() -> None:
    content, feeds = fully_connected(2)(np.random.default_rng(0))
    assert_agree(content, {"x": np.zeros_like(feeds["x"])}, tolerance=1e-6)


def test_weights_alone_in_integers_behind_dequantize_are_no_product_of_mixed_types() -> None:
    model = LiteModel()
    g = model.graph()
    rng = np.random.default_rng(0)
    x, w, floats = g.input("x", (2, 64)), _weights(g, rng, (24, 64), 0), g.tensor("f", (24, 64))
    g.op("DEQUANTIZE", [w], [floats], version=5)
    g.op("FULLY_CONNECTED", [x, floats], [g.output("y", (2, 24))], "FullyConnectedOptions", version=1)
    assert not any(node.op_type == "MatMulInteger" for node in load_model(model.bytes()).nodes)
    assert_agree(model.bytes(), {"x": _floats(rng, (2, 64))})


def test_another_word_than_the_two_is_refused() -> None:
    with pytest.raises(UsageError, match="dynamic_range is 'bytes'; it is one of integer, float"):
        load_model(network()[0], dynamic_range="bytes")


@pytest.mark.parametrize("images", [1, 2])
def test_between_rounded_convolutions_no_transpose_is_left(images: int) -> None:
    """Steps and zero points of rows and images go with the activations, whichever kernel rounds them."""
    rng = np.random.default_rng(0)
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (images, 9, 8, 16))
    for number, (kernel, kind) in enumerate([(1, "CONV_2D"), (3, "DEPTHWISE_CONV_2D"), (3, "CONV_2D")]):
        is_depthwise = kind != "CONV_2D"
        w = _weights(g, rng, (1 if is_depthwise else 16, kernel, kernel, 16), 3 if is_depthwise else 0)
        b = g.constant("b", rng.normal(size=16).astype(np.float32))
        y = g.output("y", (images, 9, 8, 16)) if number == 2 else g.tensor(f"y{number}", (images, 9, 8, 16), "float32")
        options = {"depthMultiplier": 1} if is_depthwise else {}
        g.op(kind, [x, w, b], [y], "DepthwiseConv2DOptions" if is_depthwise else "Conv2DOptions", version=6, strideH=1,
             strideW=1, padding=SAME, **options)  # fmt: skip
        x = y
    graph = load_model(model.bytes())
    optimize(graph, default_passes())
    left = [node for node in graph.nodes if node.op_type == "Transpose"]
    assert len(left) == 2  # of the input, once it is bytes, and of the output
    assert_agree(model.bytes(), {"x": _floats(rng, (images, 9, 8, 16))}, tolerance=1e-2)

"""Activations and sums that nobody quantizes before: between the integer sums of a product and its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from quantized_graphs import RNG, Quantizing, ask, check, run

FEATURES = here("host", "avx512", "avx2", "sse4", "dotprod", "baseline")

ACTIVATIONS: dict[str, dict[str, float]] = {
    "Sigmoid": {}, "Tanh": {}, "HardSwish": {}, "LeakyRelu": {"alpha": 0.1}, "Gelu": {}, "Elu": {}, "Mish": {},
    "HardSigmoid": {"alpha": 0.25}, "Softplus": {}, "SiLU": {}, "PRelu": {}, "ErfGelu": {},
    "HalvedErfGelu": {},
}  # fmt: skip


def limited(features: str) -> dict[str, str]:
    return {} if features == "host" else {"features": features}


def scales(count: int) -> np.ndarray:
    return (RNG.random(count) / 200 + 0.002).astype(np.float32)


def conv(g: Quantizing, x: str, shape: tuple[int, ...], op: str = "Conv", **attributes: object) -> str:
    """A convolution with a float bias and weights of (out, in, *kernel)."""
    content = RNG.integers(-127, 128, shape).astype(np.int8)
    if op == "ConvTranspose":
        return g.op(op, x, g.weight(content, np.float32(0.004)), **attributes)
    bias = g.constant(RNG.standard_normal(shape[0]).astype(np.float32))
    return g.op(op, x, g.weight(content, scales(shape[0]), 0), bias, **attributes)


def product(g: Quantizing, x: str, steps: int, columns: int) -> str:
    content = RNG.integers(-127, 128, (steps, columns)).astype(np.int8)
    return g.op("MatMul", x, g.weight(content, scales(columns), 1))


def activated(g: Quantizing, x: str, op: str, channels: tuple[int, ...]) -> str:
    if op in ("ErfGelu", "HalvedErfGelu"):
        one, half, root = (g.constant(np.float32(number)) for number in (1, 0.5, np.sqrt(2)))
        gate = g.op("Add", g.op("Erf", g.op("Div", x, root)), one)
        return g.op("Mul", g.op("Mul", x, half), gate) if op[0] == "H" else g.op("Mul", g.op("Mul", x, gate), half)
    if op == "SiLU":
        return g.op("Mul", x, g.op("Sigmoid", x))
    if op == "PRelu":
        return g.op(op, x, g.constant(RNG.random(channels).astype(np.float32)))
    return g.op(op, x, **ACTIVATIONS[op])


@pytest.mark.parametrize("features", FEATURES)
def test_products_of_every_kind(features: str, tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(2, 20, 9, 7, scale=0.03)
    g.steps(activated(g, conv(g, x, (37, 20, 3, 3), pads=[1] * 4), "SiLU", ()), 0.05)
    g.steps(activated(g, conv(g, x, (20, 1, 3, 3), pads=[1] * 4, group=20), "HardSwish", ()), 0.05)
    g.steps(activated(g, conv(g, x, (40, 5, 1, 1), group=4), "LeakyRelu", ()), 0.05)
    g.steps(activated(g, conv(g, x, (20, 9, 3, 3), "ConvTranspose", strides=[2, 2]), "Sigmoid", ()), 0.004, 0)
    g.steps(activated(g, conv(g, x, (24, 20, 1, 1)), "PRelu", (24, 1, 1)), 0.05)
    row = g.input(3, 9, 21, dtype="int8", scale=0.03)
    biased = g.op("Add", product(g, row, 21, 35), g.constant(RNG.standard_normal(35).astype(np.float32)))
    g.steps(activated(g, biased, "Gelu", ()), 0.05)
    g.steps(activated(g, product(g, row, 21, 35), "ErfGelu", ()), 0.05)
    g.steps(activated(g, product(g, row, 21, 35), "HalvedErfGelu", ()), 0.05)
    one = g.input(5, 30, scale=0.04)
    content = RNG.integers(-127, 128, (17, 30)).astype(np.int8)
    g.steps(activated(g, g.op("Gemm", one, g.weight(content, scales(17), 0), transB=1), "Tanh", ()), 1 / 128)
    found = check(g, tmp_path, **limited(features))
    assert found.in_float == {}
    assert not found.steps & {"Conv", "MatMul", "Gemm", "ConvTranspose"}


@pytest.mark.parametrize("features", FEATURES)
def test_a_residual_sum_that_is_not_quantized_before(features: str, tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(1, 12, 9, 7, scale=0.03)
    first, second = g.input(1, 37, 9, 7, dtype="int8", scale=0.1, zero=-3), g.input(1, 12, 9, 7, scale=0.05, zero=255)
    g.steps(g.op("Relu", g.op("Add", conv(g, x, (37, 12, 3, 3), pads=[1] * 4), first)), 0.05)
    g.steps(g.op("Relu", g.op("Add", second, conv(g, x, (12, 1, 3, 3), pads=[1] * 4, group=12))), 0.05)
    row, rest = g.input(2, 5, 21, scale=0.03), g.input(2, 5, 33, dtype="int8", scale=0.1)
    g.steps(g.op("Sub", product(g, row, 21, 33), rest), 0.05)
    found = check(g, tmp_path, **limited(features))
    assert found.in_float == {}
    assert "DequantizeLinear" not in found.steps


@pytest.mark.parametrize("features", FEATURES)
def test_chains_whose_operands_vary_from_channel_to_channel(features: str, tmp_path: Path) -> None:
    g = Quantizing()
    for channels, dtype in ((20, "uint8"), (3, "int8"), (70, "uint8")):
        x = g.input(2, channels, 9, 7, scale=0.03, dtype=dtype)
        g.steps(activated(g, x, "PRelu", (channels, 1, 1)), 0.03)
        factors, shifts = (g.constant(RNG.standard_normal((1, channels, 1, 1)).astype(np.float32)) for _ in range(2))
        g.steps(g.op("HardSwish", g.op("Add", g.op("Mul", x, factors), shifts)), 0.04)
        numbers = [g.constant((RNG.random(channels) + 0.5).astype(np.float32)) for _ in range(4)]
        g.steps(g.op("Relu", g.op("BatchNormalization", x, *numbers)), 0.04)
    for columns in (37, 2):
        x = g.input(3, 9, columns)
        g.steps(g.op("Mul", x, g.constant(RNG.standard_normal(columns).astype(np.float32))), 0.04)
    for op in ("SiLU", "ErfGelu", "HalvedErfGelu"):
        shifted = g.op("Add", x, g.constant(RNG.standard_normal(2).astype(np.float32)))
        g.steps(activated(g, shifted, op, ()), 0.04)
    g.feeds["real"] = RNG.standard_normal((3, 9, 2)).astype(np.float32)
    g.steps(g.op("Tanh", g.op("Sub", x, "real")), 1 / 128)
    found = check(g, tmp_path, **limited(features))
    assert found.in_float == {}
    assert "DequantizeLinear" not in found.steps


def test_what_is_moved_before_it_is_rounded(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(1, 12, 8, 8, scale=0.03)
    first, second = (activated(g, conv(g, x, (16, 12, 3, 3), pads=[1] * 4), "SiLU", ()) for _ in range(2))
    g.steps(g.op("Concat", first, second, axis=1), 0.05)
    third = activated(g, conv(g, x, (16, 12, 1, 1)), "HardSwish", ())
    g.steps(g.op("MaxPool", third, kernel_shape=[2, 2], strides=[2, 2]), 0.05)
    g.steps(g.op("DepthToSpace", activated(g, conv(g, x, (16, 12, 1, 1)), "Tanh", ()), blocksize=2), 1 / 128)
    g.steps(g.op("Concat", activated(g, conv(g, x, (12, 12, 1, 1)), "SiLU", ()), x, axis=1), 0.04)
    found = check(g, tmp_path)
    assert found.in_float == {}


def test_a_result_that_is_read_in_float_is_computed_once(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(1, 12, 9, 7, scale=0.03)
    shared = activated(g, conv(g, x, (20, 12, 3, 3), pads=[1] * 4), "SiLU", ())
    g.steps(shared, 0.05)
    g.steps(g.op("Softmax", shared, axis=1), 1 / 255, 0)
    again = g.op("Add", shared, conv(g, x, (20, 12, 1, 1)))  # a float in the order of the convolutions
    g.steps(g.op("Relu", again), 0.05)
    end = conv(g, g.real(g.outputs[0], "uint8", 0.05), (9, 20, 1, 1))
    found = check(g, tmp_path, floats=[end])
    assert found.steps & {"Conv", "ToPlain"} == set()


def test_bytes_follow_what_was_rounded(tmp_path: Path) -> None:
    """A sum and a table behind the rounding are the steps they would have been alone."""
    g = Quantizing()
    x = g.input(1, 12, 9, 7, scale=0.03)
    real = g.again(activated(g, conv(g, x, (20, 12, 3, 3), pads=[1] * 4), "SiLU", ()), 0.05)
    total = g.again(g.op("Add", real, g.input(1, 20, 9, 7, scale=0.02)), 0.06)
    g.steps(g.op("Sigmoid", total), 1 / 255, 0)
    model = g.model()
    everything = run(model, g.feeds, tmp_path).outputs
    last = run(g.model(g.outputs[-1:]), g.feeds, tmp_path)
    np.testing.assert_array_equal(last.outputs[g.outputs[-1]], everything[g.outputs[-1]])
    assert last.in_float == {}


def test_extremes_saturate_and_what_is_no_number_is_lowest(tmp_path: Path) -> None:
    g = Quantizing("int8")
    x = g.input(1, 16, 3, 3, scale=3e4, zero=0)
    numbers = g.feeds["in0"]
    numbers[:, 0] ^= numbers.sum(axis=1, dtype=np.int8) == 0  # of what cancels, floats leave a rest of 1e30
    content = np.full((16, 16, 1, 1), 127, np.int8)
    real = g.op("Conv", x, g.weight(content, np.float32(1e28)))
    huge = g.constant(np.full((16, 1, 1), 3e38, np.float32))
    g.steps(g.op("LeakyRelu", real, alpha=0.5), 0.1)
    g.steps(g.op("Mul", real, huge), 0.1)
    g.steps(g.op("Mul", g.op("Mul", real, huge), g.constant(np.zeros((16, 1, 1), np.float32))), 0.1)
    check(g, tmp_path, within=0)


def test_sizes_that_vary(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(1, 12, 8, 8, scale=0.03)
    g.steps(activated(g, conv(g, x, (20, 12, 3, 3), pads=[1] * 4), "SiLU", ()), 0.05)
    row = g.input(1, 5, 21, scale=0.03)
    g.steps(activated(g, product(g, row, 21, 33), "Gelu", ()), 0.05)
    model = g.model()
    for info, names in zip(model.graph.input, (["n", 12, "h", "w"], ["n", "s", 21]), strict=True):
        info.CopyFrom(helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, names))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model)
    for n, h, w, s in [(1, 8, 8, 5), (2, 3, 11, 1), (3, 1, 1, 9)]:
        feeds = {
            "in0": RNG.integers(0, 256, (n, 12, h, w)).astype(np.uint8),
            "in1": RNG.integers(0, 256, (n, s, 21)).astype(np.uint8),
        }
        got, right = run(model, feeds, tmp_path).outputs, ask(model, feeds)
        for name, expected in right.items():
            assert np.abs(got[name].astype(int) - expected.astype(int)).max() <= 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_chain_is_within_a_step(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    g = Quantizing(draw(st.sampled_from(["uint8", "int8"])))
    limits = np.iinfo(g.dtype)
    zeros = st.sampled_from([limits.min, limits.max, 0, 3, 100])
    channels, out, height, width = (draw(st.integers(1, most)) for most in (20, 40, 6, 6))
    x = g.input(1, channels, height, width, scale=0.03, zero=draw(zeros))
    depthwise = draw(st.booleans())
    out, size = channels if depthwise else out, draw(st.sampled_from([1, 3]))
    shape = (out, 1 if depthwise else channels, size, size)
    real = conv(g, x, shape, pads=[size // 2] * 4, group=channels if depthwise else 1)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["residual", "scaled", *ACTIVATIONS]))
        if kind == "residual":
            dtype = draw(st.sampled_from(["uint8", "int8"]))
            other = g.input(1, out, height, width, dtype=dtype, scale=0.04, zero=draw(st.integers(0, 127)))
            real = g.op(draw(st.sampled_from(["Add", "Sub", "Mul"])), real, other)
        elif kind == "scaled":
            real = g.op("Mul", real, g.constant(RNG.standard_normal((out, 1, 1)).astype(np.float32)))
        else:
            real = activated(g, real, kind, (out, 1, 1))
    g.steps(real, draw(st.sampled_from([0.05, 0.1, 0.013])), draw(zeros))
    found = check(g, tmp_path, **limited(draw(st.sampled_from(FEATURES))))
    assert "Conv" not in found.steps

"""Kernels for aarch64, run on an emulated processor by the same checks that other kernels go through."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import numpy as np
import pytest
from harness import Ran, check_node, check_nodes
from onnx import helper

arm = pytest.importorskip("arm", reason="needs unicorn", exc_type=ImportError)

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="the emulated processor is for x86-64 hosts"
)


@pytest.fixture(scope="module")
def neon() -> Iterator[str]:
    with arm.emulated("neon") as features:
        yield features


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


class TestFloats:
    @pytest.mark.parametrize(
        ("kernel", "x", "w", "attributes"),
        [
            ("conv_winograd", (1, 16, 9, 9), (24, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
            ("conv_b8", (1, 20, 13, 13), (40, 20, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("conv_b8", (1, 40, 5, 9), (32, 40, 5, 1), {"dilations": [1, 1]}),
            ("conv_p8", (1, 3, 11, 11), (24, 3, 3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
            ("conv_planar4", (1, 16, 9, 9), (24, 16, 1, 1), {}),
            ("conv_planar4_4x6", (1, 3, 21, 21), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
            ("conv_planar4_1x", (1, 2, 7, 23), (1, 2, 5, 5), {"pads": [2, 2, 2, 2]}),
            ("conv_planar4_2x1", (1, 6, 7, 19), (6, 2, 3, 6), {"strides": [1, 5], "pads": [1, 2, 1, 3], "group": 3}),
            ("depthwise_b8_4_k3", (1, 24, 13, 17), (24, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 24}),
            ("depthwise_b8_4_k3_s2", (1, 8, 13, 17), (8, 1, 3, 3), {"strides": [2, 2], "group": 8}),
            ("depthwise_b8_4_k3", (1, 8, 5, 9), (8, 1, 5, 3), {"pads": [2, 1, 2, 1], "group": 8}),
            ("depthwise_b8_7_k5", (1, 24, 13, 17), (24, 1, 5, 5), {"pads": [2, 2, 2, 2], "group": 24}),
        ],
    )
    def test_convolutions(
        self, neon: str, kernel: str, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, object]
    ) -> None:
        inputs = {"x": numbers(*x), "w": numbers(*w), "b": numbers(w[0])}
        ran = check_node("Conv", inputs, attributes, constants=["w", "b"], features=neon, oracle="onnxruntime")
        assert any(symbol.startswith(kernel) for symbol in ran.kernels), ran.kernels

    @pytest.mark.parametrize("sizes", [(7, 33, 29), (1, 64, 50), (13, 17, 4), (5, 6, 16)])
    def test_products(self, neon: str, sizes: tuple[int, int, int]) -> None:
        rows, steps, columns = sizes
        inputs = {"a": numbers(rows, steps), "b": numbers(steps, columns)}
        ran = check_node("MatMul", inputs, constants=["b"], features=neon)
        assert all(symbol.startswith("gemm") for symbol in ran.kernels)

    def test_halves_of_all_bits_are_widened_and_rounded(self, neon: str) -> None:
        halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
        wide = halves.astype(np.float32)
        ran = check_node("Cast", {"x": halves}, {"to": 1}, features=neon, expected=[wide])
        np.testing.assert_array_equal(ran.outputs["y0"], wide)
        halfway = np.nextafter(wide[np.isfinite(wide)] * np.float32(1 + 2.0**-11), np.float32(0))
        with np.errstate(over="ignore"):
            rounded = halfway.astype(np.float16)
        check_node("Cast", {"x": halfway}, {"to": 10}, features=neon, expected=[rounded], tol=0.0)

    def test_the_larger_of_two_is_nan_if_either_is(self, neon: str) -> None:
        a, b = numbers(1, 8, 3, 5), numbers(1, 8, 5, 3).reshape(1, 8, 3, 5)
        a[0, 0, 0, :3], b[0, 0, 0, 2:4] = np.nan, np.nan
        check_node("Max", {"a": a, "b": b}, features=neon, expected=[np.maximum(a, b)])
        check_node("GlobalMaxPool", {"x": a}, features=neon, expected=[a.max((2, 3), keepdims=True)])

    def test_a_residual_block(self, neon: str) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["c", "x"], ["s"]),
            helper.make_node("Sigmoid", ["s"], ["g"]),
            helper.make_node("Mul", ["s", "g"], ["m"]),
            helper.make_node("MaxPool", ["m"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("GlobalAveragePool", ["p"], ["y"]),
        ]
        inputs = {"x": numbers(1, 16, 11, 11), "w": numbers(16, 16, 3, 3) * 0.1}
        check_nodes(nodes, inputs, ["p", "y"], constants=["w"], features=neon, oracle="onnxruntime")


def check_bytes(features: str, x: tuple[int, ...], w: tuple[int, ...], *, is_signed: bool, **attributes: object) -> Ran:
    """A QLinearConv of numbers from the whole range: the product of two times -128 is among them."""
    generator = np.random.default_rng(sum(w))
    kind = np.dtype(np.int8 if is_signed else np.uint8)
    held = np.iinfo(kind)
    inputs = {
        "x": generator.integers(held.min, held.max + 1, x).astype(kind),
        "x scale": np.float32(0.02),
        "x zero": np.array(3, kind),
        "w": generator.integers(-128, 128, w).astype(np.int8),
        "w scale": np.full(w[0], 0.01, np.float32),
        "w zero": np.zeros(w[0], np.int8),
        "y scale": np.float32(2.0),
        "y zero": np.array(5, kind),
        "bias": generator.integers(-1000, 1000, w[0]).astype(np.int32),
    }
    inputs["x"].reshape(-1)[:64] = held.min
    inputs["w"].reshape(-1)[:64] = -128
    return check_node(
        "QLinearConv",
        inputs,
        attributes,
        constants=[name for name in inputs if name != "x"],
        features=features,
        oracle="onnxruntime",
        tol=0.0,
    )


UNITS = {"neon": "long", "dotprod": "dot", "i8mm": "mmla"}


class TestBytes:
    """The same integers whatever multiplies them: those of onnxruntime."""

    @pytest.mark.parametrize("is_signed", [False, True])
    @pytest.mark.parametrize("mask", UNITS)
    def test_convolutions(self, mask: str, is_signed: bool) -> None:
        with arm.emulated(mask) as features:
            ran = check_bytes(features, (1, 16, 7, 7), (24, 16, 3, 3), is_signed=is_signed, pads=[1, 1, 1, 1])
            assert any(symbol.startswith(f"bytes_conv_{UNITS[mask]}") for symbol in ran.kernels), ran.kernels
            check_bytes(features, (1, 24, 5, 5), (20, 24, 1, 1), is_signed=is_signed)
            check_bytes(features, (1, 13, 7, 7), (7, 13, 3, 3), is_signed=is_signed, strides=[2, 2])

    @pytest.mark.parametrize("is_signed", [False, True])
    @pytest.mark.parametrize("mask", ["neon", "dotprod"])
    def test_depthwise_convolutions(self, mask: str, is_signed: bool) -> None:
        with arm.emulated(mask) as features:
            check_bytes(features, (1, 20, 9, 7), (20, 1, 3, 3), is_signed=is_signed, pads=[1, 1, 1, 1], group=20)
            ran = check_bytes(features, (1, 16, 7, 7), (16, 1, 5, 5), is_signed=is_signed, pads=[2, 2, 2, 2], group=16)
        assert any("depthwise_dot" in symbol for symbol in ran.kernels) == (mask == "dotprod")

    @pytest.mark.parametrize("kind", [np.uint8, np.int8])
    @pytest.mark.parametrize("mask", UNITS)
    def test_products(self, mask: str, kind: type) -> None:
        generator, held = np.random.default_rng(1), np.iinfo(kind)
        with arm.emulated(mask) as features:
            for rows, steps, columns in ((7, 32, 29), (1, 64, 50), (5, 17, 4), (6, 40, 64)):
                inputs = {
                    "a": generator.integers(held.min, held.max + 1, (rows, steps)).astype(kind),
                    "b": generator.integers(-128, 128, (steps, columns)).astype(np.int8),
                }
                ran = check_node("MatMulInteger", inputs, constants=["b"], features=features, oracle="onnxruntime")
                unit = "dot" if mask == "i8mm" and steps % 8 else UNITS[mask]
                assert any(symbol.startswith(f"bytes_4_{unit}") for symbol in ran.kernels), ran.kernels

    def test_words_of_activations(self) -> None:
        """Held to exact sums: onnxruntime's are less exact than a step."""
        generator = np.random.default_rng(2)
        x = generator.integers(-32768, 32768, (1, 16, 6, 5)).astype(np.int16)
        w = generator.integers(-127, 128, (16, 16, 1, 1)).astype(np.int8)
        x_scale, w_scale, scale = np.float32(1e-4), np.float32(0.01), np.float32(1e-3)
        sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), w[..., 0, 0].astype(np.int64))
        expected = np.rint(sums * (float(x_scale) * float(w_scale) / float(scale))).clip(-32768, 32767)
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "x scale", "x zero"], ["real x"]),
            helper.make_node("DequantizeLinear", ["w", "w scale", "w zero"], ["real w"]),
            helper.make_node("Conv", ["real x", "real w"], ["real y"]),
            helper.make_node("QuantizeLinear", ["real y", "scale", "zero"], ["y"]),
        ]
        inputs = {"x": x, "x scale": x_scale, "x zero": np.int16(0), "w": w, "w scale": w_scale, "w zero": np.int8(0)}
        inputs |= {"scale": scale, "zero": np.int16(0)}
        constants = [name for name in inputs if name != "x"]
        with arm.emulated("i8mm") as features:
            ran = check_nodes(
                nodes, inputs, ["y"], constants=constants, features=features, expected=[expected.astype(np.int16)]
            )
        assert any("mmla" in symbol for symbol in ran.kernels), ran.kernels


class TestBfloat16:
    """Operands that bfloat16 holds give the results of float32, but for the order of sums."""

    @staticmethod
    def rounded(*shape: int) -> np.ndarray:
        return (numbers(*shape).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    def test_a_convolution(self) -> None:
        inputs = {"x": self.rounded(1, 32, 3, 2), "w": self.rounded(16, 32, 1, 1)}
        with arm.emulated("armv8.6") as features:
            ran = check_node(
                "Conv", inputs, constants=["w"], features=features + "+bf16-neon", oracle="onnxruntime", tol=2e-5
            )
        assert any(symbol.startswith("conv_neon") for symbol in ran.kernels), ran.kernels

    def test_a_product(self) -> None:
        inputs = {"a": self.rounded(3, 32), "b": self.rounded(32, 20)}
        with arm.emulated("armv8.6") as features:
            ran = check_node("MatMul", inputs, constants=["b"], features=features + "+bf16-neon", tol=2e-5)
        assert any(symbol.startswith("gemm_neon") for symbol in ran.kernels), ran.kernels

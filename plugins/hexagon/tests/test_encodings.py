"""Zero points and axes arrive where they belong: quantized operators and concatenations against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hexagon_support import model_of, onnxruntime_outputs
from onnx import helper

from mace_core.session import Session

F32, U8, I8 = np.float32, np.uint8, np.int8
NODE = helper.make_node
SHAPE = (1, 4, 6, 5)

pytestmark = pytest.mark.usefixtures("library_folder")


def sample(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(F32)


class Quantized:
    """Builds a model in QDQ form; every encoding has a zero point of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[np.generic]] = {}

    def encoding(self, name: str, scale: float, zero: int) -> list[str]:
        self.constants |= {f"{name}_scale": np.array(scale, F32), f"{name}_zero": np.array(zero, U8)}
        return [f"{name}_scale", f"{name}_zero"]

    def quantize(self, source: str, name: str, scale: float, zero: int) -> str:
        self.nodes.append(NODE("QuantizeLinear", [source, *self.encoding(name, scale, zero)], [name], name=f"q_{name}"))
        return name

    def dequantize(self, stored: str, encoding: str) -> str:
        result = f"{stored}_as_{encoding}"
        inputs = [stored, f"{encoding}_scale", f"{encoding}_zero"]
        self.nodes.append(NODE("DequantizeLinear", inputs, [result], name=f"d_{result}"))
        return result

    def through(self, source: str, name: str, scale: float, zero: int) -> str:
        """Quantized and back."""
        return self.dequantize(self.quantize(source, name, scale, zero), name)

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(NODE(op, list(inputs), [output], name=output, **attributes))
        return output


def check(
    made: Quantized,
    result: str,
    feeds: dict[str, npt.NDArray[np.float32]],
    shape: Sequence[int],
    step: float,
    tmp_path: Path,
    *,
    devices: Sequence[str] = ("hexagon:v75",),
) -> None:
    """The model runs on no other devices and is within one step of quantization of onnxruntime."""
    made.nodes.append(NODE("Identity", [result], ["y"], name="last"))
    inputs = {name: array.shape for name, array in feeds.items()}
    path = tmp_path / "model.onnx"
    onnx.save(model_of(made.nodes, inputs, {"y": shape}, made.constants), path)
    (expected,) = onnxruntime_outputs(str(path), feeds)
    with Session(path, devices=devices, strict=True, cache=False) as session:
        found = session.run(feeds)["y"]
    assert found.shape == expected.shape
    # what is not quantized is float16 there
    assert np.abs(found - expected).max() <= step + 1e-3 * np.abs(expected).max()
    assert np.ptp(expected) > 15 * step, "the test would notice nothing"


@pytest.mark.parametrize("zeros", [(10, 200, 90), (0, 255, 128)])
def test_operands_and_results_of_a_sum_have_zero_points_of_their_own(
    zeros: tuple[int, int, int], tmp_path: Path
) -> None:
    made = Quantized()
    left = made.through("a", "left", 0.02, zeros[0])
    right = made.through("b", "right", 0.03, zeros[1])
    result = made.through(made.add("Add", [left, right], "sum"), "out", 0.05, zeros[2])
    feeds = {"a": np.abs(sample(*SHAPE)), "b": -np.abs(sample(*SHAPE, seed=1))}
    check(made, result, feeds, SHAPE, 0.05, tmp_path)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_parts_with_other_zero_points_are_joined_on_every_axis(axis: int, tmp_path: Path) -> None:
    made = Quantized()
    parts = [made.through("a", "left", 0.02, 20), made.through("b", "right", 0.03, 130)]
    result = made.through(made.add("Concat", parts, "joined", axis=axis), "out", 0.04, 77)
    other = list(SHAPE)
    other[axis] = 3
    shape = list(SHAPE)
    shape[axis] += 3
    check(made, result, {"a": np.abs(sample(*SHAPE)), "b": sample(*other, seed=1)}, shape, 0.04, tmp_path)


@pytest.mark.parametrize("zero", [0, 60, 255])
def test_a_convolution_reads_and_writes_with_zero_points(zero: int, tmp_path: Path) -> None:
    made = Quantized()
    x = made.through("x", "in", 0.02, 100)
    made.constants |= {"w": np.random.default_rng(0).integers(0, 256, (8, 4, 3, 3)).astype(U8)}
    made.encoding("weights", 0.01, 117)
    w = made.dequantize("w", "weights")
    y = made.add("Conv", [x, w], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    result = made.through(y, "out", 0.1, zero)
    check(made, result, {"x": sample(*SHAPE)}, (1, 8, 6, 5), 0.1, tmp_path)


def test_a_value_read_with_another_zero_point_than_it_was_written_with(tmp_path: Path) -> None:
    """Quantized with 30, read back as if with 90: everything is 60 steps lower.  QNN cannot say that; the CPU can."""
    made = Quantized()
    made.quantize("x", "first", 0.02, 30)
    made.encoding("second", 0.02, 90)
    shifted = made.dequantize("first", "second")
    result = made.through(made.add("Add", [shifted, shifted], "doubled"), "out", 0.05, 160)
    feeds = {"x": sample(*SHAPE) + F32(1)}
    check(made, result, feeds, SHAPE, 0.05, tmp_path, devices=["hexagon:v75", "cpu"])


def test_stored_weights_of_a_float_layer_have_zero_points_per_channel(tmp_path: Path) -> None:
    made = Quantized()
    random = np.random.default_rng(2)
    made.constants |= {
        "w": random.integers(-128, 128, (8, 4, 3, 3)).astype(I8),
        "scales": random.uniform(0.005, 0.02, 8).astype(F32),
        "zeros": random.integers(-50, 50, 8).astype(I8),
    }
    made.add("DequantizeLinear", ["w", "scales", "zeros"], "weights", axis=0)
    y = made.add("Conv", ["x", "weights"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    check(made, y, {"x": sample(*SHAPE)}, (1, 8, 6, 5), 0.02, tmp_path)


def test_quantized_weights_have_zero_points_per_channel(tmp_path: Path) -> None:
    made = Quantized()
    random = np.random.default_rng(2)
    made.constants |= {
        "w": random.integers(-128, 128, (8, 4, 3, 3)).astype(I8),
        "scales": random.uniform(0.005, 0.02, 8).astype(F32),
        "zeros": random.integers(-50, 50, 8).astype(I8),
    }
    made.add("DequantizeLinear", ["w", "scales", "zeros"], "weights", axis=0)
    x = made.through("x", "in", 0.02, 100)
    y = made.add("Conv", [x, "weights"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    result = made.through(y, "out", 0.2, 120)
    check(made, result, {"x": sample(*SHAPE)}, (1, 8, 6, 5), 0.2, tmp_path)


@pytest.mark.parametrize("zero", [0, 128, 200])
@pytest.mark.parametrize("bounds", [(0, None), (-0.5, None), (None, 1.5), (-1, 1)], ids=str)
def test_bounds_that_the_encoding_does_not_imply_are_kept(
    zero: int, bounds: tuple[float | None, float | None], tmp_path: Path
) -> None:
    """With a zero point of 0 the encoding itself cuts off what is negative; with others the operator must."""
    made = Quantized()
    x = made.through("x", "in", 0.02, 100)
    made.constants |= {"w": np.random.default_rng(0).integers(0, 256, (8, 4, 1, 1)).astype(U8)}
    made.encoding("weights", 0.01, 117)
    y = made.add("Conv", [x, made.dequantize("w", "weights")], "conv", kernel_shape=[1, 1])
    if bounds == (0, None):
        cut = made.add("Relu", [y], "cut")
    else:
        names = ["" if bound is None else name for name, bound in zip(("low", "high"), bounds, strict=True)]
        made.constants |= {name: np.array(bound, F32) for name, bound in zip(names, bounds, strict=True) if name}
        cut = made.add("Clip", [y, *names], "cut")
    result = made.through(cut, "out", 0.05, zero)
    check(made, result, {"x": sample(*SHAPE)}, (1, 8, 6, 5), 0.05, tmp_path)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
@pytest.mark.parametrize("convolved", [(True, True), (True, False), (False, False)], ids=str)
def test_concatenations_on_every_axis_in_every_layout(axis: int, convolved: tuple[bool, bool], tmp_path: Path) -> None:
    """Results of convolutions lie with the channels last, what is fed lies as it came."""
    made = Quantized()
    made.constants |= {"w": sample(4, 4, 3, 3, seed=3)}
    other = list(SHAPE)
    other[axis] = 4 if axis % 4 == 1 else 2
    shape = list(SHAPE)
    shape[axis] += other[axis]
    operands = []
    for name, wanted in zip("ab", convolved, strict=True):
        pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
        operands.append(
            made.add("Conv", [name, "w"], f"conv_{name}", **pads) if wanted else made.add("Neg", name, name * 2)
        )
    result = made.add("Concat", operands, "joined", axis=axis)
    check(made, result, {"a": sample(*SHAPE), "b": sample(*other, seed=1)}, shape, 0.05, tmp_path)

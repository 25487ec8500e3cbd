"""Rounding, saturation and zero points at the edges: every family of kernels of bytes, in every instruction set.

Scales are powers of two here, so that many results lie half way between two steps and every float is exact: what a
result has to be is the definition, in whole numbers, and nothing else is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import BYTE_FEATURES, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.quantized.integer_form import INTEGERS
from onnx import helper
from test_byte_conv import exact_sums, requantized

Array = npt.NDArray[Any]
TYPES = (("uint8", "int8", "uint8"), ("int8", "int8", "int8"), ("uint8", "uint8", "int8"))
"""Of two operands and the result: few, since each takes kernels of its own."""

FILLINGS = ("few", "few", "few", "ends", "most", "least", "all")
SHIFTS = (-1, 1, 1, 2, 3, 9)
"""Half of the sums of small numbers end half way between two steps with 1; 9 keeps large ones within the range."""


@dataclass(frozen=True)
class Edges:
    """The numbers of one case.

    Attributes:
        types: of two operands and the result.
        zeros: their zero points, 0 to 4: how far between the ends of the type's range.
        filling: which numbers the operands have.
        shift: the result's scale is 2 to this power.
        seed: of what is left to chance.
    """

    types: tuple[str, str, str]
    zeros: tuple[int, int, int]
    filling: str
    shift: int
    seed: int

    def zero(self, which: int) -> Array:
        """A zero point: at an end of the range, next to it, or in the middle."""
        held = np.iinfo(self.types[which])
        places = (held.min, held.min + 1, (held.min + held.max + 1) // 2, held.max - 1, held.max)
        return np.array(places[self.zeros[which]], held.dtype)

    def numbers(self, which: int, *shape: int, zero: Array | None = None) -> Array:
        """An operand; ``zero``: its zero point, if that is not ``zero(which)``."""
        middle = int(self.zero(which) if zero is None else zero)
        return filled(self.filling, self.types[which], shape, self.seed + which, middle)

    @property
    def scale(self) -> np.float32:
        """Of the result; those of operands are 1."""
        return np.float32(2.0**self.shift)

    def stored(self, distance: Array) -> Array:
        """Distances from the zero point, in steps of the result, as it holds them."""
        held = np.iinfo(self.types[2])
        with np.errstate(invalid="ignore"):
            whole = np.rint(distance.astype(np.float32)).astype(np.float64) + float(self.zero(2))
        return whole.clip(held.min, held.max).astype(held.dtype)


def filled(filling: str, dtype: str, shape: tuple[int, ...], seed: int, middle: int = 0) -> Array:
    """Bytes: both ends of the range, one of them, all numbers in turn, or numbers at most 2 away from ``middle``."""
    held, rng = np.iinfo(dtype), np.random.default_rng(seed)
    if filling == "ends":
        return rng.choice(np.array([held.min, held.max], dtype), shape)
    if filling in ("most", "least"):
        return np.full(shape, held.max if filling == "most" else held.min, dtype)
    if filling == "all":
        return (np.arange(np.prod(shape)) * 7 + seed).astype(np.uint8).view(dtype).reshape(shape)
    return (middle + rng.integers(-2, 3, shape)).clip(held.min, held.max).astype(dtype)


edges = st.builds(
    Edges,
    types=st.sampled_from(TYPES),
    zeros=st.tuples(*[st.integers(0, 4)] * 3),
    filling=st.sampled_from(FILLINGS),
    shift=st.sampled_from(SHIFTS),
    seed=st.integers(0, 9),
)


# --- convolutions -----------------------------------------------------------------------------------------------------


def convolution_inputs(
    case: Edges, x: tuple[int, ...], w: tuple[int, ...], outputs: int, *, any_zero: bool = True
) -> dict[str, Array]:
    """Of a QLinearConv; every other output has half the scale.

    ``any_zero``: also of weights; else such that signed bytes hold their distance from it.
    """
    w_zero = case.zero(1) if any_zero else np.array(128 if case.types[1] == "uint8" else 0, case.types[1])
    inputs = {
        "x": case.numbers(0, *x),
        "x_scale": np.float32(1),
        "x_zero": case.zero(0),
        "w": case.numbers(1, *w, zero=w_zero),
        "w_scale": np.where(np.arange(outputs) % 2, 0.5, 1).astype(np.float32),
        "w_zero": np.full(outputs, w_zero),
        "y_scale": case.scale,
        "y_zero": case.zero(2),
        "bias": np.arange(outputs, dtype=np.int32) - outputs // 2,
    }
    return {name: np.asarray(array) for name, array in inputs.items()}


def check_convolution(case: Edges, features: str | None, x: tuple[int, ...], w: tuple[int, ...], groups: int) -> None:
    inputs = convolution_inputs(case, x, w, w[0], any_zero=groups == 1)
    attributes = {"pads": [1, 1, 0, 1], "group": groups}
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], attributes)
    low, high = np.sort(filled("all", case.types[2], (2,), case.seed)).tolist()
    check_node(
        "QLinearConv",
        inputs,
        {**attributes, "minimum": low, "maximum": high} if case.seed % 2 else attributes,
        domain=INTEGERS if case.seed % 2 else "",
        expected=[requantized(sums, inputs, low, high) if case.seed % 2 else requantized(sums, inputs)],
        constants=[name for name in inputs if name != "x"],
        features=features,
    )


def dense(case: Edges, features: str | None) -> None:
    check_convolution(case, features, (1, 64, 5, 7), (35, 64, 3, 3), 1)


def stem(case: Edges, features: str | None) -> None:
    check_convolution(case, features, (1, 3, 6, 7), (17, 3, 3, 3), 1)


def depthwise(case: Edges, features: str | None) -> None:
    check_convolution(case, features, (1, 37, 5, 6), (37, 1, 3, 3), 37)


def transposed(case: Edges, features: str | None) -> None:
    inputs = convolution_inputs(case, (1, 6, 3, 4), (6, 19, 2, 2), 19, any_zero=False)
    x, w = (inputs[n].astype(np.int64) - int(inputs[f"{n}_zero"].reshape(-1)[0]) for n in ("x", "w"))
    sums = np.einsum("nchw,cokl->nohkwl", x, w).reshape(1, 19, 6, 8)  # strides as large as the kernel
    check_node(
        "QLinearConvTranspose",
        inputs,
        {"strides": [2, 2]},
        domain=INTEGERS,
        expected=[requantized(sums, inputs)],
        constants=[name for name in inputs if name != "x"],
        features=features,
    )


def followed(case: Edges, features: str | None) -> None:
    """A residual sum and a table in the epilogue of a convolution."""
    inputs = convolution_inputs(case, (1, 20, 3, 5), (33, 20, 1, 1), 33)
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], {})
    held = requantized(sums, inputs)
    other = case.numbers(0, *held.shape)
    half = (held.astype(np.float64) - float(case.zero(2)) + other.astype(np.float64) - float(case.zero(0))) / 2
    table = np.random.default_rng(case.seed).integers(0, 256, 256).astype(np.uint8)
    summed = case.stored(half)
    one, two = np.float32(1), np.float32(2)
    inputs |= {"other": other, "one": np.asarray(one), "two": np.asarray(two), "table": table}
    operands = ["y", "one", "y_zero", "other", "one", "x_zero", "two", "y_zero"]
    nodes = [
        helper.make_node("QLinearConv", [*inputs][:9], ["y"], name="conv", domain=INTEGERS),
        helper.make_node("QLinearAdd", operands, ["sum"], name="add", domain=INTEGERS),
        helper.make_node("Table", ["sum", "table"], ["z"], name="table", domain=INTEGERS),
    ]
    found = [held, summed, table[summed.view(np.uint8)]]
    ran = check_nodes(
        nodes,
        inputs,
        ["z"],
        constants=[name for name in inputs if name not in ("x", "other")],
        features=features,
        oracle=lambda model, feeds: found,
    )
    assert any(step.startswith("QLinearConv+QLinearAdd+Table") for step in ran.steps), ran.steps


# --- products ---------------------------------------------------------------------------------------------------------


def check_product(case: Edges, features: str | None, m: int, k: int, n: int, *, known: bool) -> None:
    a, b = case.numbers(0, m, k), case.numbers(1, k, n)
    scales = np.where(np.arange(n) % 2, 0.5, 1).astype(np.float32)
    sums = (a.astype(np.int64) - int(case.zero(0))) @ (b.astype(np.int64) - int(case.zero(1)))
    inputs = {
        "a": a,
        "as": np.float32(1),
        "az": case.zero(0),
        "b": b,
        "bs": scales,
        "bz": np.full(n, case.zero(1)),
        "ys": case.scale,
        "yz": case.zero(2),
    }
    constants = [name for name in inputs if name not in (("a",) if known else ("a", "b"))]
    expected = case.stored(sums.astype(np.float32) * (scales / case.scale))
    check_node("QLinearMatMul", inputs, constants=constants, expected=[expected], features=features)


def products(case: Edges, features: str | None) -> None:
    check_product(case, features, 17, 70, 40, known=True)


def products_of_activations(case: Edges, features: str | None) -> None:
    check_product(case, features, 32, 66, 33, known=False)


def low_bits(case: Edges, features: str | None) -> None:
    """Whole numbers times 4-bit weights whose scales are powers of two: float32 holds every sum."""
    k, n, block = 64, 21, 32
    codes = filled(case.filling, "uint8", (n, k), case.seed) >> 4
    zeros = np.full((n, k // block), (0, 1, 8, 14, 15)[case.zeros[1]], np.uint8)
    scales = np.full((n, k // block), 0.5)
    scales[:, 1] = 0.25
    x = filled(case.filling, "int8", (2, k), case.seed + 1).astype(np.float32)
    matrix = (codes.reshape(n, -1, block) - zeros[:, :, None].astype(np.float64)) * scales[:, :, None]
    inputs = {
        "x": x,
        "w": (codes[:, ::2] | codes[:, 1::2] << 4).reshape(n, -1, block // 2),
        "s": scales.reshape(-1).astype(np.float32),
        "z": (zeros[:, ::2] | zeros[:, 1::2] << 4).reshape(-1),
    }
    check_node(
        "MatMulNBits",
        inputs,
        {"K": k, "N": n, "bits": 4, "block_size": block},
        domain="com.microsoft",
        constants=("w", "s", "z"),
        expected=[(x.astype(np.float64) @ matrix.reshape(n, k).T).astype(np.float32)],
        features=features,
        tol=0,
    )


# --- element by element -----------------------------------------------------------------------------------------------


def check_pair(case: Edges, features: str | None, op: str, distance: Callable[[Array, Array], Array]) -> None:
    a, b = case.numbers(0, 3, 90), case.numbers(1, 3, 90)
    left, right = a.astype(np.float32) - np.float32(case.zero(0)), b.astype(np.float32) - np.float32(case.zero(1))
    one = np.asarray(np.float32(1))
    inputs = {
        "a": a,
        "as": one,
        "az": case.zero(0),
        "b": b,
        "bs": one,
        "bz": case.zero(1),
        "ys": np.asarray(case.scale),
        "yz": case.zero(2),
    }
    with np.errstate(all="ignore"):
        found = distance(left, right) / case.scale
    held = np.iinfo(case.types[2])
    expected = case.stored(np.where(np.isnan(found), -np.inf, found)).clip(held.min, held.max)
    constants = [name for name in inputs if name not in "ab"]
    check_node(op, inputs, domain=INTEGERS, expected=[expected], constants=constants, features=features)


def sums(case: Edges, features: str | None) -> None:
    check_pair(case, features, "QLinearAdd", np.add)


def differences(case: Edges, features: str | None) -> None:
    check_pair(case, features, "QLinearSub", np.subtract)


def multiplied(case: Edges, features: str | None) -> None:
    check_pair(case, features, "QLinearMul", np.multiply)


def divided(case: Edges, features: str | None) -> None:
    """Also by zero: infinities saturate, and what is no number is the lowest one."""
    check_pair(case, features, "QLinearDiv", np.divide)


def tables(case: Edges, features: str | None) -> None:
    table = filled("ends", case.types[2], (256,), case.seed)
    x = filled("all", case.types[0], (3, 97), case.seed)
    inputs = {"x": x, "table": table}
    how: dict[str, Any] = {"domain": INTEGERS, "constants": ("table",), "features": features}
    check_node("Table", inputs, expected=[table[x.view(np.uint8)]], **how)


# --- means and Softmax ------------------------------------------------------------------------------------------------


def check_single(case: Edges, features: str | None, op: str, x: Array, right: Array, **attributes: Any) -> None:
    """An operator of one value, of pixels that lie as a convolution has left them and of others."""
    one = np.asarray(np.float32(1))
    inputs = {"x": x, "xs": one, "xz": case.zero(0), "ys": np.asarray(case.scale), "yz": case.zero(2)}
    constants = [name for name in inputs if name != "x"]
    how: dict[str, Any] = {"domain": INTEGERS, "features": features}
    check_node(op, inputs, attributes, expected=[right], constants=constants, **how)
    if x.ndim != 4:
        return
    inputs["w"], inputs["wz"] = np.eye(x.shape[1], dtype=np.int8)[..., None, None], np.zeros(1, np.int8)
    conv = ["x", "xs", "xz", "w", "xs", "wz", "xs", "xz"]
    nodes = [
        helper.make_node("QLinearConv", conv, ["copied"], name="conv", domain=INTEGERS),
        helper.make_node(op, ["copied", "xs", "xz", "ys", "yz"], ["y"], name="op", domain=INTEGERS, **attributes),
    ]
    constants = [name for name in inputs if name != "x"]
    found = [x, right]
    check_nodes(nodes, inputs, ["y"], constants=constants, features=features, oracle=lambda model, feeds: found)


def means(case: Edges, features: str | None) -> None:
    """Of as many numbers as a power of two, so that they, too, are exact."""
    case = replace(case, types=(case.types[0], case.types[1], case.types[0]))  # each pair has kernels to compile
    x = case.numbers(0, 1, 70, 4, 8)
    distance = x.astype(np.float64) - float(case.zero(0))
    whole = case.stored(distance.mean(axis=(2, 3), keepdims=True) / case.scale)
    check_single(case, features, "QLinearGlobalAveragePool", x, whole)
    check_single(case, features, "QLinearReduceMean", x[0], case.stored(distance[0].mean(-1) / case.scale), axes=[2])
    windows = distance.reshape(1, 70, 2, 2, 4, 2).mean(axis=(3, 5))
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check_single(case, features, "QLinearAveragePool", x, case.stored(windows / case.scale), **pool)


def softmax(case: Edges, features: str | None) -> None:
    """Rows that are all alike, or in which the largest numbers share everything."""
    x = filled("ends" if case.filling == "all" else case.filling, case.types[0], (5, 64), case.seed)
    x[0] = x[0, 0]
    far = np.float32(64)  # exp(-64) is no step of anything
    powers = (x == x.max(axis=1, keepdims=True)).astype(np.float64)
    powers /= powers.sum(axis=1, keepdims=True)
    held = np.iinfo(case.types[2])
    whole = (np.rint((powers * 256).astype(np.float32)) + float(case.zero(2))).clip(held.min, held.max)
    inputs = {
        "x": x,
        "xs": np.asarray(far),
        "xz": case.zero(0),
        "ys": np.asarray(np.float32(1 / 256)),
        "yz": case.zero(2),
    }
    constants = [name for name in inputs if name != "x"]
    how: dict[str, Any] = {"domain": INTEGERS, "constants": constants, "features": features}
    check_node("QLinearSoftmax", inputs, {"axis": -1}, expected=[whole.astype(held.dtype)], **how)


# --- from and to floats -----------------------------------------------------------------------------------------------


def borders(case: Edges, features: str | None) -> None:
    """Numbers half way between steps, the largest floats, infinities, and what is no number."""
    zero, scale = case.zero(2), np.asarray(case.scale)
    steps = (np.arange(-600, 600) / 2).astype(np.float32)
    x = np.concatenate([steps * case.scale, np.array([np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-45], np.float32)])
    right = case.stored((x.astype(np.float64) / float(scale)).clip(-1e6, 1e6))
    x, right = np.append(x, np.float32(np.nan)), np.append(right, np.iinfo(zero.dtype).min).astype(zero.dtype)
    inputs = {"x": x, "scale": scale, "zero": zero}
    constants = ("scale", "zero")
    check_node("QuantizeLinear", inputs, expected=[right], constants=constants, features=features)
    numbers = np.arange(256, dtype=np.uint8).view(zero.dtype)
    floats = (numbers.astype(np.float32) - np.float32(zero)) * case.scale
    inputs = {"x": numbers, "scale": scale, "zero": zero}
    check_node("DequantizeLinear", inputs, expected=[floats], constants=constants, features=features, tol=0)


FAMILIES = (
    *(dense, stem, depthwise, transposed, followed, products, products_of_activations, low_bits),
    *(sums, differences, multiplied, divided, tables, means, softmax, borders),
)


@pytest.mark.parametrize("features", BYTE_FEATURES)
@pytest.mark.parametrize("check_family", FAMILIES, ids=lambda check: check.__name__)
@given(case=edges)
@settings(max_examples=6, deadline=None)
def test_edges(check_family: Callable[[Edges, str | None], None], features: str | None, case: Edges) -> None:
    check_family(case, features)

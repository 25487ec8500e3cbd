"""Floats stored in bytes by the range of their row: the formulas of the nodes that say so, for rows of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from harness import FEATURES, ask_reference, check_node, check_nodes, make_model, sample
from mace_cpu.quantized.rows.lower import PIECE
from mace_cpu.shared.program.floats_last import ROWS
from onnx import helper

Array = npt.NDArray[Any]
F32, F64 = np.float32, np.float64
LENGTHS = (1, 3, 15, 16, 17, 48, 64, 100, 2 * PIECE + 5)


def stored(x: Array, rule: str) -> tuple[Array, Array, Array]:
    """Bytes of the rows of ``x``, the byte for 0 of each and the size of its step, an operation after the other."""
    low, high = np.minimum(x.min(-1), F32(0)), np.maximum(x.max(-1), F32(0))
    with np.errstate(all="ignore"):
        span = high - low
        if rule == "even":
            per_unit = np.where(span == 0, F32(1), F32(255) / span)
            size = F32(1) / per_unit
            zero = _zero(low * per_unit, high * per_unit)
        else:
            wide = np.where(span == 0, 1.0, span.astype(F64) / 255.0)
            size = wide.astype(F32)
            per_unit = F32(1) / size
            zero = np.where(span == 0, F32(0), _zero(low.astype(F64) / wide, high.astype(F64) / wide).astype(F32))
        steps = x * per_unit[:, None]
        steps = np.rint(steps) if rule == "even" else np.trunc(steps + np.where(steps < 0, F32(-0.5), F32(0.5)))
        place = np.clip(steps + (zero + F32(128))[:, None], 0, 255)
    return _bytes(place), _bytes(zero + 128), size


def _bytes(place: Array) -> Array:
    return np.nan_to_num(place, nan=0).astype(np.uint8)


def _zero(low: Array, high: Array) -> Array:
    error = (low - 128) + (high + 127)
    found: Array = np.rint(np.clip(np.where(error > 0, -128 - low, 127 - high), -128, 127))
    return found


def check(x: Array, rule: str, features: str | None, threads: int = 1) -> None:
    content, zero, size = stored(x, rule)
    for axes, shape in (([1], (len(x), 1)), ([-1], (len(x), 1))):
        check_node(
            "QuantizeRows",
            [x],
            {"axes": axes, "rule": rule},
            outputs=3,
            domain=ROWS,
            features=features,
            threads=threads,
            oracle=lambda model, feeds, shape=shape: [content, zero.reshape(shape), size.reshape(shape)],
            tol=0,
        )


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("rule", ["even", "away"])
@pytest.mark.parametrize("rows", [1, 5, 16, 37])
def test_rows_of_any_length(rows: int, rule: str, features: str | None) -> None:
    random = np.random.default_rng(rows)
    for length in LENGTHS:
        x = (random.standard_normal((rows, length)) * 10.0 ** random.integers(-6, 7, (rows, 1))).astype(F32)
        x[0] = 0
        x[-1] = np.abs(x[-1])
        check(x, rule, features, threads=2)


@pytest.mark.parametrize("features", FEATURES)
def test_halves_go_to_even_or_away_from_zero(features: str | None) -> None:
    """Steps of 1: what lies between two of them is exactly a half."""
    x = np.arange(-100, 156, dtype=F32)[None].repeat(3, 0)
    x[1, 1:-1] += F32(0.5)
    x[2, 1:-1] -= F32(0.5)
    even, away = (stored(x, rule)[0] for rule in ("even", "away"))
    assert (even != away).any()
    check(x, "even", features)
    check(x, "away", features)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("rule", ["even", "away"])
@pytest.mark.parametrize("length", [1, 16, 20, 3 * PIECE])
def test_what_is_no_number_stays_in_its_row(length: int, rule: str, features: str | None) -> None:
    x = np.random.default_rng(5).standard_normal((20, length)).astype(F32)
    for row, value in ((3, np.inf), (7, np.nan), (16, -np.inf)):
        x[row, length // 2] = value
    check(x, rule, features)


def joined_and_pooled(pool: str, channels: tuple[int, int], **attributes: Any) -> tuple[list[Any], dict[str, Array]]:
    """Two pictures whose channels lie last, joined, pooled and stored in bytes pixel by pixel."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["z"], ["b"], perm=[0, 3, 1, 2]),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node(pool, ["c"], ["p"], **attributes),
        helper.make_node("QuantizeRows", ["p"], ["content", "zero", "size"], domain=ROWS, axes=[1], rule="even"),
    ]
    feeds = {name: sample((2, 9, 11, count)) for name, count in zip("xz", channels, strict=True)}
    return nodes, feeds


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("pool", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MaxPool", {"kernel_shape": [2, 3], "dilations": [2, 1], "ceil_mode": 1, "strides": [3, 2]}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1}),
        ("AveragePool", {"kernel_shape": [4, 2], "strides": [2, 2]}),
    ],
)
@pytest.mark.parametrize("channels", [(16, 16), (16, 5), (3, 14), (40, 24)])
def test_what_stands_before_bytes_leaves_channels_last(
    channels: tuple[int, int], pool: str, attributes: dict[str, Any], features: str | None
) -> None:
    nodes, feeds = joined_and_pooled(pool, channels, **attributes)

    def oracle(model: onnx.ModelProto, given: dict[str, Array]) -> list[Array]:
        floats = make_model(nodes[:-1], given, "abcp", 21)
        found = ask_reference(floats, given)
        pixels = np.moveaxis(found[-1], 1, -1)
        content, zero, size = (
            np.moveaxis(each.reshape(*pixels.shape[:-1], -1), -1, 1)
            for each in stored(pixels.reshape(-1, pixels.shape[-1]), "even")
        )
        return [*found, content, zero, size]

    ran = check_nodes(nodes, feeds, ["content", "zero", "size"], oracle=oracle, features=features, threads=2, tol=0)
    assert any(kernel.startswith("pool_last") for kernel in ran.kernels) and "Concat" in ran.steps, ran
    assert "Transpose" not in ran.steps and "ToBlocked" not in ran.steps, ran.steps


def test_floats_that_others_read_too_lie_as_they_want() -> None:
    """A reader in the order of ONNX: nothing is left for others to turn."""
    nodes, feeds = joined_and_pooled("MaxPool", (16, 16), kernel_shape=[2, 2])
    nodes.append(helper.make_node("Relu", ["p"], ["r"]))
    wanted = ask_reference(make_model([*nodes[:-2], nodes[-1]], feeds, "abcpr", 21), feeds)

    def oracle(model: onnx.ModelProto, given: dict[str, Array]) -> list[Array]:
        shape = wanted[3].shape
        one = np.zeros((shape[0], 1, *shape[2:]), F32)
        return [*wanted[:4], np.zeros(shape, np.uint8), one.astype(np.uint8), one, wanted[4]]

    ran = check_nodes(nodes, feeds, ["r"], oracle=oracle)
    assert not any(kernel.startswith("pool_last") for kernel in ran.kernels)

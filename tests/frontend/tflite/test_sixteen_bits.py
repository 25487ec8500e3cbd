"""Functions of 16 bits are LiteRT's number for number: of all 65,536 numbers, at any scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from lite_models import Arrays, LiteModel, lite_results, mace_results

from mace_core.frontend.load import load_model

EVERY = np.arange(-32768, 32768).astype(np.int16)
UNIT = 2.0**-15

FUNCTIONS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "TANH": ("TANH", "", {}, True),
    "LOGISTIC": ("LOGISTIC", "", {}, True),
    "EXP": ("EXP", "ExpOptions", {}, False),
    "GELU": ("GELU", "GeluOptions", {"approximate": False}, False),
    "GELU by tanh": ("GELU", "GeluOptions", {"approximate": True}, False),
    "LOG": ("LOG", "", {}, False),
    "RSQRT": ("RSQRT", "", {}, False),
    "SOFTMAX": ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}, True),
}
"""Operator, options, their fields, and whether results are from -1 to 1."""


OF_THE_C_LIBRARY = ("GELU", "GELU by tanh")
"""LiteRT takes erfc and tanh of float32 from the C library, whose last bit is not the same everywhere: few places of
a table may be one step off."""
FEW = 1024


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_sixteen_bits_gives_litert_s_numbers(name: str, examples: int) -> None:
    kind, options, fields, is_unit = FUNCTIONS[name]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.explicit, Phase.generate])  # fmt: skip
    @given(scale=st.floats(-13, -1), output=st.floats(-13, -1))
    @example(scale=-8.317766166719343, output=-8.3)  # 2**-12: no table, but a series
    @example(scale=-7.624618986159398, output=-8.3)  # 2**-11
    @example(scale=-5.41031712075654, output=-11.704998693001315)  # rounded after each operation
    def check(scale: float, output: float) -> None:
        shape = (256, 256) if kind == "SOFTMAX" else (65536,)
        model = LiteModel()
        graph = model.graph()
        x = graph.input("x", shape, "int16", scale=np.exp(scale))
        y = graph.output("y", shape, "int16", scale=UNIT if is_unit else np.exp(output))
        graph.op(kind, [x], [y], options, version=2, **fields)
        numbers = np.random.default_rng(0).permutation(EVERY) if kind == "SOFTMAX" else EVERY
        values = numbers.reshape(shape)
        if kind in ("LOG", "RSQRT"):  # LiteRT refuses numbers that are not positive
            values = np.where(values <= 0, 1, values).astype(np.int16)
        _assert_same(model.bytes(), {"x": values}, few=FEW if name in OF_THE_C_LIBRARY else 0)

    check()


@pytest.mark.parametrize("corners, centers", [(True, False), (False, True), (False, False)])
def test_images_of_sixteen_bits_are_resized_in_litert_s_integers(corners: bool, centers: bool) -> None:
    model = LiteModel()
    graph = model.graph()
    x = graph.input("x", (1, 5, 4, 3), "int16", scale=0.01)
    y = graph.output("y", (1, 97, 83, 3), "int16", scale=0.01)
    size = graph.constant("size", [97, 83], "int32")
    graph.op("RESIZE_BILINEAR", [x, size], [y], "ResizeBilinearOptions", version=4,
             alignCorners=corners, halfPixelCenters=centers)  # fmt: skip
    values = np.random.default_rng(1).integers(-32768, 32768, (1, 5, 4, 3)).astype(np.int16)
    _assert_same(model.bytes(), {"x": values})


def test_sixteen_bits_around_another_number_than_0_are_computed_as_real_numbers() -> None:
    """LiteRT refuses them; nothing is taken from a table that does not fit."""
    model = LiteModel()
    graph = model.graph()
    x = graph.input("x", (5,), "int16", scale=0.001, zero=10)
    graph.op("TANH", [x], [graph.output("y", (5,), "int16", scale=UNIT)], version=2)
    codes = np.array([10, 1010, -990, 32767, -32768], np.int16)
    (found,) = mace_results(model.bytes(), {"x": codes})
    expected = np.clip(np.round(np.tanh((codes - 10.0) * 0.001) / UNIT), -32768, 32767)
    assert np.abs(found["y"] - expected).max() <= 1


def _assert_same(model: bytes, feeds: Arrays, few: int = 0) -> None:
    """``few``: so many numbers may be one step off."""
    (expected,), (found,) = lite_results(model, feeds), mace_results(model, feeds)
    assert found["y"].dtype == np.int16
    steps = np.abs(found["y"].astype(np.int64) - expected["y"])
    assert steps.max() <= (1 if few else 0) and (steps > 0).sum() <= few, (
        f"{(steps > 0).sum()} numbers differ, by up to {steps.max()}"
    )


@pytest.mark.parametrize("size", [[2**31 - 1, 2**31 - 1], [0, 5], [-3, 5], [5]])
def test_no_size_in_a_file_makes_lists_of_any_length(size: list[int]) -> None:
    model = LiteModel()
    graph = model.graph()
    x = graph.input("x", (1, 5, 4, 3), "int16", scale=0.01)
    y = graph.output("y", (1, 7, 8, 3), "int16", scale=0.01)
    graph.op("RESIZE_BILINEAR", [x, graph.constant("size", size, "int32")], [y], "ResizeBilinearOptions", version=4)
    graph = load_model(model.bytes())
    assert sum(value.constant.nbytes for value in graph.initializers.values() if value.constant is not None) < 1000

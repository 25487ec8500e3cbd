"""The LSTM of 8 bits with a cell of 16: LiteRT's numbers, step after step and run after run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lite_models import Arrays, LiteModel, lite_results, mace_results

from mace_core.errors import ModelError
from mace_core.frontend.load import load_model


def lstm(seed: int, *, intermediates: bool = True) -> tuple[bytes, list[Arrays]]:
    """Random weights, scales and sizes, and three runs."""
    rng = np.random.default_rng(seed)
    batch, steps, features, units = (int(size) for size in rng.integers(1, 9, 4))
    time_major, bits = bool(rng.integers(2)), int(rng.integers(9, 16))
    scale, zero = float(np.exp(rng.uniform(-6, -4))), int(rng.integers(-20, 20))
    model = LiteModel()
    g = model.graph()
    shape = (steps, batch, features) if time_major else (batch, steps, features)
    x = g.input("x", shape, "int8", scale=float(np.exp(rng.uniform(-5, -2))), zero=int(rng.integers(-128, 128)))

    def weights(name: str, depth: int) -> list[int]:
        return [
            g.constant(f"{name}{at}", rng.integers(-127, 128, (units, depth)).astype(np.int8),
                       scale=float(np.exp(rng.uniform(-6, -4)))) for at in range(4)
        ]  # fmt: skip

    into, back = weights("w", features), weights("r", units)
    biases = [g.constant(f"b{at}", rng.integers(-9000, 9000, units).astype(np.int32), scale=1e-4) for at in range(4)]
    h = g.tensor("h", (batch, units), "int8", scale=scale, zero=zero)
    c = g.tensor("c", (batch, units), "int16", scale=2.0**-bits)
    for number in (h, c):
        g.table.tensors[number].isVariable = True
    inner = [g.tensor(f"i{at}", (), "int16", scale=1 / 4096) for at in range(4)]
    inner.append(g.tensor("hidden", (), "int8", scale=scale, zero=zero))
    y = g.output("y", (*shape[:2], units), "int8", scale=scale, zero=zero)
    g.op("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *into, *back, -1, -1, -1, *biases, -1, -1, h, c, -1, -1, -1, -1], [y],
         "UnidirectionalSequenceLSTMOptions", version=2, fusedActivationFunction=4, timeMajor=time_major)  # fmt: skip
    if intermediates:
        g.table.operators[-1].intermediates = inner
    return model.bytes(), [{"x": rng.integers(-128, 128, shape).astype(np.int8)} for _ in range(3)]


@pytest.mark.parametrize("examples", [2, pytest.param(60, marks=pytest.mark.full)])
def test_it_gives_litert_s_numbers(examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        model, runs = lstm(seed)
        for found, expected in zip(mace_results(model, *runs), lite_results(model, *runs), strict=True):
            assert np.array_equal(found["y"], expected["y"])

    check()


def test_results_without_an_encoding_are_told() -> None:
    with pytest.raises(ModelError, match="says nowhere how its results are quantized"):
        load_model(lstm(0, intermediates=False)[0])

"""Recurrent layers on the reference device: sequences of their own lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from scheduler_models import model, op, tensor

from mace_core.session import Session

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCHES, WIDTH, HIDDEN = 5, 4, 3, 2


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("has_states", [False, True])
def test_sequences_end_where_they_are_said_to(kind: str, direction: str, has_states: bool) -> None:
    """As each sequence alone, cut to its length, gives; behind its end all is zero."""
    rng = np.random.default_rng(1)
    directions = 2 if direction == "bidirectional" else 1
    rows = GATES[kind] * HIDDEN
    feeds: dict[str, Any] = {
        "x": rng.standard_normal((STEPS, BATCHES, WIDTH)).astype(np.float32),
        "w": rng.standard_normal((directions, rows, WIDTH)).astype(np.float32),
        "r": rng.standard_normal((directions, rows, HIDDEN)).astype(np.float32),
        "lengths": np.array([5, 2, 0, 3], np.int32),
    }
    states = [name for name in ("h", "c")[: 2 if kind == "LSTM" else 1] if has_states]
    feeds |= {name: rng.standard_normal((directions, BATCHES, HIDDEN)).astype(np.float32) for name in states}
    results = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    found = _run(kind, direction, feeds, states, results)
    for batch, length in enumerate(feeds["lengths"]):
        one = slice(batch, batch + 1)
        if length == 0:
            assert not found["y"][:, :, batch].any()
            for name, last in zip(("h", "c"), results[1:], strict=False):
                expected = feeds[name][:, one] if has_states else np.zeros((directions, 1, HIDDEN), np.float32)
                np.testing.assert_array_equal(found[last][:, one], expected)
            continue
        alone = {**feeds, "x": feeds["x"][:length, one], "lengths": None} | {n: feeds[n][:, one] for n in states}
        expected = _run(kind, direction, alone, states, results)
        np.testing.assert_allclose(found["y"][:length, :, one], expected["y"], rtol=1e-6)
        assert not found["y"][length:, :, batch].any()
        for last in results[1:]:
            np.testing.assert_allclose(found[last][:, one], expected[last], rtol=1e-6)


def _run(kind: str, direction: str, feeds: dict[str, Any], states: list[str], results: list[str]) -> dict[str, Any]:
    given = {name: value for name, value in feeds.items() if value is not None}
    lengths = "lengths" if "lengths" in given else ""
    node = op(kind, ["x", "w", "r", "", lengths, *states], results, hidden_size=HIDDEN, direction=direction)
    kinds = {np.dtype(np.int32): 6}
    inputs = [
        helper.make_tensor_value_info(name, kinds.get(value.dtype, 1), value.shape) for name, value in given.items()
    ]
    built = model([node], inputs, [tensor(name, None) for name in results], opset=14)
    with Session(built, devices=["reference"], strict=True, cache=False) as session:
        return session.run(given)

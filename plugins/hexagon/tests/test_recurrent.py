"""RNN, GRU and LSTM in all directions, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hexagon_support import Array, onnxruntime_outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from test_integers import model, run

from mace_core.errors import StrictPlacementError

pytestmark = pytest.mark.usefixtures("library_folder")

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@settings(max_examples=14, deadline=None)
@given(
    kind=st.sampled_from(sorted(GATES)),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    has_bias=st.booleans(),
    has_states=st.booleans(),
    has_peepholes=st.booleans(),
    after=st.booleans(),
)
def test_recurrent_operators(
    kind: str,
    direction: str,
    sizes: tuple[int, int, int, int],
    has_bias: bool,
    has_states: bool,
    has_peepholes: bool,
    after: bool,
) -> None:
    steps, batch, width, hidden = sizes
    directions, gates = 1 + (direction == "bidirectional"), GATES[kind]
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> Array:
        return random.uniform(-1, 1, shape).astype(np.float32)

    constants = {"W": numbers(directions, gates * hidden, width), "R": numbers(directions, gates * hidden, hidden)}
    inputs = ["x", "W", "R", "", "", ""]
    if has_bias:
        inputs[3], constants["B"] = "B", numbers(directions, 2 * gates * hidden)
    feeds = {"x": numbers(steps, batch, width)}
    if has_states:
        inputs[5], feeds["h"] = "h", numbers(directions, batch, hidden)
    if kind == "LSTM":
        inputs += ["c" if has_states else "", "P" if has_peepholes else ""]
        if has_states:
            feeds["c"] = numbers(directions, batch, hidden)
        if has_peepholes:
            constants["P"] = numbers(directions, 3 * hidden)
    attributes: dict[str, Any] = {"linear_before_reset": int(after)} if kind == "GRU" else {}
    outputs = ["y", "y_h", *(["y_c"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, inputs, outputs, name=kind, hidden_size=hidden, direction=direction, **attributes)
    made = model([node], feeds, dict.fromkeys(outputs, "float32"), **constants)
    found = run(made, feeds)
    for name, expected in zip(outputs, onnxruntime_outputs(made.SerializeToString(), feeds), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=2e-2, err_msg=name)  # Tanh alone is off by 0.006 there


@pytest.mark.parametrize("attributes", [{"clip": 0.5}, {"activations": ["Relu"]}], ids=str)
def test_other_forms_are_declined(attributes: dict[str, Any]) -> None:
    feeds = {"x": np.ones((2, 1, 3), np.float32)}
    held = {"W": np.ones((1, 4, 3), np.float32), "R": np.ones((1, 4, 4), np.float32)}
    node = helper.make_node("RNN", ["x", "W", "R"], ["", "y"], name="rnn", hidden_size=4, **attributes)
    with pytest.raises(StrictPlacementError, match="not offered"):
        run(model([node], feeds, {"y": "float32"}, **held), feeds)

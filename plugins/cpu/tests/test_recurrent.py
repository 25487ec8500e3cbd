"""LSTM, GRU and RNN in all directions, with every optional input and attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Array, ask_onnxruntime, check_node, make_attribute, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from mace_core.errors import ProviderError

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def tensors(
    op: str, directions: int = 1, steps: int = 5, batch: int = 3, size: int = 6, hidden: int = 7, dtype: str = "float32"
) -> dict[str, Array | None]:
    """All inputs of a cell, random."""
    rng = np.random.default_rng(0)
    gates = GATES[op]

    def normal(*shape: int) -> Array:
        found: Array = rng.normal(0, 0.6, shape).astype(dtype)
        return found

    found: dict[str, Array | None] = {
        "x": normal(steps, batch, size),
        "w": normal(directions, gates * hidden, size),
        "r": normal(directions, gates * hidden, hidden) / np.sqrt(hidden / 6).astype(dtype),
        "b": normal(directions, 2 * gates * hidden),
        "lengths": np.array([steps, 1, steps - 2][:batch], np.int32),
        "h": normal(directions, batch, hidden),
    }
    if op == "LSTM":
        found["c"] = normal(directions, batch, hidden)
        found["p"] = normal(directions, 3 * hidden)
    return found


def check(op: str, feeds: dict[str, Array | None], attributes: dict[str, Any], **keywords: Any) -> None:
    outputs = 3 if op == "LSTM" else 2
    recurrent = feeds["r"]
    assert recurrent is not None
    everything = {"hidden_size": recurrent.shape[2], **attributes}
    keywords = {"tol": 3e-6, "oracle": "onnxruntime", "outputs": outputs, "opset": 14, **keywords}
    check_node(op, feeds, everything, **keywords)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("constant", [True, False])
def test_every_input(op: str, direction: str, constant: bool) -> None:
    feeds = tensors(op, DIRECTIONS[direction])
    constants = ["w", "r", "b", *(["p"] if op == "LSTM" else [])] if constant else []
    check(op, feeds, {"direction": direction}, constants=constants)


@pytest.mark.parametrize("op", GATES)
def test_optional_inputs_left_out(op: str) -> None:
    feeds = tensors(op)
    for gone in (["b"], ["lengths"], ["h"], ["b", "lengths", "h", "c", "p"]):
        check(op, {name: None if name in gone else array for name, array in feeds.items()}, {}, constants=["w", "r"])


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("features", FEATURES)
def test_larger_cells_on_every_instruction_set(op: str, features: str | None) -> None:
    feeds = tensors(op, 2, steps=9, size=64, hidden=48)
    check(op, feeds, {"direction": "bidirectional"}, constants=["w", "r", "b"], features=features, threads=2)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_outputs_left_out(op: str, wanted: tuple[bool, bool]) -> None:
    check(op, tensors(op), {}, outputs=[*wanted, *([False] if op == "LSTM" else [])])


def test_the_last_cell_state_alone() -> None:
    check("LSTM", tensors("LSTM"), {}, outputs=[False, False, True])


@pytest.mark.parametrize("op", GATES)
def test_clip(op: str) -> None:
    check(op, tensors(op), {"clip": 0.3})


def test_input_forget_and_linear_before_reset() -> None:
    check("LSTM", tensors("LSTM"), {"input_forget": 1})
    check("GRU", tensors("GRU", 2), {"linear_before_reset": 1, "direction": "bidirectional"}, constants=["w", "r"])


FUNCTIONS: list[tuple[str, list[float], list[float]]] = [
    ("Relu", [], []),
    ("Tanh", [], []),
    ("Sigmoid", [], []),
    ("Affine", [0.7], [0.2]),
    ("LeakyRelu", [0.05], []),
    ("ThresholdedRelu", [0.3], []),
    ("ScaledTanh", [1.3], [0.6]),
    ("HardSigmoid", [0.3], [0.4]),
    ("Elu", [0.8], []),
    ("Softsign", [], []),
    ("Softplus", [], []),
]


@pytest.mark.parametrize(("name", "alpha", "beta"), FUNCTIONS)
def test_activations(name: str, alpha: list[float], beta: list[float]) -> None:
    attributes: dict[str, Any] = {"activations": [name]}
    if alpha:
        attributes["activation_alpha"] = alpha
    if beta:
        attributes["activation_beta"] = beta
    check("RNN", tensors("RNN"), attributes)


def test_activations_of_both_directions_take_their_parameters_in_order() -> None:
    names = ["HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "ScaledTanh", "Softsign"]
    attributes = {
        "direction": "bidirectional",
        "activations": names,
        "activation_alpha": [0.3, 0.1, 1.2],
        "activation_beta": [0.4, 0.7],
    }
    check("LSTM", tensors("LSTM", 2), attributes)


@pytest.mark.parametrize("op", GATES)
def test_batch_first(op: str) -> None:
    """onnxruntime declines this layout: it gets the other one, and its answers are turned round."""
    feeds = tensors(op, 2)
    turned = dict(feeds)
    for name in ("x", "h", "c"):
        array = feeds.get(name)
        if array is not None:
            turned[name] = np.ascontiguousarray(np.swapaxes(array, 0, 1))
    recurrent = feeds["r"]
    assert recurrent is not None
    attributes = {"hidden_size": recurrent.shape[2], "direction": "bidirectional"}
    names = ["y", "h_last", "c_last"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(op, list(feeds), names, name="node")
    node.attribute.extend(make_attribute(key, value) for key, value in attributes.items())
    arrays = {name: array for name, array in feeds.items() if array is not None}
    y, *states = ask_onnxruntime(make_model([node], arrays, names, 14), arrays)
    wanted = [y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)]
    check(op, turned, {**attributes, "layout": 1}, expected=[np.ascontiguousarray(a) for a in wanted])


@pytest.mark.parametrize("op", GATES)
def test_float64(op: str) -> None:
    single = tensors(op, 2)
    double = {
        name: None if a is None else (a if a.dtype == np.int32 else a.astype(np.float64)) for name, a in single.items()
    }
    wanted = check_node(
        op, single, {"hidden_size": 7, "direction": "bidirectional"}, 14, 3 if op == "LSTM" else 2, oracle="onnxruntime"
    )
    expected = [array.astype(np.float64) for array in wanted.outputs.values()]
    check(op, double, {"direction": "bidirectional"}, expected=expected, constants=["w", "r"])


def test_saturated_gates_stay_finite() -> None:
    feeds = tensors("LSTM")
    x = feeds["x"]
    assert x is not None
    feeds["x"] = x * 1e4
    check("LSTM", feeds, {})


def test_a_length_longer_than_the_sequence_is_an_error() -> None:
    feeds = tensors("RNN")
    feeds["lengths"] = np.array([5, 6, 1], np.int32)
    with pytest.raises(ProviderError, match="'lengths' holds the length 6 for sequences of 5 steps"):
        check("RNN", feeds, {}, expected=[np.zeros((5, 1, 3, 7), np.float32), np.zeros((1, 3, 7), np.float32)])


@settings(max_examples=40)
@given(
    op=st.sampled_from(list(GATES)),
    hidden=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 128, 130])),
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    direction=st.sampled_from(list(DIRECTIONS)),
    variant=st.booleans(),
    clip=st.booleans(),
    constant=st.booleans(),
    features=st.sampled_from(FEATURES),
)
def test_any_size(
    op: str,
    hidden: int,
    steps: int,
    batch: int,
    direction: str,
    variant: bool,
    clip: bool,
    constant: bool,
    features: str | None,
) -> None:
    feeds = tensors(op, DIRECTIONS[direction], steps=steps, batch=batch, hidden=hidden)
    feeds["lengths"] = np.arange(steps, steps - batch, -1).clip(1, steps).astype(np.int32)
    attributes: dict[str, Any] = {"direction": direction}
    if op != "RNN":
        attributes["input_forget" if op == "LSTM" else "linear_before_reset"] = int(variant)
    if clip:
        attributes["clip"] = 0.7
    check(op, feeds, attributes, constants=["w", "r"] if constant else [], features=features)


@pytest.mark.parametrize("op", GATES)
def test_what_is_no_number_stays_in_its_sequence(op: str) -> None:
    feeds = tensors(op, hidden=17)
    x = feeds["x"]
    assert x is not None
    x[2, 0, 1], x[1, 1, 2], x[0, 2, 0] = np.nan, np.inf, 1e-42
    feeds["lengths"] = None
    # onnxruntime's activations give numbers for what is none
    check(op, feeds, {}, constants=["w", "r"], oracle="reference", outputs=1)

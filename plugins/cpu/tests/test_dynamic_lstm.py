"""DynamicQuantizeLSTM in integers: as onnxruntime rounds, with every direction, optional input and instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Array, check_node, here, rejection
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.errors import ProviderError, UsageError
from mace_core.native.target import host_target

CONTRIB = "com.microsoft"
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
MASKS = here(None, "avx512", "avx2", "sse4", "dotprod", "baseline")
WEIGHTS = ("w", "r", "ws", "wz", "rs", "rz")

TOLERANCE = 2e-3
"""Half a step of a state: one that lies at the border of two steps is rounded either way, as its last bit tells."""


def tensors(
    directions: int = 1,
    *,
    steps: int = 5,
    batch: int = 1,
    size: int = 6,
    hidden: int = 7,
    dtype: str = "int8",
    by_column: bool = False,
    zero: int = 0,
    seed: int = 0,
) -> dict[str, Array | None]:
    """All inputs, random."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    lanes = (directions, 4 * hidden) if by_column else (directions,)

    def normal(*shape: int) -> Array:
        found: Array = rng.normal(0, 0.6, shape).astype(np.float32)
        return found

    def whole(*shape: int) -> Array:
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)

    found: dict[str, Array | None] = {
        "x": normal(steps, batch, size),
        "w": whole(directions, size, 4 * hidden),
        "r": whole(directions, hidden, 4 * hidden),
        "b": normal(directions, 8 * hidden),
        "lengths": None,
        "h": normal(directions, batch, hidden),
        "c": normal(directions, batch, hidden),
        "p": normal(directions, 3 * hidden),
    }
    for name in ("w", "r"):
        found[f"{name}s"] = (rng.random(lanes) / 150 / np.sqrt(hidden / 6) + 0.001).astype(np.float32)
        found[f"{name}z"] = np.full(lanes, zero, dtype)
    return found


def check(feeds: dict[str, Array | None], attributes: dict[str, Any], **how: Any) -> tuple[str, ...]:
    """Compare with onnxruntime; returns the names of the steps."""
    r = feeds["r"]
    assert r is not None
    how = {"tol": TOLERANCE, "oracle": "onnxruntime", "outputs": 3, "constants": WEIGHTS, **how}
    return check_node(
        "DynamicQuantizeLSTM", feeds, {"hidden_size": r.shape[1], **attributes}, domain=CONTRIB, **how
    ).steps


def skip_if_missing(features: str | None) -> None:
    try:
        host_target(features)
    except UsageError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_on_every_instruction_set(direction: str, features: str | None) -> None:
    skip_if_missing(features)
    feeds = tensors(DIRECTIONS[direction], steps=9, size=33, hidden=70, by_column=True)
    steps = check(feeds, {"direction": direction}, features=features, threads=2)
    assert sum("int8" in step for step in steps) == 2, steps  # the input's product and the recurrence


@pytest.mark.parametrize(("dtype", "zero"), [("int8", 0), ("int8", -128), ("int8", 9), ("uint8", 0), ("uint8", 255)])
def test_zero_points(dtype: str, zero: int) -> None:
    check(tensors(2, dtype=dtype, zero=zero, hidden=20), {"direction": "bidirectional"})


def test_optional_inputs_left_out() -> None:
    for gone in (["b"], ["h"], ["c"], ["p"], ["b", "h", "c", "p"]):
        feeds = {name: None if name in gone else array for name, array in tensors().items()}
        check(feeds, {})


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_outputs_left_out(wanted: tuple[bool, ...]) -> None:
    check(tensors(), {}, outputs=wanted)


def test_activations_clip_and_coupled_gates() -> None:
    names = ["HardSigmoid", "Tanh", "Softsign", "Sigmoid", "Elu", "Tanh"]
    check(tensors(2), {"direction": "bidirectional", "activations": names})
    check(tensors(), {"clip": 0.4})
    check(tensors(), {"input_forget": 1})


def test_what_lies_behind_the_longest_sequence_has_no_part_in_the_range() -> None:
    """A length below the number of steps; onnxruntime has one range up to the end of the longest sequence."""
    feeds = tensors(2, steps=6)
    x = feeds["x"]
    assert x is not None
    x[4:] *= 1000
    feeds["lengths"] = np.array([4], np.int32)
    check(feeds, {"direction": "bidirectional"})


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_sequence_does_not_depend_on_its_neighbors(direction: str) -> None:
    """In a batch, each sequence has the result that it has alone, if it has the same largest and smallest input."""
    feeds = tensors(DIRECTIONS[direction], batch=3, steps=6, hidden=40)
    x = feeds["x"]
    assert x is not None
    x[0, :, 0], x[0, :, 1] = -3, 3
    feeds["lengths"] = np.array([6, 6, 4], np.int32)
    parts: list[list[Array]] = [[], [], []]
    for item in range(3):
        alone = {
            name: array[:, item : item + 1] if array is not None and name in "xhc" else array
            for name, array in feeds.items()
        }
        alone["lengths"] = np.array([[6], [6], [4]][item], np.int32)
        outputs = check_alone(alone, direction)
        for found, output in zip(parts, outputs, strict=True):
            found.append(output)
    expected = [np.concatenate(part, axis=-2) for part in parts]
    check(feeds, {"direction": direction}, expected=expected, tol=0, threads=2)


def check_alone(feeds: dict[str, Array | None], direction: str) -> list[Array]:
    """The three outputs of a node that agrees with onnxruntime."""
    r = feeds["r"]
    assert r is not None
    attributes = {"hidden_size": r.shape[1], "direction": direction}
    how: dict[str, Any] = {"tol": TOLERANCE, "oracle": "onnxruntime", "outputs": 3, "constants": WEIGHTS}
    return list(check_node("DynamicQuantizeLSTM", feeds, attributes, domain=CONTRIB, **how).outputs.values())


def test_a_length_longer_than_the_sequence_is_an_error() -> None:
    feeds = tensors()
    feeds["lengths"] = np.array([6], np.int32)
    nothing = [np.zeros((5, 1, 1, 7), np.float32), *[np.zeros((1, 1, 7), np.float32)] * 2]
    with pytest.raises(ProviderError, match="'lengths' holds the length 6 for sequences of 5 steps"):
        check(feeds, {}, expected=nothing)


def test_weights_that_only_the_run_brings_are_declined() -> None:
    feeds = tensors()
    nothing = [np.zeros((5, 1, 1, 7), np.float32), *[np.zeros((1, 1, 7), np.float32)] * 2]
    reason = rejection(
        "DynamicQuantizeLSTM", list(feeds.values()), nothing, {"hidden_size": 7}, domain=CONTRIB, constants=["x1"]
    )
    assert "not known before the run" in reason


@settings(max_examples=30, deadline=None)
@given(
    hidden=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 128, 130])),
    size=st.integers(1, 20),
    steps=st.integers(1, 6),
    direction=st.sampled_from(list(DIRECTIONS)),
    dtype=st.sampled_from(["int8", "uint8"]),
    by_column=st.booleans(),
    features=st.sampled_from(MASKS),
    seed=st.integers(0, 1 << 30),
)
def test_any_size(
    hidden: int, size: int, steps: int, direction: str, dtype: str, by_column: bool, features: str | None, seed: int
) -> None:
    skip_if_missing(features)
    zero = 128 if dtype == "uint8" else 0
    feeds = tensors(
        DIRECTIONS[direction],
        steps=steps,
        size=size,
        hidden=hidden,
        dtype=dtype,
        by_column=by_column,
        zero=zero,
        seed=seed,
    )
    check(feeds, {"direction": direction}, features=features)


def test_a_state_of_zeros_and_one_of_a_single_value() -> None:
    """Ranges without an extent, or on one side of zero alone."""
    feeds = tensors(hidden=24)
    for level in (0.0, 0.7, -0.7):
        x, h = feeds["x"], feeds["h"]
        assert x is not None and h is not None
        x[:], h[:] = level, level
        check(feeds, {})

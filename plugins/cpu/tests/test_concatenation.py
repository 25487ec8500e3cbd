"""Concat and Split that move nothing: parts are computed in their place, and read where they lie."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from harness import FEATURES, Array, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op} {outputs}", **attributes)


def convolutions(
    channels: list[int], image: tuple[int, int, int, int]
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """One Conv and Relu of ``x`` for each number of output channels: values r0, r1, ..."""
    nodes, arrays = [], {"x": numbers(*image)}
    for i, out in enumerate(channels):
        arrays[f"w{i}"] = numbers(out, image[1], 3, 3, seed=i + 1)
        nodes += [node("Conv", f"x w{i}", f"c{i}", pads=[1, 1, 1, 1]), node("Relu", f"c{i}", f"r{i}")]
    return nodes, arrays


def weights(arrays: dict[str, Array]) -> list[str]:
    return [name for name in arrays if name != "x"]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("last", [1, 3, 16, 17])
def test_convolutions_write_straight_into_their_part(last: int, features: str | None) -> None:
    nodes, arrays = convolutions([32, 16, last], (1, 16, 6, 7))
    arrays["v"] = numbers(5, 48 + last, 1, 1, seed=9)
    nodes += [node("Concat", "r0 r1 r2", "y", axis=1), node("Conv", "y v", "z")]
    ran = check_nodes(nodes, arrays, ["z"], constants=weights(arrays), features=features, tol=1e-4, threads=2)
    assert "Concat" not in ran.steps


@pytest.mark.parametrize("outputs", [["y"], ["y", "r0"], ["y", "z"], ["z", "r1", "y"]])
def test_parts_and_the_whole_may_be_results_too(outputs: list[str]) -> None:
    nodes, arrays = convolutions([32, 32], (1, 16, 6, 7))
    nodes += [node("Concat", "r0 r1", "y", axis=1), node("Abs", "y", "z")]
    check_nodes(nodes, arrays, outputs, constants=weights(arrays), tol=1e-4)


@settings(max_examples=60)
@given(st.data())
def test_concatenations_of_concatenations(data: st.DataObject) -> None:
    """Any values may be joined in any order, the same one twice, along any axis, in batches or alone."""
    batch = data.draw(st.sampled_from([1, 1, 2]))
    channels = data.draw(st.lists(st.sampled_from([16, 32, 3, 17, 1]), min_size=2, max_size=4))
    nodes, arrays = convolutions(channels, (batch, 16, 3, 4))
    widths = {f"r{i}": out for i, out in enumerate(channels)}
    if data.draw(st.booleans()):
        arrays["u"] = numbers(batch, 16, 3, 4, seed=20)
        widths["u"] = 16
    for i in range(data.draw(st.integers(1, 3))):
        parts = data.draw(st.lists(st.sampled_from(sorted(widths)), min_size=1, max_size=4))
        nodes.append(node("Concat", " ".join(parts), f"y{i}", axis=1))
        widths[f"y{i}"] = sum(widths[part] for part in parts)
    last = f"y{i}"
    split = data.draw(st.integers(0, widths[last]))
    arrays["sizes"] = np.array([split, widths[last] - split])
    nodes += [node("Split", f"{last} sizes", "p q", axis=1), node("Abs", "p", "a"), node("Concat", "q a", "z", axis=1)]
    chosen = data.draw(
        st.lists(st.sampled_from(sorted({*widths, "p", "q", "a", "z"} - {"u"})), min_size=1, unique=True)
    )
    constants = [name for name in arrays if name not in ("x", "u")]
    features = data.draw(st.sampled_from(FEATURES))
    check_nodes(nodes, arrays, chosen, constants=constants, tol=1e-4, threads=2, features=features)


@pytest.mark.parametrize(("shape", "axis"), [((6, 4), 0), ((1, 6, 4), 1), ((1, 1, 6), -1), ((6,), 0)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "int8", "bool"])
def test_row_major_parts_of_the_first_axis(shape: tuple[int, ...], axis: int, dtype: str) -> None:
    x = (numbers(*shape) * 50).astype(dtype)
    nodes = [
        node("Identity" if dtype == "bool" else "Neg", "x", "a"),
        node("Concat", "a x a", "y", axis=axis),
        node("Split", "y", "p q r", axis=axis),
    ]
    ran = check_nodes(nodes, {"x": x}, ["y", "q"])
    assert ran.steps.count("Split") <= 1  # an output is copied


@pytest.mark.parametrize("features", FEATURES)
def test_whole_blocks_of_channels_are_read_where_they_lie(features: str | None) -> None:
    arrays = {"x": numbers(1, 48, 5, 6), "sizes": np.array([16, 32]), "starts": np.array([16]), "axes": np.array([1])}
    arrays["ends"] = np.array([46])
    nodes = [
        node("Split", "x sizes", "p q", axis=1),
        node("Abs", "p", "a"),
        node("Exp", "q", "b"),
        node("Slice", "x starts ends axes", "s"),
        node("Neg", "s", "c"),
    ]
    constants = ["sizes", "starts", "ends", "axes"]
    ran = check_nodes(nodes, arrays, ["a", "b", "c"], constants=constants, blocked=["x"], features=features)
    assert not {"Split", "Slice"} & set(ran.steps)


def test_what_is_not_a_number_stays_in_its_part() -> None:
    nodes, arrays = convolutions([16, 16], (1, 16, 2, 2))
    arrays["w0"][:] = np.inf
    arrays["x"][0, 0, 0, 0] = np.nan
    nodes += [node("Concat", "r0 r1", "y", axis=1), node("Abs", "y", "z")]
    check_nodes(nodes, arrays, ["z"], constants=["w0", "w1"])

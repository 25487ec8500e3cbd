"""The CHANNELS_LAST layout: 8-bit numbers with the channels of a pixel side by side, and conversions to and from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, TEST_DOMAIN, Ran, check_nodes, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers
from onnx import helper

from mace_core.graph import Node


@lowers("MakeChannelsLast", check=lambda view, node: None, domain=TEST_DOMAIN)
def make_channels_last(program: Program, node: Node) -> None:
    """The same value, which lies in memory in the CHANNELS_LAST layout only."""
    source, target = node.inputs[0], node.outputs[0]
    assert source is not None and target is not None
    program.values.alias(target, program.values.read(source, Layout.CHANNELS_LAST), Layout.CHANNELS_LAST)


@lowers("ShowChannelsLast", check=lambda view, node: None, domain=TEST_DOMAIN)
def show_channels_last(program: Program, node: Node) -> None:
    """The bytes of a value in the CHANNELS_LAST layout, as they lie."""
    source, target = node.inputs[0], node.outputs[0]
    assert source is not None and target is not None
    program.values.alias(target, program.values.read(source, Layout.CHANNELS_LAST))


def _there_and_back(shape: tuple[int, ...], dtype: str, features: Any, threads: int = 1) -> Ran:
    x = sample(shape, dtype)
    nodes = [
        helper.make_node("MakeChannelsLast", ["x"], ["last"], domain=TEST_DOMAIN, name="make"),
        helper.make_node("ShowChannelsLast", ["last"], ["shown"], domain=TEST_DOMAIN, name="show"),
        helper.make_node("Identity", ["last"], ["back"], name="back"),
    ]
    found = {"last": x, "shown": np.ascontiguousarray(np.moveaxis(x, 1, -1)), "back": x}

    def oracle(model: Any, feeds: Any) -> list[Any]:
        return [found[output] for node in nodes for output in node.output]

    return check_nodes(nodes, {"x": x}, ["shown", "back"], features=features, threads=threads, oracle=oracle)


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    spatial=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    dtype=st.sampled_from(["uint8", "int8"]),
    threads=st.integers(1, 2),
    features=st.sampled_from(FEATURES),
)
@settings(max_examples=60)
def test_bytes_go_there_and_come_back(
    batch: int, channels: int, spatial: list[int], dtype: str, threads: int, features: Any
) -> None:
    while np.prod(spatial) > 2000:
        spatial = spatial[1:]
    _there_and_back((batch, channels, *spatial), dtype, features, threads)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", [2, 3, 4, 16, 17])
def test_pictures_of_several_units(channels: int, features: str | None) -> None:
    ran = _there_and_back((1, channels, 90, 91), "uint8", features, threads=2)
    assert any(step == "ToChannelsLast" for step in ran.steps)


@pytest.mark.parametrize("shape", [(2, 5), (3, 7, 1, 1), (2, 1, 5, 5), (0, 3, 2, 2)])
def test_the_same_bytes_are_not_moved(shape: tuple[int, ...]) -> None:
    ran = _there_and_back(shape, "int8", None)
    assert not any("ChannelsLast" in step for step in ran.steps)


@pytest.mark.parametrize("features", FEATURES)
def test_bytes_are_transposed_in_squares(features: str | None) -> None:
    for shape in ((3, 20, 35), (1, 16, 16), (2, 5, 40), (1, 100, 17)):
        x = sample(shape, "uint8")
        nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1], name="transpose")]
        check_nodes(nodes, {"x": x}, ["y"], features=features)


def test_a_transpose_of_channels_last_costs_nothing() -> None:
    x = sample((2, 8, 5, 6), "uint8")
    nodes = [
        helper.make_node("MakeChannelsLast", ["x"], ["last"], domain=TEST_DOMAIN, name="make"),
        helper.make_node("Transpose", ["last"], ["y"], perm=[0, 2, 3, 1], name="transpose"),
    ]
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    ran = check_nodes(nodes, {"x": x}, ["y"], oracle=lambda model, feeds: [x, moved])
    assert "FromChannelsLast" not in ran.steps, ran.steps


def test_what_a_transpose_makes_channels_last_is_read_where_it_lies() -> None:
    x = sample((2, 5, 6, 8), "uint8")
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2], name="transpose"),
        helper.make_node("ShowChannelsLast", ["turned"], ["shown"], domain=TEST_DOMAIN, name="show"),
    ]
    moved = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    ran = check_nodes(nodes, {"x": x}, ["shown"], oracle=lambda model, feeds: [moved, x])
    assert ran.steps == ("Copy",), ran.steps


def _made(name: str, source: str) -> Any:
    return helper.make_node("MakeChannelsLast", [source], [name], domain=TEST_DOMAIN, name=name)


@given(
    channels=st.lists(st.integers(1, 20), min_size=2, max_size=3),
    spatial=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    batch=st.integers(1, 2),
    dtype=st.sampled_from(["uint8", "int8", "int16"]),
    axis=st.integers(0, 4),
)
@settings(max_examples=30)
def test_parts_that_lie_channels_last_are_joined_so(
    channels: list[int], spatial: list[int], batch: int, dtype: str, axis: int
) -> None:
    axis %= len(spatial) + 2
    count = channels if axis == 1 else channels[:1] * len(channels)
    parts = {f"x{i}": sample((batch, c, *spatial), dtype) for i, c in enumerate(count)}
    whole = np.concatenate(list(parts.values()), axis)
    nodes = [
        *(_made(f"m{i}", f"x{i}") for i in range(len(count))),
        helper.make_node("Concat", [f"m{i}" for i in range(len(count))], ["y"], axis=axis, name="concat"),
        helper.make_node("ShowChannelsLast", ["y"], ["shown"], domain=TEST_DOMAIN, name="show"),
    ]
    found = {"y": whole, "shown": np.ascontiguousarray(np.moveaxis(whole, 1, -1))}
    found |= {f"m{i}": part for i, part in enumerate(parts.values())}
    outputs = [output for node in nodes for output in node.output]
    ran = check_nodes(nodes, parts, ["shown"], oracle=lambda model, feeds: [found[output] for output in outputs])
    assert "FromChannelsLast" not in ran.steps, ran.steps


@given(
    channels=st.integers(1, 20),
    spatial=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    pads=st.lists(st.integers(0, 3), min_size=10, max_size=10),
    dtype=st.sampled_from(["uint8", "int8", "int16"]),
    mode=st.sampled_from(["constant", "edge"]),
)
@settings(max_examples=30)
def test_what_lies_channels_last_is_padded_so(
    channels: int, spatial: list[int], pads: list[int], dtype: str, mode: str
) -> None:
    x, rank = sample((2, channels, *spatial), dtype), len(spatial) + 2
    amounts = list(zip(pads[:rank], pads[5 : 5 + rank], strict=True))
    fill = np.array(3, dtype)
    if mode == "constant":
        padded = np.pad(x, amounts, mode="constant", constant_values=fill)
    else:
        padded = np.pad(x, amounts, mode="edge")
    nodes = [
        _made("m", "x"),
        helper.make_node("Pad", ["m", "pads", "fill"], ["y"], mode=mode, name="pad"),
        helper.make_node("ShowChannelsLast", ["y"], ["shown"], domain=TEST_DOMAIN, name="show"),
    ]
    given_pads = np.array([before for before, _ in amounts] + [after for _, after in amounts])
    inputs = {"x": x, "pads": given_pads, "fill": fill}
    results = [x, padded, np.ascontiguousarray(np.moveaxis(padded, 1, -1))]
    ran = check_nodes(nodes, inputs, ["shown"], constants=["pads", "fill"], oracle=lambda model, feeds: results)
    assert "FromChannelsLast" not in ran.steps, ran.steps

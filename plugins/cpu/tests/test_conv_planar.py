"""The planar kernel: few channels, small groups, overlapping ConvTranspose; borders, strides, instruction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Ran, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.conv.geometry import Geometry
from mace_cpu.conv.planar.lower import choose_tile, planar_kernel, planar_lattice
from mace_cpu.shared.epilogue.epilogue import Epilogue
from onnx import helper

from mace_core.errors import UsageError
from mace_core.native.compiler import compile_assembly
from mace_core.native.target import host_target

Array = np.ndarray[Any, Any]


def arrays(seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def check(
    op: str,
    shape: tuple[int, ...],
    weights: tuple[int, ...],
    *,
    group: int = 1,
    features: str | None = None,
    threads: int = 1,
    **attributes: Any,
) -> Ran:
    out = weights[0] if op == "Conv" else weights[1] * group
    ran = check_node(
        op,
        arrays(out, shape, weights, (out,)),
        {"group": group, **attributes},
        constants=("x1", "x2"),
        features=features,
        threads=threads,
        tol=2e-5,
        oracle="onnxruntime",
    )
    assert ran.steps == (op,), "conversions, or another kernel"
    return ran


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 12, 20, 64), (12, 12, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((2, 12, 9, 70), (2, 12, 3, 3), {"pads": [1, 2, 0, 3]}),
        ((1, 12, 9, 130), (3, 12, 1, 1), {}),
        ((1, 20, 15, 90), (1, 20, 5, 3), {"pads": [2, 1, 2, 1], "dilations": [2, 3]}),
        ((1, 12, 300), (2, 12, 7), {"pads": [3, 3]}),
        ((1, 12, 300, 1), (2, 12, 7, 1), {"pads": [3, 0, 3, 0]}),
    ],
)
def test_few_channels(
    shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any], features: str | None
) -> None:
    check("Conv", shape, weights, features=features, threads=2, **attributes)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("stride", [2, 3, 4, 5])
def test_strides(stride: int, features: str | None) -> None:
    check("Conv", (1, 6, 11, 37), (4, 3, 3, 3), group=2, strides=[2, stride], pads=[1] * 4, features=features)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("width", [1, 2, 7, 15, 17, 47, 49])
def test_groups_that_split_blocks(width: int, features: str | None) -> None:
    check("Conv", (1, 15, 5, width), (20, 3, 3, 3), group=5, pads=[1] * 4, features=features)
    check("Conv", (2, 57, 2, width), (38, 3, 1, 1), group=19, features=features, threads=2)


@pytest.mark.parametrize("features", FEATURES)
def test_what_is_no_number_stays_within_its_group(features: str | None) -> None:
    x, w = arrays(1, (1, 24, 6, 11), (24, 3, 3, 3))
    x[0, 4, 3, 5] = np.inf
    x[0, 10, 2, 2] = np.nan
    ran = check_node("Conv", [x, w], {"group": 8, "pads": [1] * 4}, constants=("x1",), features=features, tol=2e-5)
    finite = np.isfinite(ran.outputs["y0"]).all(axis=(0, 2, 3))
    assert finite.tolist() == [channel // 3 not in (1, 3) for channel in range(24)]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("width", [9, 100])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_residual_and_activation_are_part_of_it(activation: str, width: int, features: str | None) -> None:
    x, w, b = arrays(1, (2, 6, 8, width), (6, 3, 3, 3), (6,))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["s"]),
        helper.make_node(activation, ["s"], ["y"]),
    ]
    ran = check_nodes(nodes, {"x": x, "w": w, "b": b}, ["y"], constants=("w", "b"), tol=5e-5, features=features)
    assert len(ran.steps) == 1


def test_parametric_activation_is_part_of_it() -> None:
    x, w, slope = arrays(1, (1, 6, 8, 50), (4, 3, 3, 3), (4, 1, 1))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=2),
        helper.make_node("PRelu", ["c", "s"], ["y"]),
    ]
    assert len(check_nodes(nodes, {"x": x, "w": w, "s": slope}, ["y"], constants=("w", "s"), tol=5e-5).steps) == 1


def test_neighbors_with_few_channels_agree_on_a_layout() -> None:
    x, first, second, third = arrays(1, (1, 1, 40, 128), (56, 1, 5, 5), (12, 56, 1, 1), (12, 12, 3, 3))
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], strides=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("Conv", ["c", "b"], ["d"]),
        helper.make_node("Conv", ["d", "e"], ["y"], pads=[1, 1, 1, 1]),
    ]
    given_ = {"x": x, "a": first, "b": second, "e": third}
    assert check_nodes(nodes, given_, ["y"], constants=("a", "b", "e"), tol=1e-4).steps == ("Conv",) * 3


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 20, 9, 30), (20, 1, 9, 9), {"strides": [3, 3], "pads": [4] * 4, "output_padding": [2, 2]}),
        ((2, 20, 5, 60), (20, 1, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
        ((1, 20, 5, 40), (20, 2, 4, 8), {"strides": [2, 4], "pads": [1, 3, 0, 2]}),
        ((1, 20, 5, 40), (20, 3, 4, 3), {"strides": [4, 1], "pads": [0, 1, 2, 1]}),
        ((1, 20, 70), (20, 2, 6), {"strides": [3], "pads": [5, 1]}),
        ((1, 6, 5, 20), (6, 2, 4, 4), {"strides": [2, 2], "group": 3}),
    ],
)
def test_transposed(
    shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any], features: str | None
) -> None:
    check("ConvTranspose", shape, weights, features=features, threads=2, **attributes)


def test_transposed_with_normalization_and_activation() -> None:
    x, w, s, b, m = arrays(2, (1, 20, 6, 40), (20, 2, 4, 4), (2,), (2,), (2,))
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Sigmoid", ["n"], ["y"]),
    ]
    given_ = {"x": x, "w": w, "s": s, "b": b, "m": m, "v": np.abs(s) + 0.5}
    assert len(check_nodes(nodes, given_, ["y"], constants=("w", "s", "b", "m", "v"), tol=5e-5).steps) == 1


@given(
    st.tuples(*[st.integers(1, 8)] * 2),
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(0, 5)] * 2),
)
def test_a_lattice_covers_every_result(
    image: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int],
) -> None:
    output = tuple(
        max((i - 1) * s + (k - 1) * d + 1 - 2 * p, 1)
        for i, k, s, d, p in zip(image, kernel, strides, dilations, pads, strict=True)
    )
    found = planar_lattice(Geometry(1, 4, 1, 1, image, kernel, output, strides, dilations, pads))
    if found is None:
        return
    convolution, lattice, _ = found
    for axis in range(2):
        first, count = lattice.first[axis], convolution.output[axis] * lattice.phases[axis]
        assert first <= 0
        assert first + count >= lattice.output[axis] == output[axis]


@pytest.mark.parametrize("features", ["avx512", "avx2"])
@pytest.mark.parametrize(("channels", "phases"), [(12, 1), (4, 1), (6, 2), (3, 3), (56, 1)])
def test_tiles_stay_in_registers(channels: int, phases: int, features: str) -> None:
    try:
        target = host_target(features)
    except UsageError as missing:
        pytest.skip(str(missing))
    size = Geometry(1, 16, channels * phases, 1, (64, 480), (3, 3), (62, 478), (1, 1), (1, 1), (0, 0))
    tile = choose_tile(target, size, phases)
    lanes = target.vector_bits // 32
    source = planar_kernel(tile.channels, tile.vectors, lanes, 1, phases if phases > 1 else 0, False, Epilogue())
    blocks = compile_assembly(source.build(target), source.symbol, target).split("\n.LBB")
    inner = max(blocks, key=lambda part: part.count("vfmadd"))
    assert inner.count("vfmadd") == tile.channels * phases * tile.vectors
    assert "rsp" not in inner, "accumulators are spilled"


@settings(max_examples=40)
@given(
    groups=st.integers(2, 5),
    group_in=st.integers(1, 5),
    group_out=st.integers(1, 7),
    size=st.tuples(st.integers(1, 9), st.integers(1, 70)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    strides=st.lists(st.integers(1, 5), min_size=2, max_size=2),
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    dilations=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    features=st.sampled_from(FEATURES),
    threads=st.integers(1, 2),
)
def test_any_grouped_convolution(
    groups: int,
    group_in: int,
    group_out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    pads: list[int],
    dilations: list[int],
    features: str | None,
    **rest: Any,
) -> None:
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = tuple(max(s, n - pads[i] - pads[i + 2]) for i, (s, n) in enumerate(zip(size, least, strict=True)))
    weights = (groups * group_out, group_in, *kernel)
    x, w, b = arrays(group_in, (2, groups * group_in, *size), weights, (weights[0],))
    check_node(
        "Conv",
        [x, w, b],
        {"group": groups, "pads": pads, "dilations": dilations, "strides": rest["strides"]},
        constants=("x1", "x2"),
        features=features,
        threads=rest["threads"],
        tol=2e-5,
        oracle="onnxruntime",
    )

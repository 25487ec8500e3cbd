"""ConvTranspose: every attribute, groups, ranks, instruction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.conv.transposed.lower import axis_phases
from onnx import helper


def check(
    shape: tuple[int, ...],
    out: int,
    kernel: tuple[int, ...],
    *,
    group: int = 1,
    constant: bool = True,
    features: str | None = None,
    threads: int = 1,
    **attributes: Any,
) -> None:
    random = np.random.default_rng(out)
    shapes = (shape, (shape[1], out // group, *kernel), (out,))
    x, w, b = (random.standard_normal(s).astype(np.float32) for s in shapes)
    check_node(
        "ConvTranspose",
        [x, w, b],
        {"group": group, **attributes},
        constants=("x1", "x2") if constant else (),
        features=features,
        threads=threads,
        tol=2e-5,
        oracle="onnxruntime",
    )


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "attributes"),
    [
        ((1, 16, 7, 9), 24, (2, 2), {"strides": [2, 2]}),
        ((2, 17, 7, 9), 5, (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((2, 17, 7, 9), 5, (3, 4), {"strides": [3, 2], "pads": [1, 2, 0, 1], "dilations": [2, 3]}),
        ((1, 4, 7, 9), 5, (2, 2), {"strides": [3, 3]}),
        ((1, 3, 3, 3), 2, (3, 3), {"strides": [3, 2], "output_shape": [10, 8], "output_padding": [1, 1]}),
        ((1, 3, 3, 3), 2, (3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER", "output_shape": [6, 6]}),
        ((1, 3, 3, 3), 2, (3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER", "output_shape": [6, 6]}),
        ((1, 3, 3, 3), 2, (3, 3), {"strides": [2, 2], "auto_pad": "VALID"}),
        ((1, 32, 7), 64, (4,), {"group": 2, "strides": [2], "pads": [1, 1]}),
        ((1, 6, 7, 5), 9, (4, 3), {"group": 3, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((1, 6, 3, 4, 5), 9, (2, 4, 3), {"group": 3, "strides": [2, 2, 1]}),
    ],
)
def test_attributes(
    shape: tuple[int, ...], out: int, kernel: tuple[int, ...], attributes: dict[str, Any], features: str | None
) -> None:
    check(shape, out, kernel, features=features, **attributes)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("out", [1, 3])
def test_few_channels_without_overlap(out: int, features: str | None) -> None:
    check((2, 24, 9, 17), out, (2, 3), strides=[2, 3], features=features, threads=2)
    check((1, 24, 30), out, (4,), strides=[4], features=features)


def test_weights_computed_in_the_graph() -> None:
    check((1, 6, 7, 5), 8, (4, 3), strides=[2, 2], constant=False)


def test_batch_normalization_and_activation_are_part_of_it() -> None:
    random = np.random.default_rng(5)
    x, w = random.standard_normal((1, 24, 5, 6)), random.standard_normal((24, 20, 2, 2))
    s, b, m, v = (random.random(20) + 0.5 for _ in range(4))
    given_ = {k: a.astype(np.float32) for k, a in {"x": x, "w": w, "s": s, "b": b, "m": m, "v": v}.items()}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Sigmoid", ["n"], ["y"]),
    ]
    ran = check_nodes(nodes, given_, ["y"], constants=("w", "s", "b", "m", "v"), tol=5e-5)
    assert not any(step in ("BatchNormalization", "Sigmoid") for step in ran.steps)


@given(
    st.integers(1, 20), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 6), st.integers(1, 9)
)
def test_phases_meet_every_tap_that_reaches_a_result(
    output: int, kernel: int, stride: int, dilation: int, pad: int, image: int
) -> None:
    wanted = {(i * stride + k * dilation - pad, i, k) for i in range(image) for k in range(kernel)}
    found = set()
    for phase in axis_phases(output, kernel, stride, dilation, pad):
        for q in range(phase.count):
            for j, k in enumerate(phase.taps):
                i = q - phase.pad + j * phase.dilation
                if 0 <= i < image:
                    found.add((q * stride + phase.first, i, k))
    assert found == {(o, i, k) for o, i, k in wanted if 0 <= o < output}


@settings(max_examples=25)
@given(
    channels=st.sampled_from((1, 3, 16, 17)),
    out=st.sampled_from((1, 5, 16, 33)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 20)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    dilations=st.lists(st.integers(1, 2), min_size=2, max_size=2),
    features=st.sampled_from(FEATURES),
    threads=st.integers(1, 2),
)
def test_any_transposed_convolution(
    channels: int, out: int, size: tuple[int, int], kernel: tuple[int, int], **rest: Any
) -> None:
    check((1, channels, *size), out, kernel, **rest)

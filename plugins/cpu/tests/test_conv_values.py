"""Conv, MatMul and Gemm at the edges: NaN, infinities, denormals, tiny and huge images, every kind of padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, check_node
from hypothesis import example, given, settings
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]

VALUES = ("normal", "nan", "infinite", "denormal", "large", "zero")
COUNTS = (1, 3, 8, 16, 17, 33)
DEPTHWISE = 0
MOST_MACS = 8_000_000


def values(kind: str, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of both signs; a few in a thousand of the kind that is asked for, or all of one magnitude."""
    found = random.standard_normal(shape).astype(np.float32)
    if kind in ("nan", "infinite"):
        at = random.integers(0, found.size, max(1, found.size // 500))
        found.reshape(-1)[at] = np.nan if kind == "nan" else np.where(at % 2, np.inf, -np.inf)
    scale = {"denormal": 1e-40, "large": 1e30, "zero": 0.0}.get(kind, 1.0)
    return (found * np.float32(scale)).astype(np.float32)


def check(op: str, inputs: list[Array], attributes: dict[str, Any], features: str | None, threads: int = 1) -> None:
    with np.errstate(all="ignore"):
        check_node(
            op,
            inputs,
            attributes,
            constants=tuple(f"x{i}" for i in range(1, len(inputs))),
            features=features,
            threads=threads,
            tol=3e-5,
            oracle="onnxruntime",
        )


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Kernels other than 3x3 of stride 1, whose sums meet an infinity or a NaN in any order: see test_conv_winograd."""
    channels, out = draw(st.sampled_from(COUNTS)), draw(st.sampled_from(COUNTS))
    groups = draw(st.sampled_from((1, 1, 2, 3, DEPTHWISE)))
    if groups == DEPTHWISE:
        groups, out = channels, channels * draw(st.integers(1, 2))
    else:
        channels, out = channels * groups, out * groups
    kernel = [draw(st.sampled_from((1, 2, 3, 5, 7))) for _ in range(2)]
    strides = [draw(st.integers(1, 4)) for _ in range(2)]
    dilations = [draw(st.sampled_from((1, 1, 2, 3))) for _ in range(2)]
    attributes: dict[str, Any] = {"group": groups, "strides": strides, "dilations": dilations}
    auto_pad = draw(st.sampled_from(("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")))
    pads = [0] * 4
    if auto_pad == "NOTSET":
        pads = attributes["pads"] = [draw(st.integers(0, 4)) for _ in range(4)]
    else:
        attributes["auto_pad"] = auto_pad
        if auto_pad != "VALID":
            attributes["dilations"] = dilations = [1, 1]
    least = [(k - 1) * d + 1 - pads[i] - pads[i + 2] for i, (k, d) in enumerate(zip(kernel, dilations, strict=True))]
    tiny, huge = st.integers(1, 9), st.integers(200, 3000)
    size: tuple[int, ...] = draw(
        st.one_of(st.tuples(tiny, tiny), st.tuples(st.just(1), huge), st.tuples(huge, st.just(1)))
    )
    size = tuple(max(s, n, 1) for s, n in zip(size, least, strict=True))
    while np.prod(size) * channels * (out // groups) * np.prod(kernel) > MOST_MACS and max(size) > 64:
        size = tuple(max(s // 2, n, 1) for s, n in zip(size, least, strict=True))
    return {
        "shape": (draw(st.integers(1, 2)), channels, *size),
        "weights": (out, channels // groups, *kernel),
        "attributes": attributes,
    }


@pytest.mark.parametrize("features", FEATURES)
@settings(max_examples=12)
@given(convolutions(), st.sampled_from(VALUES), st.integers(1, 2))
@example(
    {"shape": (1, 17, 1, 1), "weights": (3, 17, 3, 3), "attributes": {"pads": [1, 1, 1, 1], "strides": [2, 2]}},
    "nan",
    1,
)
def test_any_convolution_of_any_values(features: str | None, case: dict[str, Any], kind: str, threads: int) -> None:
    random = np.random.default_rng(1)
    kernel, strides = case["weights"][2:], case["attributes"]["strides"]
    if kernel == (3, 3) and strides == [1, 1] and kind in ("nan", "infinite", "large", "denormal"):
        kind = "normal"
    x, w, b = (
        values(kind, random, case["shape"]),
        *(values("normal", random, s) for s in (case["weights"], (case["weights"][0],))),
    )
    if kind == "denormal":
        b *= 0
    check("Conv", [x, w, b], case["attributes"], features, threads)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 17, 9, 11), (33, 17, 1, 1), {}),  # blocks with spare lanes
        ((1, 3, 12, 40), (17, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),  # read row-major
        ((1, 6, 5, 70), (9, 2, 3, 3), {"pads": [1, 1, 1, 1], "group": 3, "dilations": [1, 2]}),  # lanes are pixels
        ((1, 17, 9, 11), (17, 1, 5, 5), {"pads": [2, 2, 2, 2], "group": 17}),  # depthwise
    ],
)
def test_values_pass_through_every_kernel(
    shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any], kind: str, features: str | None
) -> None:
    random = np.random.default_rng(2)
    check("Conv", [values(kind, random, shape), values("normal", random, weights)], attributes, features)


@pytest.mark.parametrize("features", FEATURES)
@settings(max_examples=12)
@given(
    rows=st.sampled_from((1, 2, 7, 17, 70)),
    steps=st.sampled_from((1, 3, 16, 17, 130, 600)),
    columns=st.sampled_from((1, 3, 16, 17, 64, 65, 200)),
    kind=st.sampled_from(VALUES),
    transposed=st.tuples(st.booleans(), st.booleans()),
    factors=st.sampled_from(((1.0, 1.0), (0.5, -2.0))),
    threads=st.integers(1, 2),
)
def test_any_product_of_any_values(
    features: str | None,
    rows: int,
    steps: int,
    columns: int,
    kind: str,
    transposed: tuple[bool, bool],
    factors: tuple[float, float],
    threads: int,
) -> None:
    random = np.random.default_rng(3)
    a = values(kind, random, (steps, rows) if transposed[0] else (rows, steps))
    b = values("normal", random, (columns, steps) if transposed[1] else (steps, columns))
    c = values("normal", random, (columns,)) * np.float32(kind != "denormal")
    attributes = {"transA": int(transposed[0]), "transB": int(transposed[1]), "alpha": factors[0], "beta": factors[1]}
    check("Gemm", [a, b, c], attributes, features, threads)

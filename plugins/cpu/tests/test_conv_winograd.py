"""Winograd's convolution: the transforms, when it is chosen, borders, bands, epilogues, accuracy, instruction sets."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from harness import FEATURES, _backend, ask_onnxruntime, check_node, check_nodes, make_model, make_view
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.backend import CpuBackend
from mace_cpu.conv.winograd import lower as conv_winograd
from mace_cpu.conv.winograd.lower import winograd_kernel
from mace_cpu.conv.winograd.matrices import Matrix, transforms
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.choose import most_rows, widest_tile
from mace_cpu.workers import Workers
from onnx import helper

from mace_core.errors import UsageError
from mace_core.native.compiler import compile_assembly, compile_object
from mace_core.native.target import foreign_target, host_target
from mace_core.provider import Device, DeviceKind

Array = np.ndarray[Any, Any]

SIZES = (2, 3, 4)
AROUND = [1, 1, 1, 1]


def arrays(seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def kernels(
    shape: tuple[int, ...], weights: tuple[int, ...], backend: CpuBackend | None = None, **attributes: Any
) -> list[str]:
    """Symbols of the kernels that a Conv is lowered to."""
    x, w = arrays(1, shape, weights)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    model = make_model([node], {"x": x, "w": w}, ["y"], 21, ("w",))
    (y,) = ask_onnxruntime(model, {"x": x})
    view = make_view(model, {"x": x, "w": w}, {"y": y}, ["y"])
    return [step.kernel.symbol for step in (backend or _backend(None, 1))._lower(view).steps.emitted]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets every convolution that fits be computed so, in patches of a given size."""

    def choose(results: int) -> None:
        monkeypatch.setattr(conv_winograd, "RESULTS", (results,))
        monkeypatch.setattr(conv_winograd, "WORTH_IT", float("inf"))

    return choose


# --- the matrices -----------------------------------------------------------------------------------------------------


def times(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((m * v for m, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@given(st.integers(1, 6), st.integers(1, 3), st.data())
def test_the_transforms_compute_a_filter_exactly(results: int, taps: int, data: st.DataObject) -> None:
    numbers = st.fractions(-9, 9, max_denominator=7)
    filter_ = data.draw(st.lists(numbers, min_size=taps, max_size=taps))
    count = results + taps - 1
    values = data.draw(st.lists(numbers, min_size=count, max_size=count))
    if count < 2:
        return
    found = transforms(results, taps)
    products = [u * v for u, v in zip(times(found.g, filter_), times(found.b, values), strict=True)]
    exact = [sum((filter_[k] * values[i + k] for k in range(taps)), Fraction(0)) for i in range(results)]
    assert times(found.a, products) == exact


def test_too_large_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 9 points"):
        transforms(7, 3)


# --- the choice -------------------------------------------------------------------------------------------------------


def uses_winograd(symbols: list[str]) -> bool:
    return any(symbol.startswith("conv_winograd") for symbol in symbols)


@pytest.mark.parametrize(("channels", "size"), [(64, 56), (128, 28), (256, 14)])
def test_many_channels_and_pixels_are_worth_it(channels: int, size: int) -> None:
    assert uses_winograd(kernels((1, channels, size, size), (channels, channels, 3, 3), pads=AROUND))


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 512, 4, 4), (512, 512, 3, 3), {}),  # more weights than pixels to use them on
        ((1, 3, 56, 56), (64, 3, 3, 3), {}),
        ((1, 64, 56, 56), (64, 64, 3, 3), {"strides": [2, 2]}),
        ((1, 64, 56, 56), (64, 64, 3, 3), {"dilations": [2, 2]}),
        ((1, 64, 56, 56), (64, 16, 3, 3), {"group": 4}),
        ((1, 64, 56, 56), (64, 1, 3, 3), {"group": 64}),
        ((1, 64, 56, 56), (64, 64, 5, 5), {}),
        ((1, 64, 56, 56), (64, 64, 1, 1), {}),
    ],
)
def test_others_are_not(shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]) -> None:
    assert not uses_winograd(kernels(shape, weights, **attributes))


def test_it_can_be_switched_off() -> None:
    device = Device(provider="cpu", id="0", kind=DeviceKind.CPU, name="test", vendor="test")
    backend = CpuBackend(device, workers=Workers(1), winograd=False)
    assert not uses_winograd(kernels((1, 64, 56, 56), (64, 64, 3, 3), backend))


def test_the_option_takes_true_or_false() -> None:
    from mace_cpu.provider import CpuProvider

    provider = CpuProvider()
    (device,) = provider.probe().devices
    with pytest.raises(UsageError, match="'winograd' takes true or false, not 2"):
        provider.open(device, {"winograd": 2})


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("results", SIZES)
@pytest.mark.parametrize("features", FEATURES)
def test_sizes_borders_and_channels(results: int, features: str | None, always: Any) -> None:
    always(results)

    def each(shape: tuple[int, ...], out: int, pads: list[int], threads: int = 1) -> None:
        x, w, b = arrays(out, shape, (out, shape[1], 3, 3), (out,))
        check_node(
            "Conv",
            [x, w, b],
            {"pads": pads},
            constants=("x1", "x2"),
            blocked=("x0",),
            features=features,
            threads=threads,
            tol=3e-5,
            oracle="onnxruntime",
        )

    each((1, 16, 8, 8), 16, AROUND)
    each((2, 17, 13, 31), 33, AROUND)
    each((1, 40, 5, 3), 5, AROUND, threads=2)
    each((3, 24, 1, 1), 5, AROUND)
    each((1, 33, 6, 40), 20, [0, 1, 2, 3], threads=2)
    each((1, 16, 3, 3), 80, [0, 0, 0, 0], threads=2)
    each((1, 8, 4, 5), 8, [4, 4, 4, 4])


@pytest.mark.parametrize("threads", [1, 2])
def test_bands_and_parts_cover_everything(threads: int, always: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    always(2)
    x, w, b = arrays(3, (2, 20, 19, 23), (70, 20, 3, 3), (70,))
    for scratch in (1, 100_000, 200_000, 400_000):
        monkeypatch.setattr(conv_winograd, "SCRATCH_BYTES", scratch)
        check_node(
            "Conv",
            [x, w, b],
            {"pads": AROUND},
            constants=("x1", "x2"),
            threads=threads,
            tol=3e-5,
            oracle="onnxruntime",
        )


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
def test_what_follows_is_part_of_it(activation: str, features: str | None, always: Any) -> None:
    always(4)
    x, w, b, scale = arrays(1, (2, 40, 9, 7), (40, 40, 3, 3), (40,), (1, 40, 1, 1))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=AROUND),
        helper.make_node("Add", ["c", "x"], ["s"]),
        helper.make_node(activation, ["s"], ["a"]),
        helper.make_node("Mul", ["a", "k"], ["y"]),
    ]
    given_ = {"x": x, "w": w * 0.1, "b": b, "k": scale}
    ran = check_nodes(nodes, given_, ["y"], constants=("w", "b", "k"), tol=5e-5, features=features)
    assert not any(step in ("Add", activation, "Mul") for step in ran.steps)


@settings(max_examples=25)
@given(
    st.sampled_from(SIZES),
    st.tuples(st.integers(1, 2), st.sampled_from((8, 16, 17, 48)), st.integers(3, 30), st.integers(3, 30)),
    st.sampled_from((1, 16, 17, 33, 64)),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.integers(1, 2),
    st.sampled_from(FEATURES),
)
def test_any_size(
    always: Any,
    results: int,
    shape: tuple[int, ...],
    out: int,
    pads: list[int],
    threads: int,
    features: str | None,
) -> None:
    always(results)
    x, w = arrays(out, shape, (out, shape[1], 3, 3))
    options: dict[str, Any] = {"constants": ("x1",), "features": features, "threads": threads}
    check_node("Conv", [x, w], {"pads": pads}, tol=3e-5, oracle="onnxruntime", **options)


@pytest.mark.parametrize(("results", "limit"), [(2, 1e-6), (3, 6e-6), (4, 2e-5)])
def test_accuracy_over_many_channels(results: int, limit: float, always: Any) -> None:
    """The largest error against sums in double precision, as a share of the results' range."""
    always(results)
    x, w = arrays(5, (1, 256, 14, 14), (64, 256, 3, 3))
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    exact = np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64), optimize=True)
    ran = check_node("Conv", [x, w], {"pads": AROUND}, constants=("x1",), tol=1e-4, expected=[exact.astype(np.float32)])
    error = np.abs(ran.outputs["y0"] - exact).max() / np.ptp(exact)
    assert error < limit


@pytest.mark.parametrize("results", SIZES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_and_stays_near(results: int, bad: float, always: Any) -> None:
    """Every result whose taps meet it is not finite, and none but those of the patches that see it."""
    always(results)
    x, w = arrays(5, (1, 32, 25, 27), (20, 32, 3, 3))
    (clean,) = ask_onnxruntime(_conv_model(x, w), {"x": x})
    x[0, 7, 12, 13] = bad
    (expected,) = ask_onnxruntime(_conv_model(x, w), {"x": x})
    model = _conv_model(x, w)
    view = make_view(model, {"x": x, "w": w}, {"y": clean}, ["y"])
    from harness import run_view

    found = run_view(view, {"x": x}).outputs["y"]
    assert not np.isfinite(found[~np.isfinite(expected)]).any()
    far = np.ones(found.shape, bool)
    far[:, :, 12 - 1 - results + 1 : 12 + 1 + results, 13 - 1 - results + 1 : 13 + 1 + results] = False
    np.testing.assert_allclose(found[far], clean[far], rtol=3e-5, atol=3e-5 * float(np.abs(clean).max()))


def _conv_model(x: Array, w: Array) -> Any:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=AROUND)
    return make_model([node], {"x": x, "w": w}, ["y"], 21, ("w",))


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_architecture_compiles_it(architecture: str) -> None:
    target = foreign_target(architecture)
    block = 16 if target.vector_bits >= 512 else 8
    blocks = widest_tile(target, block)
    for results in SIZES:
        source = winograd_kernel(results, most_rows(target, block, blocks), blocks, block, Epilogue())
        assert len(compile_object(source.build(target), source.symbol, target)) > 500


@pytest.mark.parametrize("features", ["avx512", "avx2"])
def test_products_stay_in_registers(features: str) -> None:
    try:
        target = host_target(features)
    except UsageError as missing:
        pytest.skip(str(missing))
    block = 16 if target.vector_bits >= 512 else 8
    blocks = widest_tile(target, block)
    rows = most_rows(target, block, blocks)
    source = winograd_kernel(4, rows, blocks, block, Epilogue((EpilogueOp("relu"),)))
    assembly = compile_assembly(source.build(target), source.symbol, target)
    loops = [part for part in re.split(r"\n(?=\.LBB)", assembly) if part.count("vfmadd231ps") == rows * blocks]
    assert loops, "the innermost loop of the products was not found"
    assert not any("rsp" in part for part in loops), "accumulators are spilled"

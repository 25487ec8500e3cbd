"""Fourier transforms and mel matrices."""

from __future__ import annotations

import numpy as np
import pytest
from harness import FEATURES, check_node

RNG = np.random.default_rng(4)


def complex_parts(array: np.ndarray) -> np.ndarray:
    return np.stack([array.real, array.imag], axis=-1)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 12, 31, 45, 64, 105, 400])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transforms_of_any_length(n: int, dtype: str) -> None:
    x = RNG.standard_normal((3, n, 2, 2)).astype(dtype)
    whole = x[..., 0] + 1j * x[..., 1]
    forward = complex_parts(np.fft.fft(whole, axis=1)).astype(dtype)
    check_node("DFT", [x, None, np.array(1)], opset=20, expected=[forward], tol=1e-6, threads=2)
    backward = complex_parts(np.fft.ifft(whole, axis=1)).astype(dtype)
    check_node("DFT", [x], {"inverse": 1, "axis": 1}, opset=17, expected=[backward], tol=1e-6)


@pytest.mark.parametrize("length", [4, 8, 13])
def test_transforms_that_cut_or_fill_up(length: int) -> None:
    x = RNG.standard_normal((2, 8, 1)).astype(np.float32)
    feeds = {"x": x, "n": np.array(length), "axis": np.array(1)}
    full = complex_parts(np.fft.fft(x[..., 0], length, axis=1)).astype(np.float32)
    check_node("DFT", feeds, opset=20, constants=["n", "axis"], expected=[full], tol=1e-6)
    half = complex_parts(np.fft.rfft(x[..., 0], length, axis=1)).astype(np.float32)
    check_node("DFT", feeds, {"onesided": 1}, opset=20, constants=["n", "axis"], expected=[half], tol=1e-6)


@pytest.mark.parametrize("n", [8, 10])
def test_half_a_spectrum_goes_back_to_a_real_signal(n: int) -> None:
    signal = RNG.standard_normal((2, n)).astype(np.float32)
    x = complex_parts(np.fft.rfft(signal, axis=1)).astype(np.float32)
    options = {"inverse": 1, "onesided": 1}
    expected = [signal[..., None]]
    check_node("DFT", {"x": x, "n": None, "a": np.array(1)}, options, 20, constants=["a"], expected=expected, tol=1e-6)


def test_an_axis_known_only_at_run_time() -> None:
    x = RNG.standard_normal((4, 6, 5, 2)).astype(np.float32)
    for axis in (0, 1, 2, -2, -4):
        whole = np.fft.fft(x[..., 0] + 1j * x[..., 1], axis=axis % 4)
        check_node(
            "DFT", [x, None, np.array(axis)], opset=20, expected=[complex_parts(whole).astype(np.float32)], tol=1e-6
        )


@pytest.mark.parametrize("length", [16, 20])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("features", FEATURES)
def test_frames_of_a_signal(length: int, onesided: int, features: str | None) -> None:
    signal = RNG.standard_normal((2, 75, 1)).astype(np.float32)
    window = np.hanning(length).astype(np.float32)
    feeds = {"x": signal, "step": np.array(7), "window": window, "n": np.array(length)}
    fixed = ["step", "n"]
    options = {"onesided": onesided}
    check_node("STFT", feeds, options, 17, constants=fixed, oracle="onnxruntime", tol=1e-5, features=features)
    feeds["window"] = None
    check_node("STFT", feeds, options, 17, constants=fixed, oracle="onnxruntime", tol=1e-5, features=features)


@pytest.mark.parametrize(("bands", "length", "low", "high"), [(8, 16, 0.0, 4000.0), (40, 512, 20.0, 7600.0)])
def test_mel_matrix(bands: int, length: int, low: float, high: float) -> None:
    feeds = [np.array(bands), np.array(length), np.array(8192 * 2), np.float32(low), np.float32(high)]
    check_node("MelWeightMatrix", feeds, opset=17, oracle="onnxruntime", tol=1e-6)

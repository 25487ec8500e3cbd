"""TensorFlow's operators for speech: the power of short pieces of sound, and cepstra of it on the mel scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.custom import flexible_options
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import custom_converter

_LONGEST = 1 << 16
_FLOOR = 1e-12
"""The least energy of a band, before its logarithm."""


@custom_converter("AudioSpectrogram")
def spectrogram(op: Operation) -> None:
    """Samples (n, channels) to (channels, pieces, frequencies); pieces are filled with zeros to a power of two."""
    options = _options(op)
    size, stride = _whole(op, options, "window_size"), _whole(op, options, "stride")
    if not 2 <= size <= _LONGEST or not 1 <= stride <= _LONGEST:
        raise op.error(f"has pieces of {size} samples every {stride}")
    length = 1 << (size - 1).bit_length()
    window = np.zeros(length, np.float32)
    window[:size] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    x = op.emit("Unsqueeze", [op.emit("Transpose", [op.real(0)], {"perm": [1, 0]}), op.number([2])])
    x = op.emit("Pad", [x, op.number([0, 0, 0, 0, length - size, 0])])  # so that there are as many pieces
    y = op.emit("STFT", [x, op.number(stride), op.number(window, np.float32), op.number(length)], {"onesided": 1})
    y = op.emit("ReduceSumSquare", [y, op.number([3])], {"keepdims": 0})
    op.finish(y if options.get("magnitude_squared", False) else op.emit("Sqrt", [y]))


@custom_converter("Mfcc")
def cepstra(op: Operation) -> None:
    """Power (channels, pieces, frequencies), the sample rate: to (channels, pieces, coefficients)."""
    options = _options(op)
    bands, count = _whole(op, options, "filterbank_channel_count"), _whole(op, options, "dct_coefficient_count")
    rate, frequencies = op.constant(1), op.shape(0)[-1]
    low, high = (float(options.get(f"{end}_frequency_limit", 0)) for end in ("lower", "upper"))
    if rate is None or frequencies is None:
        raise op.unsupported("has a sample rate that the model computes, or any number of frequencies")
    if not 1 <= count <= bands <= _LONGEST or not 2 <= frequencies <= _LONGEST or rate.size != 1:
        raise op.error(f"makes {count} coefficients of {bands} bands of {frequencies} frequencies")
    if not 0 <= low < high <= rate.item() / 2:
        raise op.error(f"has frequencies from {low} to {high} at a rate of {rate.item()}")
    weights = mel_weights(frequencies, float(rate.item()), bands, low, high)
    energies = op.emit("MatMul", [op.emit("Sqrt", [op.real(0)]), op.number(weights, np.float32)])
    logarithms = op.emit("Log", [op.emit("Max", [energies, op.number(_FLOOR, np.float32)])])
    cosines = np.cos(np.outer(np.arange(bands) + 0.5, np.arange(count)) * np.pi / bands) * np.sqrt(2 / bands)
    op.finish(op.emit("MatMul", [logarithms, op.number(cosines, np.float32)]))


def mel_weights(frequencies: int, rate: float, bands: int, low: float, high: float) -> npt.NDArray[np.float64]:
    """How much of each frequency, from 0 to half the rate, is in each band: (frequencies, bands).

    Bands are triangles on the mel scale, each from the middle of the one before to that of the one behind (Davis and
    Mermelstein, 1980), as TensorFlow's MfccMelFilterbank has them: the lowest frequency rounded up to a bin and a half.
    """
    step = 0.5 * rate / (frequencies - 1)
    mels = 1127.0 * np.log1p(np.arange(frequencies) * step / 700.0)
    bottom, top = 1127.0 * np.log1p(low / 700.0), 1127.0 * np.log1p(high / 700.0)
    centers = bottom + (top - bottom) / (bands + 1) * np.arange(bands + 2)  # from the bottom itself to the top
    found = np.zeros((frequencies, bands))
    for at in range(int(1.5 + low / step), min(int(high / step), frequencies - 1) + 1):
        band = int(np.searchsorted(centers[1 : bands + 1], mels[at]))  # of those above it, the nearest
        share = (centers[band + 1] - mels[at]) / (centers[band + 1] - centers[band])
        if band >= 1:
            found[at, band - 1] += share
        if band < bands:
            found[at, band] += 1 - share
    return found


def _options(op: Operation) -> Mapping[str, Any]:
    found = flexible_options(op.file.custom_options)
    if found is None:
        raise op.error("lacks its options")
    return found


def _whole(op: Operation, options: Mapping[str, Any], name: str) -> int:
    value = options.get(name)
    if not isinstance(value, int):
        raise op.error(f"lacks its option {name}")
    return value

"""Discrete Fourier transforms of lines in memory, and of overlapping frames of a signal."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, f64, helper, i64, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "dft": "source target table scratch given length bins inner parts_in parts_out inverse mirrored where axis rank",
    "stft": "signal window target table scratch samples parts frames step length taps bins",
    "mel_matrix": "length rate low high target bands bins",
}

LN10 = 2.302585092994046


@helper
def _smallest_factor(n: Any) -> Any:
    """The smallest prime that divides ``n``, which is at least 2."""
    factor = 2
    while quotient(n, factor) * factor != n:
        factor += 1
    return factor


@helper
def _transform_by_factors(args: Any, data: Any, result: Any, table: Any, n: Any, bins: Any, sign: Any) -> Any:
    """Begins with n transforms of 1 number each; every factor makes one transform of that many of them.

    Before a stage, word ``k * done + f`` is frequency f of the transform of numbers k, k + n/done, k + 2n/done, ….
    """
    source, target = data, result
    done = 1
    work = 0
    while done < n:
        factor = _smallest_factor(quotient(n, done))
        length = done * factor
        left = quotient(n, length)
        for k in range(left):
            for frequency in range(length):
                work += factor + 4
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return False
                inner = frequency - quotient(frequency, done) * done
                real, imaginary = 0.0, 0.0
                at = 0
                for part in range(factor):
                    word = 2 * ((k + left * part) * done + inner)
                    cosine = table[2 * at]
                    sine = sign * table[2 * at + 1]
                    real += source[word] * cosine - source[word + 1] * sine
                    imaginary += source[word] * sine + source[word + 1] * cosine
                    at += frequency * left
                    if at >= n:
                        at -= n
                target[2 * (k * length + frequency)] = real
                target[2 * (k * length + frequency) + 1] = imaginary
        done = length
        source, target = target, source
    # what is written to last is in source now; where that is data, it is brought over (else onto itself)
    for i in range(2 * bins):
        result[i] = source[i]
    return True


@helper
def _transform(args: Any, data: Any, result: Any, table: Any, n: Any, bins: Any, sign: Any) -> Any:
    """``bins`` bins of the transform of ``n`` complex numbers (pairs) in ``data``.

    ``table`` holds cos and sin of 2 pi k / n.  A power of two is transformed in place by halves, another length
    factor by factor (Stockham's order, for factors of any size: Van Loan, Computational Frameworks for the Fast
    Fourier Transform, 1992), and a prime by definition.  ``data`` is changed.  False if the run is to stop.
    """
    if n & (n - 1) == 0:
        other = 0
        for i in range(1, n):
            bit = n >> 1
            while other & bit:
                other ^= bit
                bit >>= 1
            other |= bit
            if i < other:
                data[2 * i], data[2 * other] = data[2 * other], data[2 * i]
                data[2 * i + 1], data[2 * other + 1] = data[2 * other + 1], data[2 * i + 1]
        half = 1
        while half < n:
            stride = quotient(n, 2 * half)
            for first in range(0, n, 2 * half):
                for i in range(half):
                    cosine = table[2 * i * stride]
                    sine = sign * table[2 * i * stride + 1]
                    a, b = 2 * (first + i), 2 * (first + i + half)
                    real = data[b] * cosine - data[b + 1] * sine
                    imaginary = data[b] * sine + data[b + 1] * cosine
                    data[b] = data[a] - real
                    data[b + 1] = data[a + 1] - imaginary
                    data[a] += real
                    data[a + 1] += imaginary
            half *= 2
        for i in range(2 * bins):
            result[i] = data[i]
        return True
    if _smallest_factor(n) < n:
        return _transform_by_factors(args, data, result, table, n, bins, sign)
    work = 0
    for k in range(bins):
        work += n
        if work > POLL_WORK:
            work = 0
            if stop_requested(args):
                return False
        real, imaginary = 0.0, 0.0
        at = 0
        for t in range(n):
            cosine = table[2 * at]
            sine = sign * table[2 * at + 1]
            real += data[2 * t] * cosine - data[2 * t + 1] * sine
            imaginary += data[2 * t] * sine + data[2 * t + 1] * cosine
            at += k
            if at >= n:
                at -= n
        result[2 * k] = real
        result[2 * k + 1] = imaginary
    return True


def dft(dtype: str) -> Kernel:
    """One unit is one line of ``given`` numbers, ``inner`` numbers apart.

    Where the axis is known only at run time, ``where`` is its address, else 0: there is one step per axis, and all
    that are not for that axis do nothing.

    Parts are 1 for real, 2 for complex numbers.  ``mirrored``: only the first half of a symmetric spectrum is given.
    The scratch holds 4 * length float64 per chunk.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, table = pointer(args[0]), pointer(args[1]), f64(args[2])
        given, n, bins, inner, parts_in, parts_out = args[4], args[5], args[6], args[7], args[8], args[9]
        data = f64(args[3] + 32 * n * chunk)
        result = f64(args[3] + 32 * n * chunk + 16 * n)
        sign = 1.0 if args[10] != 0 else -1.0
        factor = 1.0 / n if args[10] != 0 else 1.0
        if args[12] != 0:
            axis = i64(args[12])[0]
            if (axis + args[14] if axis < 0 else axis) != args[13]:
                return
        for unit in range(begin, end):
            outer = quotient(unit, inner)
            lane = unit - outer * inner
            for t in range(n):
                at = t
                conjugate = 1.0
                if args[11] != 0 and t > quotient(n, 2):
                    at = n - t
                    conjugate = -1.0
                if at < given:
                    word = ((outer * given + at) * inner + lane) * parts_in
                    data[2 * t] = np.float64(source[word])
                    data[2 * t + 1] = conjugate * np.float64(source[word + 1]) if parts_in == 2 else 0.0
                else:
                    data[2 * t] = 0.0
                    data[2 * t + 1] = 0.0
            if not _transform(args, data, result, table, n, bins, sign):
                return
            for k in range(bins):
                word = ((outer * bins + k) * inner + lane) * parts_out
                target[word] = scalar(result[2 * k] * factor)
                if parts_out == 2:
                    target[word + 1] = scalar(result[2 * k + 1] * factor)

    return kernel


def stft(dtype: str) -> Kernel:
    """One unit is one frame of one signal; the window lies in the middle of the frame.

    The window has ``taps`` weights; address 0 for none.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        signal, window, target, table = pointer(args[0]), pointer(args[1]), pointer(args[2]), f64(args[3])
        samples, parts, frames, step, n, taps, bins = (
            args[5], args[6], args[7], args[8], args[9], args[10], args[11],
        )  # fmt: skip
        data = f64(args[4] + 32 * n * chunk)
        result = f64(args[4] + 32 * n * chunk + 16 * n)
        left = quotient(n - taps, 2)
        for unit in range(begin, end):
            batch = quotient(unit, frames)
            first = (unit - batch * frames) * step
            for t in range(n):
                weight = 1.0
                if args[1] != 0:
                    weight = np.float64(window[t - left]) if left <= t < left + taps else 0.0
                word = (batch * samples + first + t) * parts
                data[2 * t] = weight * np.float64(signal[word])
                data[2 * t + 1] = weight * np.float64(signal[word + 1]) if parts == 2 else 0.0
            if not _transform(args, data, result, table, n, bins, -1.0):
                return
            for i in range(2 * bins):
                target[unit * 2 * bins + i] = scalar(result[i])

    return kernel


@helper
def _mel(hertz: Any) -> Any:
    return 2595.0 / LN10 * np.log(1.0 + hertz / 700.0)


def mel_matrix(number: str, edge: str, dtype: str) -> Kernel:
    """Triangles that overlap, equally far apart on the mel scale; one unit is one band.

    The transform's length, the sample rate, and the lower and upper edge are addresses of scalars.
    """
    number_pointer, edge_pointer = POINTERS[number], POINTERS[edge]
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        length = np.float64(number_pointer(args[0])[0])
        rate = np.float64(number_pointer(args[1])[0])
        low = _mel(np.float64(edge_pointer(args[2])[0]))
        high = _mel(np.float64(edge_pointer(args[3])[0]))
        target = pointer(args[4])
        bands, bins = args[5], args[6]
        step = (high - low) / (bands + 2)  # as the standard has it: its triangles end below the upper edge
        for band in range(begin, end):
            left = np.floor((length + 1.0) * 700.0 * (np.exp((low + band * step) / 2595.0 * LN10) - 1.0) / rate)
            center = np.floor((length + 1.0) * 700.0 * (np.exp((low + (band + 1) * step) / 2595.0 * LN10) - 1.0) / rate)
            right = np.floor((length + 1.0) * 700.0 * (np.exp((low + (band + 2) * step) / 2595.0 * LN10) - 1.0) / rate)
            for i in range(bins):
                value = 0.0
                if center == left:
                    if i == center:
                        value = 1.0
                elif left <= i <= center:
                    value = (i - left) / (center - left)
                if right > center and center <= i < right:
                    value = (right - i) / (right - center)
                target[i * bands + band] = scalar(value)

    return kernel

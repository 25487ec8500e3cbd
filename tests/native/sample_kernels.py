"""Kernels written in Python, for the tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, as_float, f32, helper, i32, stop_requested, u8

KERNEL_DEPENDENCIES = ("sample_helpers",)


@helper
def square(x: Any) -> Any:
    return x * x


def saxpy() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x = f32(args[0])
        y = f32(args[1])
        factor = np.float32(as_float(args[2]))
        for i in range(begin, end):
            y[i] = y[i] + factor * x[i]

    return kernel


def unary(function: str) -> Kernel:
    operation = getattr(math, function)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x = f32(args[0])
        y = f32(args[1])
        for i in range(begin, end):
            y[i] = operation(x[i])

    return kernel


def squares() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x = f32(args[0])
        y = f32(args[1])
        for i in range(begin, end):
            y[i] = square(x[i])

    return kernel


def remainder() -> Kernel:
    """Python's integer division and remainder, whatever the divisor."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x = i32(args[0])
        y = i32(args[1])
        for i in range(begin, end):
            y[i] = x[i] % i32(args[2])[i]

    return kernel


def total(fast: str) -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x = f32(args[0])
        result = np.float32(0)
        for i in range(begin, end):
            result += x[i]
        f32(args[1])[0] = result

    if fast == "yes":
        kernel.__fastmath__ = {"reassoc", "nsz"}  # type: ignore[attr-defined]
    return kernel


def from_the_end() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x = u8(args[0])
        for i in range(begin, end):
            x[-i] = x[-i] + 1

    return kernel


def raising() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        if args[0] == 3:
            raise ValueError("three")

    return kernel


def allocating() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        f32(args[0])[0] = len([begin, end])

    return kernel


def objects() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        args.unheard_of()

    return kernel


def gamma() -> Kernel:
    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        f32(args[0])[0] = math.gamma(f32(args[0])[0])

    return kernel


def until_stopped() -> Kernel:
    """One unit of work that ends only because the run is to stop."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        for _ in range(begin, end):
            while not stop_requested(args):
                pass

    return kernel

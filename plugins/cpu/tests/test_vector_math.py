"""Generated vector functions: largest errors against float64, over all exponents of float32."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import here
from llvmlite import ir
from mace_cpu.elementwise.expression import Expression, Operation
from mace_cpu.elementwise.lower_chain import elementwise_kernel
from mace_cpu.normalization.lower import response_norm_kernel, row_norm_kernel
from mace_cpu.normalization.lower_softmax import softmax_kernel
from mace_cpu.normalization.rows import RowNorm
from mace_cpu.shared.codegen import vector_basic, vector_math
from mace_cpu.shared.codegen.body import F32, Body
from mace_cpu.shared.codegen.version import generator_version

from mace_core.native.compiler import compile_object
from mace_core.native.kernel import load_kernels
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, foreign_target, host_target

Array = npt.NDArray[Any]
Emit = Callable[[ir.IRBuilder, ir.Value], ir.Value]
MASKS = here("", "avx2", "baseline")


def run(name: str, emit: Emit, x: Array, *, mask: str = "", lanes: int = 16) -> Array:
    """``emit`` applied to every element of a float32 array whose size is a multiple of ``lanes`` (0: scalars)."""

    def build(target: Target) -> str:
        body = Body(f"math_{name}_{lanes}", max(lanes, 1))
        vector_basic.allow_features(body.module, target.features)
        kind = body.vector if lanes else F32
        source, result = body.pointer(0), body.pointer(1)
        with body.loop(body.begin, body.end, max(lanes, 1)) as i:
            value = body.b.load(body.floats(source, i), typ=kind, align=4)
            body.b.store(emit(body.b, value), body.floats(result, i), align=4)
        return body.text()

    source = KernelSource(f"math_{name}_{lanes}", generator_version("mace_cpu.shared.codegen.body"), build)
    address = load_kernels([source], host_target(mask))[source.symbol]
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
    y = np.empty_like(x)
    words = np.array([x.ctypes.data, y.ctypes.data], np.int64)
    kernel(words.ctypes.data, 0, x.size, 0)
    return y


@cache
def samples() -> Array:
    """Positive and negative numbers of every exponent, subnormal ones included, without infinities."""
    generator = np.random.default_rng(1)
    exponents = np.repeat(np.arange(255, dtype=np.uint32), 256)
    mantissas = generator.integers(0, 1 << 23, exponents.size, dtype=np.uint32)
    mantissas[::256] = 0
    mantissas[1::256] = (1 << 23) - 1
    x = ((exponents << 23) | mantissas).view(np.float32)
    dense = generator.uniform(-20, 20, 1 << 17).astype(np.float32)
    wide = generator.uniform(-110, 95, 1 << 16).astype(np.float32)
    return np.concatenate([x, -x, dense, wide])


def ulps(found: Array, exact: Array) -> Array:
    """Distance in units in the last place of the float32 nearest to ``exact`` (subnormal spacing at the bottom)."""
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    same = (found == nearest) | (np.isnan(found) & np.isnan(nearest))
    unit = np.spacing(np.maximum(np.abs(nearest), np.finfo(np.float32).tiny)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - exact) / unit
    error[same] = np.minimum(error[same], 0.5)
    error[np.isnan(error)] = np.where(same[np.isnan(error)], 0.0, np.inf)
    return error


def each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda x: np.array([function(v) for v in x.tolist()])


EXACT: dict[str, tuple[Emit, Callable[[Array], Array], float]] = {
    "exp": (vector_math.exp, np.exp, 2.0),
    "sigmoid": (vector_math.sigmoid, lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))), 3.0),
    "tanh": (vector_math.tanh, np.tanh, 2.0),
    "log": (vector_math.log, np.log, 2.0),
    "erf": (vector_math.erf, each(math.erf), 2.0),
    "sin": (vector_math.sin, np.sin, 2.0),
    "cos": (vector_math.cos, np.cos, 2.0),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", EXACT)
def test_error_stays_below_what_is_stated(name: str, mask: str) -> None:
    emit, exact, limit = EXACT[name]
    x = samples()
    with np.errstate(all="ignore"):
        error = ulps(run(name, emit, x, mask=mask), exact(x.astype(np.float64)))
    worst = int(np.argmax(error))
    extra = 1.0 if mask == "baseline" else 0.0
    assert error[worst] <= limit + extra, f"{error[worst]:.2f} ulp at {x[worst]!r}"


@pytest.mark.parametrize("name", EXACT)
def test_scalars_get_the_same_function(name: str) -> None:
    emit, exact, limit = EXACT[name]
    x = samples()[::16].copy()
    with np.errstate(all="ignore"):
        error = ulps(run(name, emit, x, lanes=0), exact(x.astype(np.float64)))
    assert error.max() <= limit


def test_kernels_can_be_generated_for_another_architecture() -> None:
    operations = [Operation(op, (~0,), "float32") for op in ("exp", "log", "tanh", "gelu", "sin", "floor")]
    operations.append(Operation("add", (5, ~1), "float32"))
    expression = Expression((("float32", "c"), ("float32", "s")), tuple(operations), (0, 1, 2, 3, 4, 6), 2)
    sources = [
        elementwise_kernel(expression),
        softmax_kernel(dtype="float32", logarithm=True, columns=True),
        row_norm_kernel(RowNorm("float32", mean=True)),
        response_norm_kernel("float32"),
    ]
    target = foreign_target("aarch64")
    for source in sources:
        assert compile_object(source.build(target), source.symbol, target)

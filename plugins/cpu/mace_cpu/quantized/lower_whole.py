"""Products and convolutions of quantized numbers with known weights, computed exactly by the kernels for float32.

A float32 holds every whole number up to 2**24, so sums of products of bytes come out exact, in whatever order they are
summed, as long as no partial sum can be larger.  What the weights allow is known when they are: with activations of at
most 255 steps from their zero point, a result of a column is never beyond 255 times the sum of the column's absolute
weights.  Where that is too much, a product is summed over parts of its depth, and a convolution is done once for the
high and once for the low digits of its weights; int32 takes the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType, Tensor, TensorType
from mace_cpu.conv.lower import conv
from mace_cpu.matmul.lower import matmul_product
from mace_cpu.matmul.lower_packed import emit_product
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.nodes import even_rows, need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program

KERNELS = "mace_cpu.quantized.kernels"

LARGEST_WHOLE = 1 << 24
FARTHEST = 255
"""From any byte to any zero point of its type."""

RADIX = 16
"""Digits of weights: with 17 bits left for 255 times a digit, a sum has room for 8,000 terms."""

PIECE = 4096
"""Elements of a sum that one unit of work puts together."""

SAFE_TERMS = 256
"""So many products of bytes have an exact sum whatever the weights."""

Whole = npt.NDArray[np.int16]


def takes_whole_product(program: Program, a: Value, b: Value, zeros: Sequence[Value | None]) -> bool:
    """Whether ``b`` and its zeros are one known matrix, ``a`` has one zero point, and there is something to do."""
    known = program.facts.constant_of(b) is not None and (
        zeros[1] is None or program.facts.constant_of(zeros[1]) is not None
    )
    single = zeros[0] is None or program.facts.size(zeros[0]) == 1
    return (
        known
        and single
        and len(program.facts.shape(b)) == 2
        and program.facts.size(a) > 0
        and program.facts.size(b) > 0
    )


def emit_whole_product(
    program: Program, a: Value, b: Value, zeros: Sequence[Value | None], target: Buf, *, as_float: bool = False
) -> None:
    """Emit the products of all rows of ``a`` with the known matrix ``b`` into ``target``, where `takes_whole_product`.

    Args:
        zeros: the zero points of ``a`` (one for all) and ``b`` (known), None where they are 0.
        target: int32, or float32 if ``as_float``.
    """
    weights = _known(program, b, zeros[1], axis=-1)
    assert weights is not None
    product = matmul_product(program.facts.shape(a), weights.shape)
    ends = _parts(weights)
    parts = len(ends)
    size = product.rows * product.columns
    source = _emit_steps(program, a, zeros[0], Buf.scratch(4 * program.facts.size(a)))
    sums = target if parts == 1 and as_float else Buf.scratch(4 * size * parts)
    bias = np.zeros(product.columns, np.float32)
    for index, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        part = replace(product, steps=end - begin)
        piece = source
        if parts > 1:
            piece = Buf.scratch(4 * product.rows * part.steps)
            program.steps.emit(
                numba_source(KERNELS, "columns"),
                {"source": source, "target": piece, "width": product.steps, "first": begin, "count": part.steps},
                extent=product.rows,
                work=product.rows * part.steps,
            )
        right = weights[begin:end].astype(np.float32)
        out = sums if parts == 1 else sums.part(4 * size * index, 4 * size)
        emit_product(program, part, piece, right, bias, Epilogue(), [], out)
    if sums is not target:
        _emit_sum(program, sums, target, parts, 1, size, as_float)


def takes_whole_conv(program: Program, node: Node, x: Value, w: Value, zeros: Sequence[Value | None]) -> bool:
    """Whether the weights and their zero points are known, one or two spatial axes are left, and the sums are exact."""
    weights = _known(program, w, zeros[1], axis=0)
    if weights is None or weights.ndim > 4 or program.facts.constant_of(x) is not None:
        return False
    if zeros[0] is not None and program.facts.size(zeros[0]) != 1:
        return False
    if not program.facts.size(x) or not program.facts.size(need(node.output(0))) or not weights.size:
        return False
    return all(_largest_sum(part) <= LARGEST_WHOLE for part in _digits(weights))


def emit_whole_conv(
    program: Program,
    node: Node,
    x: Value,
    w: Value,
    zeros: Sequence[Value | None],
    target: Buf,
    *,
    as_float: bool = False,
) -> None:
    """Emit the convolution of ``x`` with known weights into ``target``, where `takes_whole_conv`.

    ``node`` has the attributes and the result's shape; ``zeros`` and ``target`` are as for a product, the zero points
    of ``w`` one for all or one per output channel.
    """
    weights = _known(program, w, zeros[1], axis=0)
    assert weights is not None
    result, digits = need(node.output(0)), _digits(weights)
    steps = Value(f"{x.name}.steps", TensorType(DType.FLOAT32, program.facts.shape(x)))
    _emit_steps(program, x, zeros[0], program.values.write(steps))
    size = program.facts.size(result)
    sums = Buf.scratch(4 * size * len(digits))
    for index, part in enumerate(digits):
        out = Value(f"{result.name}.sums{index}", TensorType(DType.FLOAT32, program.facts.shape(result)))
        known = Value(f"{w.name}.steps{index}", constant=Tensor.from_numpy(part.astype(np.float32)))
        with _exactly(program):
            conv(program, Node("Conv", [steps, known], [out], name=node.name, attributes=node.attributes))
        buf = program.values.read(out)
        if len(digits) == 1:
            sums = buf
        else:
            program.steps.emit(
                numba_source(KERNELS, "columns"),
                {
                    "source": buf,
                    "target": sums.part(4 * size * index, 4 * size),
                    "width": size,
                    "first": 0,
                    "count": size,
                },
                extent=1,
                work=size,
            )
    _emit_sum(program, sums, target, len(digits), RADIX, size, as_float)


@contextmanager
def _exactly(program: Program) -> Iterator[None]:
    """Without the ways to compute a convolution that round on the way."""
    before = program.settings
    program.settings = replace(before, winograd=False, pair_unit=None)
    try:
        yield
    finally:
        program.settings = before


def _known(program: Program, value: Value, zero: Value | None, axis: int) -> Whole | None:
    """The steps of known weights from their zero points, which lie along ``axis``; None if they are not known."""
    weights, zeros = program.facts.constant_of(value), program.facts.constant_of(zero)
    if weights is None or (zero is not None and zeros is None):
        return None
    whole: Whole = weights.astype(np.int16)
    if zeros is None:
        return whole
    if zeros.size == 1:
        return whole - np.int16(zeros.reshape(-1)[0])
    shape = [1] * whole.ndim
    shape[axis] = zeros.size
    return whole - zeros.reshape(shape).astype(np.int16)


def _parts(weights: Whole) -> list[int]:
    """Where to end partial sums over the rows of ``weights`` so that each is exact."""
    begins = range(0, len(weights), SAFE_TERMS)
    blocks = np.add.reduceat(np.abs(weights), begins, axis=0, dtype=np.int32)
    ends: list[int] = []
    total: npt.NDArray[Any] = np.zeros(weights.shape[1], np.int32)
    for begin, block in zip(begins, blocks, strict=True):
        total = total + block
        if FARTHEST * int(total.max()) > LARGEST_WHOLE:
            ends.append(begin)
            total = block
    return [*ends, len(weights)]


def _largest_sum(weights: Whole) -> int:
    return FARTHEST * int(np.abs(weights).reshape(len(weights), -1).sum(axis=1, dtype=np.int64).max())


def _digits(weights: Whole) -> list[Whole]:
    """The weights if sums with them are exact, else their digits, the high ones first."""
    if _largest_sum(weights) <= LARGEST_WHOLE:
        return [weights]
    high: Whole = (weights + np.int16(RADIX // 2)) // np.int16(RADIX)
    return [high, weights - np.int16(RADIX) * high]


def _emit_steps(program: Program, value: Value, zero: Value | None, target: Buf) -> Buf:
    """``value`` minus its zero point, as float32."""
    rows, inner = even_rows(program.facts.shape(value))
    program.steps.emit(
        numba_source(KERNELS, "dequantize", source=program.facts.dtype(value).label, scale="float32", target="float32"),
        {
            "source": program.values.read(value),
            "scale": program.constants.put(np.ones(1, np.float32)),
            "zero": 0 if zero is None else program.values.read(zero),
            "target": target,
            "size": 0,
            "inner": inner,
            "block": 0,
        },
        extent=rows,
        work=rows * inner * 2,
    )
    return target


def _emit_sum(program: Program, sums: Buf, target: Buf, parts: int, radix: int, size: int, as_float: bool) -> None:
    program.steps.emit(
        numba_source(KERNELS, "whole_sums", target="float32" if as_float else "int32"),
        {"parts": sums, "target": target, "count": parts, "radix": radix, "size": size, "piece": PIECE},
        extent=-(-size // PIECE),
        work=size * parts,
    )


def output_cast(program: Program, node: Node) -> Value | None:
    """The float32 that the result of ``node`` is converted to, if nothing else becomes of it."""
    result = need(node.output(0))
    user = program.fusion.sole_user(result)
    if user is None or user.domain or user.op_type != "Cast" or math.prod(program.facts.shape(result)) == 0:
        return None
    converted = need(user.output(0))
    if program.facts.dtype(converted) is not DType.FLOAT32:
        return None
    program.fusion.fuse(user)
    return converted

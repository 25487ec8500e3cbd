"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source


def matrix_dim(source: Source) -> int:
    """Small, or beside the sizes of register tiles."""
    return source.pick([1, 3, 8, 17, 33, 50, 64]) if source.rarely(3) else source.dim(1, 6)


def product_shapes(source: Source) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that numpy.matmul takes."""
    m, k, n = (matrix_dim(source) for _ in range(3))
    batch = source.shape(0, 2, largest=3, empty=False) if source.flag() else ()
    if max(batch, default=0) > 4:
        batch = ()
    left, right = (*source.broadcast(batch), m, k), (*source.broadcast(batch), k, n)
    if source.rarely(6):
        left = (k,)
    if source.rarely(6):
        right = (k,)
    return left, right


@draws("MatMul")
def product(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    left, right = product_shapes(source)
    step = 1 if dtype.itemsize == 2 else 0.25
    return OpCase(op, opset, (source.array(left, dtype, -2, 2, step), source.array(right, dtype, -2, 2, step)))


@draws("Gemm")
def general_product(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    m, k, n = (matrix_dim(source) for _ in range(3))
    attributes: dict[str, Any] = {}
    flip_a, flip_b = source.flag(), source.flag()
    if flip_a or source.flag():
        attributes["transA"] = int(flip_a)
    if flip_b or source.flag():
        attributes["transB"] = int(flip_b)
    for name in ("alpha", "beta"):
        if source.flag():
            # a whole factor: some compute it in whole numbers for whole types
            attributes[name] = source.pick([2.0, -1.0, 0.0, 1.0] if dtype.kind in "iu" else [0.5, 2.0, -1.0, 0.0])
    a = source.array((k, m) if flip_a else (m, k), dtype, -2, 2, 0.5)
    b = source.array((n, k) if flip_b else (k, n), dtype, -2, 2, 0.5)
    c = None
    if opset < 11 or source.flag():
        c = source.array(source.pick([(m, n), (n,), (1, n), (m, 1), (), (1,), (1, 1)]), dtype, -2, 2)
    return OpCase(op, opset, (a, b) if c is None else (a, b, c), attributes)


@draws("MatMulInteger")
def integer_product(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    left, right = product_shapes(source)
    first, second = (source.pick([np.uint8, np.int8]) for _ in range(2))
    a, b = (source.extremes(source.array(s, d, -99, 99)) for s, d in ((left, first), (right, second)))
    inputs: list[Any] = [a, b]
    if source.flag():
        inputs.append(source.array((), first, -5, 5))
        if source.flag():
            # one for all, or one a column
            per_column = len(right) == 2 and source.flag()
            inputs.append(source.array((right[-1],) if per_column else (), second, -5, 5))
    return OpCase(op, opset, tuple(inputs))


EQUATIONS = (
    *("ij,jk->ik", "ij,jk", "i,i->", "i,j->ij", "ii->i", "ij->ji", "ij->", "bij,bjk->bik", "...ij,...jk->...ik"),
    *("bhqd,bhkd->bhqk", "bhqk,bhkd->bhqd", "ij,ij->ij", "ijk->kij", "ij,kj->ik", "abc,cd,d->ab", "...ii->...i"),
    *("i...,i...->...", "ij,j", "bn,anm,bm->ba", "ab,ab", "i,i,i->i"),
)


@draws("Einsum")
def einsum(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    equation = source.pick(EQUATIONS)
    sizes = {letter: source.dim(1, 5) for letter in "abcdhijkmnq"}
    dots = source.shape(0, 2, largest=3, empty=False)
    shapes = []
    for term in equation.split("->")[0].split(","):
        before, _, after = term.partition("...")
        middle = dots if "..." in term else ()
        shapes.append((*(sizes[c] for c in before), *middle, *(sizes[c] for c in after)))
    inputs = tuple(source.array(shape, dtype, -2, 2, 0.5) for shape in shapes)
    if source.flag():
        equation = equation.replace("->", " -> ").replace(",", ", ")
    return OpCase(op, opset, inputs, {"equation": equation})

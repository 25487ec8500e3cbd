"""Matrix products, Einsum and determinants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.operators.checks import expect, expect_one
from mace_core.operators.context import Ints, NodeContext, NodeShapes, ShapeMismatchError, broadcast
from mace_core.operators.quantized_operands import expect_operand, expect_zero_point
from mace_core.operators.registry import agreement, shape_function, work_estimate
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


def matmul_shape(first: Ints, second: Ints) -> Ints:
    """numpy's rule: (…, M, K) x (…, K, N) -> (…, M, N); vectors lose their axis again."""
    if not first or not second:
        raise ShapeMismatchError("matrix products take no scalars")
    left = (1, *first) if len(first) == 1 else first
    right = (*second, 1) if len(second) == 1 else second
    if left[-1] != right[-2]:
        raise ShapeMismatchError(
            f"{list(first)} x {list(second)} does not fit: {left[-1]} columns against {right[-2]} rows"
        )
    rows = left[-2:-1] if len(first) > 1 else ()
    columns = right[-1:] if len(second) > 1 else ()
    return broadcast(left[:-2], right[:-2]) + rows + columns


@shape_function("MatMul")
def matmul(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(0), matmul_shape(ctx.shape(0), ctx.shape(1)))]


@shape_function("MatMulInteger", dtypes=lambda ctx: [DType.INT32])
def matmul_integer(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(DType.INT32, matmul_shape(ctx.shape(0), ctx.shape(1)))]


@shape_function("QLinearMatMul", dtypes=lambda ctx: [ctx.dtype(7)])
def qlinear_matmul(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(7), matmul_shape(ctx.shape(0), ctx.shape(3)))]


@shape_function("Gemm")
def gemm(ctx: NodeContext) -> Sequence[ValueType]:
    first, second = ctx.shape(0), ctx.shape(1)
    if len(first) != 2 or len(second) != 2:
        raise ShapeMismatchError("both factors must be matrices")
    left = first[::-1] if ctx.attr("transA", 0) else first
    right = second[::-1] if ctx.attr("transB", 0) else second
    shape = matmul_shape(left, right)
    if ctx.has(2) and ctx.opset >= 7 and broadcast(shape, ctx.shape(2)) != shape:
        raise ShapeMismatchError(f"the addend {list(ctx.shape(2))} must broadcast to the product {list(shape)}")
    return [TensorType(ctx.dtype(0), shape)]


@shape_function("Einsum")
def einsum(ctx: NodeContext) -> Sequence[ValueType]:
    equation = str(ctx.attr("equation", "")).replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != ctx.input_count:
        raise ShapeMismatchError(f"the equation '{equation}' has {len(terms)} terms for {ctx.input_count} inputs")
    sizes: dict[str, int] = {}
    shared: Ints = ()
    for index, term in enumerate(terms):
        shared = broadcast(shared, _bind_term(term, ctx.shape(index), sizes))
    if not arrow:
        letters = inputs.replace(",", "").replace(".", "")
        output = "..." * ("..." in inputs) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    before, dots, after = output.partition("...")
    unknown = [letter for letter in before + after if letter not in sizes]
    if unknown:
        raise ShapeMismatchError(f"the equation '{equation}' has no input with the axis '{unknown[0]}'")
    middle = shared if dots else ()
    shape = (*(sizes[c] for c in before), *middle, *(sizes[c] for c in after))
    return [TensorType(ctx.dtype(0), shape)]


def _bind_term(term: str, shape: Ints, sizes: dict[str, int]) -> Ints:
    """Enter the sizes of the term's letters; returns what its ellipsis stands for."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ShapeMismatchError(f"the term '{term}' does not fit {len(shape)} axes")
    named = shape[: len(before)] + shape[len(shape) - len(after) :]
    for letter, size in zip(before + after, named, strict=True):
        if sizes.setdefault(letter, size) not in (size, 1) and size != 1:
            raise ShapeMismatchError(f"axis '{letter}' is {sizes[letter]} and {size}")
        sizes[letter] = max(sizes[letter], size) if size else size
    return shape[len(before) : len(before) + hidden]


@shape_function("Det")
def determinant(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeMismatchError("the last two axes must form square matrices")
    return [TensorType(ctx.dtype(0), shape[:-2])]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("Einsum")
def check_einsum(ctx: NodeContext) -> None:
    equation = str(ctx.attr("equation", "")).replace(" ", "")
    sizes: dict[str, int] = {}
    for index, part in enumerate(equation.partition("->")[0].split(",")[: ctx.input_count]):
        shape = ctx.shape(index)
        before, _, after = part.partition("...")
        if len(before) + len(after) > len(shape):
            raise ShapeMismatchError(f"'{part}' does not fit {list(shape)}")
        named = [*zip(before, shape, strict=False), *zip(reversed(after), reversed(shape), strict=False)]
        for letter, size in named:
            if part.count(letter) > 1 and any(other != size for same, other in named if same == letter):
                raise ShapeMismatchError(f"'{letter}' in '{part}' cannot be two sizes of {list(shape)}")
            known = sizes.setdefault(letter, size)
            if known != size and 1 not in (known, size):
                raise ShapeMismatchError(f"index '{letter}' has sizes {known} and {size}")
            sizes[letter] = size if known == 1 else known


@agreement("MatMulInteger")
def check_integer_product(ctx: NodeContext) -> None:
    _expect_per_row(ctx, 2, "the zero point of A", 0)
    _expect_per_column(ctx, 3, "the zero point of B", 1)
    expect_zero_point(ctx, 2, "the zero point of A", data=0)
    expect_zero_point(ctx, 3, "the zero point of B", data=1)


@agreement("QLinearMatMul")
def check_quantized_product(ctx: NodeContext) -> None:
    for index, what in ((1, "the scale of A"), (2, "the zero point of A")):
        _expect_per_row(ctx, index, what, 0)
    for index, what in ((4, "the scale of B"), (5, "the zero point of B")):
        _expect_per_column(ctx, index, what, 3)
    for index, what in ((6, "the scale of the result"), (7, "the zero point of the result")):
        expect_one(ctx, index, what)
    expect_operand(ctx, "A", data=0, scale=1, zero=2)
    expect_operand(ctx, "B", data=3, scale=4, zero=5)
    expect_operand(ctx, "the result", data=None, scale=6, zero=7)


def _expect_per_row(ctx: NodeContext, index: int, what: str, data: int) -> None:
    shape = ctx.shape(data)
    rows = shape[-2:-1] or (1,)
    expect(ctx, index, (), (1,), rows, (*shape[:-2], *rows, 1), what=what)


def _expect_per_column(ctx: NodeContext, index: int, what: str, data: int) -> None:
    shape = ctx.shape(data)
    expect(ctx, index, (), (1,), shape[-1:], (*shape[:-2], 1, *shape[-1:]), what=what)


# --- work -------------------------------------------------------------------------------------------------------------


@work_estimate("MatMul", "MatMulInteger", "QLinearMatMul", are_macs=True)
def matmul_macs(shapes: NodeShapes) -> int | None:
    out, left = shapes.output(), shapes.input(0)
    return None if out is None or not left else math.prod(out) * left[-1]


@work_estimate("Gemm", are_macs=True)
def gemm_macs(shapes: NodeShapes) -> int | None:
    out, left = shapes.output(), shapes.input(0)
    if out is None or left is None or len(left) != 2:
        return None
    return math.prod(out) * left[0 if shapes.node.attr("transA", 0) else 1]


@work_estimate("Einsum")
def einsum_work(shapes: NodeShapes) -> int | None:
    """One operation for each combination of indices."""
    sizes: dict[str, int] = {}
    shared = 1
    terms = str(shapes.node.attr("equation", "")).replace(" ", "").partition("->")[0].split(",")
    for index, term in enumerate(terms):
        before, dots, after = term.partition("...")
        shape = shapes.input(index)
        if shape is None:
            return None
        for letter, size in [
            *zip(before, shape, strict=False),
            *zip(reversed(after), reversed(shape), strict=False),
        ]:
            sizes[letter] = max(sizes.get(letter, 1), size)
        if dots:
            shared = max(shared, math.prod(shape[len(before) : len(shape) - len(after)]))
    return shared * math.prod(sizes.values())

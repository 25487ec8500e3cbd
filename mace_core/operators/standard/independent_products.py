"""Independent axes of products, convolutions, pooling, resizing and recurrent operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mace_core.operators.context import normalize_axis
from mace_core.operators.independence import AxesContext, Lane, is_single, same_axes
from mace_core.operators.registry import independent_axes

BROADCASTS_SINCE = 7
"""The opset since which the addend of Gemm is broadcast as numpy does."""

SCALES_ARE_INPUT_2_SINCE = 11
"""Of Resize."""


# --- products ---------------------------------------------------------------------------------------------------------


@independent_axes("MatMul")
def matmul(ctx: AxesContext) -> Iterator[Lane]:
    return _product(ctx, 0, 1)


@independent_axes("MatMulInteger")
def matmul_integer(ctx: AxesContext) -> Iterator[Lane]:
    return _quantized_product(ctx, 0, (2,), 1, (3,), ())


@independent_axes("QLinearMatMul")
def qlinear_matmul(ctx: AxesContext) -> Iterator[Lane]:
    return _quantized_product(ctx, 0, (1, 2), 3, (4, 5), (6, 7))


def _quantized_product(
    ctx: AxesContext, left: int, of_rows: Sequence[int], right: int, of_columns: Sequence[int], of_result: Sequence[int]
) -> Iterator[Lane]:
    """The product of operands whose scales and zero points are single, or one for each row or column."""
    of_rows = [index for index in of_rows if not is_single(ctx, index)]
    of_columns = [index for index in of_columns if not is_single(ctx, index)]
    if any(not is_single(ctx, index) for index in of_result):
        return
    if all(len(ctx.shape(index)) == 1 for index in (*of_rows, *of_columns)):
        yield from _product(ctx, left, right, of_rows, of_columns)


def _product(
    ctx: AxesContext, left: int, right: int, of_rows: Sequence[int] = (), of_columns: Sequence[int] = ()
) -> Iterator[Lane]:
    """Rows of the left operand, columns of the right one, and batches, which are broadcast.

    Args:
        of_rows, of_columns: further inputs, which hold one element for each.
    """
    first, second, result = ctx.shape(left), ctx.shape(right), ctx.result()
    rows, columns = len(first) > 1, len(second) > 1
    if rows:
        yield Lane(((left, len(first) - 2), *((i, 0) for i in of_rows)), ((0, len(result) - 1 - columns),))
    if columns:
        yield Lane(((right, len(second) - 1), *((i, 0) for i in of_columns)), ((0, len(result) - 1),))
    batches = len(result) - rows - columns
    for place in range(batches):
        places = []
        for index, shape in ((left, first), (right, second)):
            own = place - batches + len(shape) - 2
            if own >= 0 and shape[own] == result[place]:
                places.append((index, own))
        yield Lane(tuple(places), ((0, place),))


@independent_axes("Gemm")
def gemm(ctx: AxesContext) -> Iterator[Lane]:
    result = ctx.result()
    added = ctx.shape(2) if ctx.has(2) else ()
    if ctx.opset < BROADCASTS_SINCE and added and added != result:
        return
    sides = ((0, 1 if ctx.attr("transA", 0) else 0), (1, 0 if ctx.attr("transB", 0) else 1))
    for place, side in enumerate(sides):
        own = place - 2 + len(added)
        joins = own >= 0 and added[own] == result[place]
        yield Lane((side, (2, own)) if joins else (side,), ((0, place),))


@independent_axes("Einsum")
def einsum(ctx: AxesContext) -> Iterator[Lane]:
    equation = str(ctx.attr("equation", "")).replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    if "." in equation:
        return
    if not arrow:
        letters = inputs.replace(",", "")
        output = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    terms = inputs.split(",")
    for place, letter in enumerate(output):
        places = [(i, axis) for i, term in enumerate(terms) for axis, own in enumerate(term) if own == letter]
        if all(ctx.shape(index)[axis] == ctx.result()[place] for index, axis in places):
            yield Lane(tuple(places), ((0, place),))


# --- convolution, pooling and resizing --------------------------------------------------------------------------------


@independent_axes("Conv")
def conv(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((0, 0),), ((0, 0),))
    if ctx.attr("group", 1) == 1:
        yield Lane(((1, 0), (2, 0)) if ctx.has(2) else ((1, 0),), ((0, 1),))


@independent_axes("ConvInteger")
def conv_integer(ctx: AxesContext) -> Iterator[Lane]:
    return _quantized_conv(ctx, 1, (3,), None)


@independent_axes("QLinearConv")
def qlinear_conv(ctx: AxesContext) -> Iterator[Lane]:
    return _quantized_conv(ctx, 3, (4, 5), 8)


def _quantized_conv(ctx: AxesContext, weight: int, of_weight: Sequence[int], bias: int | None) -> Iterator[Lane]:
    """A convolution whose weights have scales and zero points that are single, or one for each output channel."""
    yield Lane(((0, 0),), ((0, 0),))
    further = [index for index in of_weight if not is_single(ctx, index)]
    further += [bias] if bias is not None and ctx.has(bias) else []
    if ctx.attr("group", 1) == 1 and all(len(ctx.shape(index)) == 1 for index in further):
        yield Lane(((weight, 0), *((index, 0) for index in further)), ((0, 1),))


@independent_axes("ConvTranspose")
def batch_of_data(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((0, 0),), ((0, 0),))


@independent_axes("AveragePool", "LpPool", "MaxPool")
def pool(ctx: AxesContext) -> Iterator[Lane]:
    if ctx.outputs == (0,):  # indices count through all images and channels
        yield Lane(((0, 0),), ((0, 0),))
        yield Lane(((0, 1),), ((0, 1),))


@independent_axes("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
def global_pool(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx, range(2, len(ctx.shape(0))))


@independent_axes("RoiAlign")
def roi_align(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((1, 0), (2, 0)), ((0, 0),))
    yield Lane(((0, 1),), ((0, 1),))


@independent_axes("GridSample")
def grid_sample(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((0, 0), (1, 0)), ((0, 0),))
    yield Lane(((0, 1),), ((0, 1),))


@independent_axes("Resize")
def resize(ctx: AxesContext) -> Iterator[Lane]:
    shape = ctx.shape(0)
    if ctx.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return
    given: Sequence[int] | None = ctx.attr("axes")
    axes = [normalize_axis(axis, len(shape)) for axis in given] if given else list(range(len(shape)))
    yield from same_axes(ctx, axes)
    scales_at = 1 if ctx.opset < SCALES_ARE_INPUT_2_SINCE else 2
    by_size = ctx.has(3) and ctx.shape(3) != (0,)
    if by_size and ctx.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        return
    wanted = ctx.ints(3 if by_size else scales_at)
    for element, axis in enumerate(axes):
        if by_size and wanted[element] == shape[axis]:
            yield Lane(((0, axis),), ((0, axis),), ((3, element),))
        elif not by_size and wanted[element] == 1:
            yield Lane(((0, axis),), ((0, axis),))


# --- recurrence -------------------------------------------------------------------------------------------------------


@independent_axes("GRU", "LSTM", "RNN")
def recurrent(ctx: AxesContext) -> Iterator[Lane]:
    """The batch of X, of the lengths, of the states, and of all outputs."""
    is_first = bool(ctx.attr("layout", 0))
    lengths = [(4, 0)] if ctx.has(4) else []
    states = [(index, 0 if is_first else 1) for index in (5, 6) if ctx.has(index)]
    results = [(output, 0 if is_first else 2 if output == 0 else 1) for output in ctx.outputs]
    yield Lane(((0, 0 if is_first else 1), *lengths, *states), tuple(results))

"""Weights of few bits in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import axis_of_data
from mace_core.operators.attributes.rule import count, number
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import expect, require
from mace_core.operators.context import NodeContext, ShapeMismatchError, normalize_axis
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.checks import expect_size
from mace_core.operators.pieces import cast, cut, dtype_of, joined, shaped
from mace_core.operators.quantized_operands import expect_scale, expect_zero_point
from mace_core.operators.registry import agreement, body, rank_check, shape_function
from mace_core.tensor import DType, Tensor, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules(
    "MatMulNBits",
    domain=DOMAIN,
    rules={
        "K": count(required=True),
        "N": count(required=True),
        "accuracy_level": number(),
        "block_size": count(required=True),
    },
)

rank_check("GatherBlockQuantized", domain=DOMAIN)(axis_of_data("gather_axis", "quantize_axis"))


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("GatherBlockQuantized", domain=DOMAIN, dtypes=lambda ctx: [ctx.dtype(2)])
def gather_blocks(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Data packed in bytes has several numbers in every element of its last axis."""
    data, rank = list(ctx.shape(0)), len(ctx.shape(0))
    if ctx.dtype(0) is DType.UINT8:
        data[-1] *= 8 // ctx.attr("bits", 4)
    axis = normalize_axis(ctx.attr("gather_axis", 0), rank)
    return [TensorType(ctx.dtype(2), (*data[:axis], *ctx.shape(1), *data[axis + 1 :]))]


@shape_function("MatMulNBits", domain=DOMAIN)
def matmul_nbits(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, rows, columns = ctx.shape(0), ctx.attr("K"), ctx.attr("N")
    if shape[-1] != rows:
        raise ShapeMismatchError(f"data of {shape[-1]} columns needs K = {shape[-1]}, not {rows}")
    return [TensorType(ctx.dtype(0), (*shape[:-1], columns))]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("MatMulNBits", domain=DOMAIN)
def check_product_of_blocks(ctx: NodeContext) -> None:
    depth, columns, bits, block = (ctx.attr(name, 4) for name in ("K", "N", "bits", "block_size"))
    require(min(depth, columns, bits, block) > 0, "K, N, bits and block_size must be positive")
    blocks = -(-depth // block)
    if ctx.dtype(1) is DType.UINT8:
        expect_size(ctx, 1, columns * blocks * -(block * bits // -8), "the packed weights")
    expect_size(ctx, 2, columns * blocks, "the scales, one for each block,")
    if ctx.has(3):
        per_column = -(-blocks * bits // 8) if ctx.dtype(3) is DType.UINT8 else blocks
        expect_size(ctx, 3, columns * per_column, "the zero points, packed like the weights or one for each block,")
    if ctx.has(4):
        expect(ctx, 4, (depth,), (blocks * block,), what="g_idx, the block of each row,")
    expect_size(ctx, 5, columns, "the bias")
    expect_scale(ctx, 2, "the scale of a block", may_be_any=True)
    if ctx.has(3) and ctx.dtype(3) is not ctx.dtype(2):
        expect_zero_point(ctx, 3, "the zero point of a block", data=1)


@agreement("GatherBlockQuantized", domain=DOMAIN)
def check_blocks_gathered(ctx: NodeContext) -> None:
    data = list(ctx.shape(0))
    require(len(data) > 0, "the data must have at least 1 axis")
    if ctx.dtype(0) is DType.UINT8:
        data[-1] *= 8 // ctx.attr("bits", 4)
    axis, block = ctx.attr("quantize_axis", 1), ctx.attr("block_size", 128)
    require(-len(data) <= axis < len(data) and block > 0, f"there is no axis {axis} in blocks of {block}")
    axis %= len(data)
    wanted = tuple(-(-size // block) if i == axis else size for i, size in enumerate(data))
    expect(ctx, 2, wanted, what="the scales, one for each block,")
    if ctx.has(3) and ctx.dtype(3) is DType.UINT8:
        wanted = (*wanted[:-1], -(-wanted[-1] * ctx.attr("bits", 4) // 8))
    expect(ctx, 3, wanted, what="the zero points, one for each block,")
    expect_scale(ctx, 2, "the scale of a block", may_be_any=True)
    expect_zero_point(ctx, 3, "the zero point of a block", data=0)


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("MatMulNBits", domain=DOMAIN)
def build_matmul_bits(b: BodyBuilder, node: Node) -> bool:
    """With constant weights: they are unpacked to floats once."""
    weights, scales, zeros, groups = (b.view.constant(node.input(index)) for index in (1, 2, 3, 4))
    if weights is None or scales is None or node.attr("weight_prepacked", 0):
        return False
    if any(node.input(index) is not None and found is None for index, found in ((3, zeros), (4, groups))):
        return False
    if groups is not None and not _are_blocks(groups.numpy(), -(-int(node.attr("K")) // int(node.attr("block_size")))):
        return False
    half = dtype_of(b, given(node, 0))
    if half in (DType.FLOAT16, DType.BFLOAT16):
        return _widened(b, node, half, scales, zeros)
    unpacked = unpack_blocks(
        weights.numpy(),
        scales.numpy(),
        None if zeros is None else zeros.numpy(),
        rows=int(node.attr("K")),
        columns=int(node.attr("N")),
        bits=int(node.attr("bits", 4)),
        block=int(node.attr("block_size")),
        groups=None if groups is None else groups.numpy(),
    )
    product = [given(node, 0), b.constant(unpacked)]
    bias = node.input(5)
    if bias is None:
        b.op("MatMul", product, into=made(node))
    else:
        b.op("Add", [b.op("MatMul", product), bias], into=made(node))
    return True


def _are_blocks(groups: npt.NDArray[Any], blocks: int) -> bool:
    """Whether each entry is the number of a block."""
    return bool(((groups >= 0) & (groups < blocks)).all())


def _widened(b: BodyBuilder, node: Node, half: DType, scales: Tensor, zeros: Tensor | None) -> bool:
    """The same node in float32 between casts, with scales known in float32: the weights stay packed."""

    def wide(index: int, found: Tensor | None) -> Value | None:
        value = node.input(index)
        if value is None or b.view.tensor_type(value) is None or dtype_of(b, value) is not half:
            return value
        return cast(b, value, DType.FLOAT32) if found is None else b.constant(found.numpy().astype(np.float32))

    inputs = [
        wide(0, None),
        node.input(1),
        wide(2, scales),
        wide(3, zeros),
        node.input(4),
        wide(5, b.view.constant(node.input(5))),
    ]
    product = b.op("MatMulNBits", inputs, dict(node.attributes), domain=DOMAIN)
    cast(b, product, half, into=made(node))
    return True


@body("GatherBlockQuantized", domain=DOMAIN)
def build_gather_blocks(b: BodyBuilder, node: Node) -> bool:
    """Rows of a table whose blocks along the last axis have scales: gathered first, unpacked then."""
    table = b.view.tensor_type(given(node, 0))
    if table is None or table.dtype is not DType.UINT8:
        return False
    rank, bits, block = len(table.concrete_shape), int(node.attr("bits", 4)), int(node.attr("block_size", 128))
    if node.attr("gather_axis", 0) != 0 or node.attr("quantize_axis", 1) % rank != rank - 1:
        return False
    indices = b.view.shape(given(node, 1))
    blocks = b.view.shape(given(node, 2))[-1]
    width = table.concrete_shape[-1] * 8 // bits
    lead = (*indices, *table.concrete_shape[1:-1])

    def taken(index: int) -> Value:
        return b.op("Gather", [given(node, index), given(node, 1)], {"axis": 0})

    def numbers(index: int, count: int) -> Value:
        """The numbers of a packed input, cut to ``count`` of the last axis."""
        packed = taken(index)
        length = b.view.shape(given(node, index))[-1]
        if bits < 8:
            parts, rest = [], packed
            for _ in range(8 // bits):
                low = b.op("Mod", [rest, b.constant(1 << bits, np.uint8)])
                parts.append(shaped(b, low, (*lead, length, 1)))
                rest = b.op("Div", [rest, b.constant(1 << bits, np.uint8)])
            packed = shaped(b, joined(b, parts, len(lead) + 1), (*lead, length * 8 // bits))
            if length * 8 // bits > count:
                packed = cut(b, packed, len(lead), 0, count)
        return cast(b, packed, dtype_of(b, given(node, 2)))

    like = given(node, 2)
    padded = blocks * block
    values = numbers(0, width)
    if padded > width:
        values = joined(b, [values, _zeros(b, like, (*lead, padded - width))], len(lead))
    values = shaped(b, values, (*lead, blocks, block))
    if node.input(3) is None:
        middle = b.scalar_like(float(1 << (bits - 1)), like)
    else:
        middle = shaped(b, numbers(3, blocks), (*lead, blocks, 1))
    scales = shaped(b, taken(2), (*lead, blocks, 1))
    found = b.op("Mul", [b.op("Sub", [values, middle]), scales])
    if padded > width:
        found = cut(b, shaped(b, found, (*lead, padded)), len(lead), 0, width)
    shaped(b, found, (*lead, width), into=made(node))
    return True


def _zeros(b: BodyBuilder, like: Value, shape: tuple[int, ...]) -> Value:
    return b.op("Expand", [b.scalar_like(0.0, like), b.constant(list(shape), np.int64)])


def unpack_blocks(
    weights: npt.NDArray[Any],
    scales: npt.NDArray[Any],
    zeros: npt.NDArray[Any] | None,
    *,
    rows: int,
    columns: int,
    bits: int,
    block: int,
    groups: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """The (rows, columns) matrix behind blocks of numbers of a few bits, lowest bits first.

    ``weights`` is (columns, blocks, bytes); each block along the rows has a scale and a zero point, by default the
    middle of the range.  Zero points are packed like the weights, or of the type of the scales.  ``groups`` names the
    block whose scale and zero point each row has, where rows were sorted before they were packed.
    """
    blocks = -(-rows // block)
    numbers = _unpacked(weights.reshape(columns, blocks, -1), bits)[:, :, :block].astype(np.float32)
    if zeros is None:
        middle: Any = np.float32(1 << (bits - 1))
    elif zeros.dtype == np.uint8:
        middle = _unpacked(zeros.reshape(columns, -1), bits)[:, :blocks, None].astype(np.float32)
    else:
        middle = zeros.reshape(columns, blocks, 1).astype(np.float32)
    factors = scales.reshape(columns, blocks, 1).astype(np.float32)
    if groups is not None:
        chosen = groups.reshape(-1)[:rows]
        own = factors[:, chosen, 0]
        offsets = middle[:, chosen, 0] if np.ndim(middle) else middle
        matrix = ((numbers.reshape(columns, -1)[:, :rows] - offsets) * own).T
        return np.ascontiguousarray(matrix.astype(scales.dtype))
    values = (numbers - middle) * factors
    matrix = values.reshape(columns, blocks * block)[:, :rows].T
    return np.ascontiguousarray(matrix.astype(scales.dtype))


def _unpacked(data: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Numbers of ``bits`` bits from the bytes of the last axis."""
    if bits == 8:
        return data
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*data.shape[:-1], -1)

"""Weights that a DequantizeLinear stands before, as the packed kernels take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.tensor import DType, Tensor
from mace_cpu.quantized.low_bits.arguments import Form
from mace_cpu.quantized.low_bits.weights import Codes, Weights, by_blocks, is_worth_packing, unpacked
from mace_cpu.shared.nodes import normal_axis

LOW_BITS = "mace.low_bits"
"""Domain of the nodes that ``pass_low_bits`` makes.

``MatMul`` and ``Gemm``: x (..., steps), stored, scale, zero point; attributes ``axis`` and ``block_size`` as
DequantizeLinear has them, and ``transposed``: stored as (columns, steps).  ``GatherBlockQuantized`` as com.microsoft's.
"""

WHOLE = frozenset({DType.INT8, DType.UINT8, DType.INT4, DType.UINT4, DType.INT2, DType.UINT2})
FLOAT8 = frozenset({DType.FLOAT8E4M3FN, DType.FLOAT8E4M3FNUZ, DType.FLOAT8E5M2, DType.FLOAT8E5M2FNUZ})
SCALES = frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16})

Array = npt.NDArray[Any]


def stored_weights(view: GraphView, node: Node) -> Weights | None:
    """The weights of a node of `LOW_BITS`; None where the packed kernels do not take them."""
    stored, scale, zero = view.constant(node.input(1)), view.constant(node.input(2)), view.constant(node.input(3))
    if stored is None or scale is None or (node.input(3) is not None and zero is None):
        return None
    if stored.dtype not in WHOLE | FLOAT8 or scale.dtype not in SCALES or len(stored.shape) != 2:
        return None
    transposed = bool(node.attr("transposed", 0))
    along = 1 if transposed else 0
    steps, columns = stored.shape[along], stored.shape[1 - along]
    block = int(node.attr("block_size", 0))
    axis = normal_axis(int(node.attr("axis", 1)), 2)
    form = Form(stored.dtype.bits, "" if stored.dtype in WHOLE else stored.dtype.label)
    is_one = scale.numpy().size == 1 and not block
    if not steps or not columns or (block and axis != along):
        return None
    if form.kind and zero is not None and zero.numpy().astype(np.float32).any():
        return None
    codes = _Codes(stored, transposed)
    read = tuple(tensor.payload for tensor in (stored, scale, zero) if tensor is not None)
    if not block and not is_one and axis == along:
        return _scaled_steps(form, stored, scale, zero, steps, columns, codes, read)
    factors = _by_column(scale, columns, transposed, block)
    minus = _offsets(stored.dtype, zero, columns, transposed, block)
    if minus is not None:
        form = Form(form.bits, form.kind, "int8")
        minus = np.broadcast_to(minus, factors.shape)
    order = None
    if block % form.group and block < steps:
        order, block, numbers = by_blocks(np.arange(steps) // block, form)
        if not is_worth_packing(order.size, steps, numbers.size, form):
            return None
        factors, minus = factors[:, numbers], None if minus is None else minus[:, numbers]
    elif not block or block >= steps:
        block = -(-steps // form.group) * form.group
    return Weights(form, steps, columns, block, stored.payload, codes.between, factors, minus, read, order)


def _scaled_steps(
    form: Form,
    stored: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    steps: int,
    columns: int,
    codes: _Codes,
    read: tuple[Array, ...],
) -> Weights | None:
    """Weights with a scale for each step, which the input is multiplied by; None if they have zero points as well."""
    given = np.zeros(1) if zero is None else zero.numpy().astype(np.float32)
    if (given != given.reshape(-1)[0]).any():
        return None
    ones = np.ones((columns, 1), np.float32)
    minus = None
    if stored.dtype in WHOLE:
        whole = given.reshape(-1)[0] - (0 if stored.dtype.label.startswith("int") else form.middle)
        if whole:
            form, minus = Form(form.bits, form.kind, "int8"), np.full((columns, 1), whole, np.int8)
    block = -(-steps // form.group) * form.group
    factors = scale.numpy().astype(np.float32).reshape(-1)
    return Weights(form, steps, columns, block, stored.payload, codes.between, ones, minus, read, factors=factors)


def _by_column(given: Tensor, columns: int, transposed: bool, block: int) -> Array:
    """Scales or zero points as (columns, blocks), float32."""
    array = given.numpy().astype(np.float32)
    if block:
        return np.ascontiguousarray(array if transposed else array.T)
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1, 1), (columns, 1)))


def _offsets(dtype: DType, zero: Tensor | None, columns: int, transposed: bool, block: int) -> Array | None:
    """What is subtracted from numbers that lie around zero: int8 (columns, blocks); None where that is 0."""
    if dtype in FLOAT8:
        return None
    middle = 0 if dtype.label.startswith("int") else 1 << (dtype.bits - 1)
    whole: Array = np.zeros((columns, 1)) if zero is None else _by_column(zero, columns, transposed, block)
    whole = (whole - middle).astype(np.int8)
    return whole if whole.any() else None


class _Codes:
    """The codes of a stored matrix; those of less than a byte are unpacked where they are asked for."""

    def __init__(self, stored: Tensor, transposed: bool) -> None:
        self._payload, self._shape, self._transposed = stored.payload, stored.shape, transposed
        self._bits = stored.dtype.bits
        self._flip = np.uint8(1 << (self._bits - 1) if stored.dtype.label.startswith("int") else 0)

    def between(self, begin: int, end: int) -> Codes:
        """The codes of columns ``begin`` to ``end``, as (columns, steps)."""
        rows, width = self._shape
        per_byte = 8 // self._bits
        if width % per_byte:
            whole = unpacked(self._payload, self._bits)[: rows * width].reshape(rows, width)
            part = whole[begin:end] if self._transposed else whole[:, begin:end].T
        elif self._transposed:
            part = unpacked(self._payload.reshape(rows, -1)[begin:end], self._bits)
        else:
            first, last = begin // per_byte, -(-end // per_byte)
            some = unpacked(np.ascontiguousarray(self._payload.reshape(rows, -1)[:, first:last]), self._bits)
            part = some[:, begin - first * per_byte :][:, : end - begin].T
        flipped: Codes = part ^ self._flip
        return flipped

"""Element-wise operators on integers and booleans, in 32 bits."""

from __future__ import annotations

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.carriers import INTEGERS, NARROW, SIGNED, WIDE, wrapped
from mace_hexagon.lowering.context import Array, DeclinedError, NodeContext, Order
from mace_hexagon.lowering.magnitude import fits
from mace_hexagon.qnn.types import DataType

_ARITHMETIC = {"Add": "ElementWiseAdd", "Sub": "ElementWiseSubtract", "Mul": "ElementWiseMultiply"}
_COMPARISONS = {
    "Equal": "ElementWiseEqual",
    "Less": "ElementWiseLess",
    "LessOrEqual": "ElementWiseLessEqual",
    "Greater": "ElementWiseGreater",
    "GreaterOrEqual": "ElementWiseGreaterEqual",
}
_EXTREMES = {"Max": "ElementWiseMaximum", "Min": "ElementWiseMinimum"}


class Chain:
    """Makes intermediates for one node."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context

    def op(self, operation: str, *operands: QTensor, data_type: DataType | None = None, **params: object) -> QTensor:
        """The result of one more operation, of the shape the operands broadcast to."""
        shape = np.broadcast_shapes(*(operand.shape for operand in operands))
        return self.shaped(operation, operands, shape, data_type or operands[-1].data_type, **params)

    def shaped(
        self, operation: str, operands: tuple[QTensor, ...], shape: tuple[int, ...], data_type: DataType,
        **params: object,
    ) -> QTensor:  # fmt: skip
        """The result of one more operation, of any shape."""
        lowering = self._context.lowering
        result = QTensor(lowering.unique(f"{self._context.node.name}.{operation}"), data_type, shape)
        lowering.add(operation, list(operands), [result], **params)
        return result

    def test(self, operation: str, *operands: QTensor) -> QTensor:
        """A comparison."""
        return self.op(operation, *operands, data_type=DataType.BOOL_8)

    def number(self, number: float, like: QTensor) -> QTensor:
        """A constant of one element."""
        kinds = {DataType.INT_32: np.int32, DataType.FLOAT_16: np.float16, DataType.FLOAT_32: np.float32}
        return self._context.constant(np.full(1, number, kinds[like.data_type]), "number")


def binary(context: NodeContext, order: Order, operands: list[QTensor]) -> None:
    """A binary operator on integers or booleans; ``operands`` broadcast."""
    if any(operand.encoding is not None for operand in operands):
        raise DeclinedError(f"{context.node.op_type} of quantized codes is not offered")
    name, dtype = context.node.op_type, context.dtype()
    if dtype is DType.BOOL:
        _of_booleans(context, order, operands)
    elif name in _COMPARISONS:
        if dtype is DType.UINT32 and name != "Equal":
            _compare_unsigned(context, order, operands)
            return
        context.emit(_COMPARISONS[name], operands, order)
    elif name in _ARITHMETIC:
        if not _stays_within(context):
            raise DeclinedError(f"{name} of {dtype.label} may leave the 32 bits that QNN computes with")
        _finish(context, order, Chain(context).op(_ARITHMETIC[name], *operands))
    elif name in _EXTREMES:
        if dtype is DType.UINT32:
            _compare_unsigned(context, order, operands)
            return
        context.emit(_EXTREMES[name], operands, order)
    elif name == "Div":
        _divide(context, order, operands)
    elif name == "Mod":
        _modulo(context, order, operands)
    else:
        raise DeclinedError(f"{name} of {dtype.label} is not offered")


def _is_lower(chain: Chain, left: QTensor, right: QTensor) -> QTensor:
    """Whether ``left`` is less, of unsigned 32-bit integers whose bits are held, and compared, as signed ones."""
    zero = chain.number(0, left)
    high = chain.test("ElementWiseLess", right, zero)
    apart = chain.op("ElementWiseXor", chain.test("ElementWiseLess", left, zero), high)
    alike = chain.op("ElementWiseAnd", chain.op("ElementWiseNot", apart), chain.test("ElementWiseLess", left, right))
    return chain.op("ElementWiseOr", chain.op("ElementWiseAnd", apart, high), alike)


def _compare_unsigned(context: NodeContext, order: Order, operands: list[QTensor]) -> None:
    """Less and greater, and the lower and the higher, of unsigned 32-bit integers."""
    chain, (left, right) = Chain(context), operands
    name = context.node.op_type
    if name in ("Less", "Greater"):
        found = _is_lower(chain, left, right) if name == "Less" else _is_lower(chain, right, left)
        context.finish(found, order)
    elif name in ("LessOrEqual", "GreaterOrEqual"):
        opposite = _is_lower(chain, right, left) if name == "LessOrEqual" else _is_lower(chain, left, right)
        context.emit("ElementWiseNot", [opposite], order)
    else:
        lower = _is_lower(chain, left, right)
        context.emit("ElementWiseSelect", [lower, *((right, left) if name == "Max" else (left, right))], order)


def _stays_within(context: NodeContext) -> bool:
    """Whether a sum, difference or product can be had from 32 bits."""
    dtype, name = context.dtype(), context.node.op_type
    if dtype in WIDE:
        return fits(context) and (dtype is DType.INT64 or name != "Sub")
    return dtype is DType.INT32 or (dtype in NARROW and not (dtype is DType.UINT16 and name == "Mul"))


def _of_booleans(context: NodeContext, order: Order, operands: list[QTensor]) -> None:
    if context.node.op_type != "Equal":
        raise DeclinedError(f"{context.node.op_type} of bool is not offered")
    differs = Chain(context).op("ElementWiseXor", *operands)
    context.emit("ElementWiseNot", [differs], order)


def _divide(context: NodeContext, order: Order, operands: list[QTensor]) -> None:
    """Rounds towards zero; the library rounds down where the divisor is a constant power of two."""
    left, right = operands
    dtype = context.dtype()
    if dtype is DType.UINT32:
        raise DeclinedError("QNN does not divide unsigned 32-bit integers")
    chain = Chain(context)
    if dtype in SIGNED and right.data is not None:
        zero = chain.number(0, left)
        size = chain.op("ElementWiseDivide", chain.op("ElementWiseAbs", left), context.constant(np.abs(right.data)))
        opposed = chain.test("ElementWiseLess", left, zero)
        if (right.data < 0).any():
            opposed = chain.op("ElementWiseXor", opposed, context.constant(right.data < 0))
        turned = chain.op("ElementWiseSubtract", zero, size)
        _finish(context, order, chain.op("ElementWiseSelect", opposed, turned, size))
        return
    _finish(context, order, chain.op("ElementWiseDivide", left, right))


def _modulo(context: NodeContext, order: Order, operands: list[QTensor]) -> None:
    """Of the divisor's sign; with fmod of the dividend's."""
    if context.dtype() is DType.UINT32:
        raise DeclinedError("QNN does not divide unsigned 32-bit integers")
    left, right = operands
    chain = Chain(context)
    if not context.attr("fmod", 0) or context.dtype() not in SIGNED:
        context.emit("ElementWiseMod", [left, right], order)
        return
    zero = chain.number(0, left)
    size = chain.op("ElementWiseMod", chain.op("ElementWiseAbs", left), chain.op("ElementWiseAbs", right))
    turned = chain.op("ElementWiseSubtract", zero, size)
    context.emit("ElementWiseSelect", [chain.test("ElementWiseLess", left, zero), turned, size], order)


def _finish(context: NodeContext, order: Order, tensor: QTensor) -> None:
    """``tensor`` is the result but for the overflow of narrow types."""
    dtype = context.out_dtype()
    context.finish(wrapped(context.lowering, tensor, dtype) if dtype in NARROW else tensor, order)


def unary(context: NodeContext) -> None:
    """Abs, Neg and Sign of integers."""
    dtype, order = context.dtype(), context.order()
    if dtype not in INTEGERS or context.is_quantized:
        raise DeclinedError(f"{context.node.op_type} of {dtype.label} is not offered")
    chain, x = Chain(context), context.x(0, order)
    if x.encoding is not None:
        raise DeclinedError(f"{context.node.op_type} of quantized codes is not offered")
    if dtype not in SIGNED:
        raise DeclinedError(f"{context.node.op_type} of {dtype.label} is not offered")
    zero = chain.number(0, x)
    match context.node.op_type:
        case "Abs":
            _finish(context, order, chain.op("ElementWiseAbs", x))
        case "Neg":
            _finish(context, order, chain.op("ElementWiseSubtract", zero, x))
        case "Sign":
            up = chain.op("Cast", chain.test("ElementWiseGreater", x, zero), data_type=DataType.INT_32)
            down = chain.op("Cast", chain.test("ElementWiseLess", x, zero), data_type=DataType.INT_32)
            context.emit("ElementWiseSubtract", [up, down], order)
        case other:
            raise DeclinedError(f"{other} of {dtype.label} is not offered")


def clip(context: NodeContext) -> None:
    """Clip of integers, by bounds that may be computed."""
    if context.dtype() not in INTEGERS or context.dtype() is DType.UINT32 or context.is_quantized:
        raise DeclinedError(f"Clip of {context.dtype().label} is not offered")
    order = context.order()
    tensor = context.x(0, order)
    if tensor.encoding is not None:
        raise DeclinedError("Clip of quantized codes is not offered")
    chain = Chain(context)
    for index, operation in ((1, "ElementWiseMaximum"), (2, "ElementWiseMinimum")):
        if context.has(index):
            tensor = chain.op(operation, tensor, context.x(index))
    context.finish(chain.shaped("Reshape", (tensor,), tensor.shape, tensor.data_type), order)


def bit_shift(context: NodeContext, order: Order, operands: list[QTensor]) -> None:
    """Products and quotients with powers of two, taken from a table; beyond the width only the sign is left."""
    dtype, to_left = context.dtype(), context.attr("direction") == "LEFT"
    if dtype not in NARROW and (dtype is not DType.INT32 or to_left):
        raise DeclinedError(f"BitShift of {dtype.label} is not offered: QNN computes with 32 signed bits")
    left, right = operands
    chain = Chain(context)
    bits = 8 * dtype.numpy.itemsize
    most = bits - 1 if dtype in NARROW else bits - 2
    zero = chain.number(0, left)
    table = context.constant((1 << np.arange(most + 1)).astype(np.int32), "powers")
    count = int(np.prod(right.shape))
    above = chain.op("ElementWiseMaximum", context.reshaped(right, (count,)), zero)
    within = chain.op("ElementWiseMinimum", above, chain.number(most, right))
    powers = chain.shaped("Gather", (table, within), (count,), DataType.INT_32, axis=np.int32(0))
    factor = context.reshaped(powers, right.shape)
    if to_left:
        rest = chain.op("ElementWiseDivide", chain.number(1 << bits, right), factor)
        moved = chain.op("ElementWiseMultiply", chain.op("ElementWiseMod", left, rest), factor)
    else:
        lost = chain.op("ElementWiseMod", left, factor)
        moved = chain.op("ElementWiseDivide", chain.op("ElementWiseSubtract", left, lost), factor)
    beyond: QTensor = zero
    if dtype in SIGNED and not to_left:
        negative = chain.op("Cast", chain.test("ElementWiseLess", left, zero), data_type=DataType.INT_32)
        beyond = chain.op("ElementWiseSubtract", zero, negative)
    inside = chain.op(
        "ElementWiseAnd",
        chain.test("ElementWiseLessEqual", right, chain.number(most, right)),
        chain.test("ElementWiseGreaterEqual", right, zero),
    )
    _finish(context, order, chain.op("ElementWiseSelect", inside, moved, beyond))


def as_int32(context: NodeContext, index: int) -> QTensor:
    """An operand that holds positions."""
    if context.dtype(index) not in INTEGERS:
        raise DeclinedError(f"input {index} of {context.node.op_type} is not of integers")
    tensor = context.x(index)
    if tensor.encoding is not None:
        raise DeclinedError(f"{context.node.op_type} by quantized codes is not offered")
    return tensor


def positions(context: NodeContext, index: int, sizes: Array) -> QTensor:
    """Indices of ``sizes`` elements per axis (broadcast on the last dimension), the negative ones counted from the end.

    Raises:
        DeclinedError: if constant ones are out of range.
    """
    held = context.array(index)
    sizes = np.asarray(sizes, np.int64)
    if held is not None:
        found = np.where(held < 0, held.astype(np.int64) + sizes, held)
        if found.size and ((found < 0) | (found >= sizes)).any():
            raise DeclinedError(f"{context.node.op_type} with indices beyond the axis is not offered")
        return context.constant(found.astype(np.int32), "indices")
    tensor, chain = as_int32(context, index), Chain(context)
    negative = chain.test("ElementWiseLess", tensor, chain.number(0, tensor))
    shifted = chain.op("ElementWiseAdd", tensor, context.constant(sizes.reshape(-1).astype(np.int32), "sizes"))
    return chain.op("ElementWiseSelect", negative, shifted, tensor)

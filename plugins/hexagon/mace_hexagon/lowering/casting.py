"""Casts between real numbers, integers and booleans."""

from __future__ import annotations

from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.carriers import INTEGERS, NARROW, SIGNED, WIDE, held_type, wrapped
from mace_hexagon.lowering.context import DeclinedError, NodeContext
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS
from mace_hexagon.qnn.types import DataType

_FLOATS = (DType.FLOAT32, DType.FLOAT16)
_FLOAT_TYPES = {DType.FLOAT32: DataType.FLOAT_32, DType.FLOAT16: DataType.FLOAT_16}


def _cast(context: NodeContext) -> None:
    """Integers are in 32 bits already: what is left is to wrap them, and to change to or from other types."""
    if context.node.op_type == "CastLike":  # its second operand gives a type only, but enters the graph
        context.shape(1)
        if held_type(context.dtype(1)) is None:
            raise DeclinedError(f"'{context.operand(1).name}' is {context.dtype(1).label}, which QNN does not have")
    order = context.order()
    source, target = context.dtype(), context.out_dtype()
    known = (*_FLOATS, DType.BOOL, *INTEGERS)
    if source not in known or target not in known or context.is_quantized:
        raise DeclinedError(f"Cast from {source.label} to {target.label} is not offered")
    x = context.x(0, order)
    if x.encoding is not None:
        raise DeclinedError("Cast of quantized codes is not offered")
    chain = Chain(context)
    if target is DType.BOOL and source is not DType.BOOL:
        context.emit("ElementWiseNotEqual", [x, chain.number(0, x)], order)
    elif source in INTEGERS and target in INTEGERS:
        context.finish(_between_integers(context, x, source, target), order)
    elif source is DType.UINT32 and target in _FLOATS:
        unsigned = chain.op("Cast", x, data_type=DataType.UINT_32)
        real = chain.op("Cast", unsigned, data_type=DataType.FLOAT_32)
        context.emit("Cast", [real], order)
    elif source in _FLOATS and target is DType.UINT32:
        context.finish(_truncated(context, x, positive=True), order)
    elif source in _FLOATS and target in INTEGERS:
        held = _truncated(context, x, positive=target not in SIGNED and target not in NARROW)
        context.finish(wrapped(context.lowering, held, target) if target in NARROW else held, order)
    else:
        context.emit("Cast", [x], order)


def _truncated(context: NodeContext, x: QTensor, *, positive: bool) -> QTensor:
    """Real numbers without their fraction."""
    chain = Chain(context)
    held = chain.op("Cast", x, data_type=DataType.INT_32)
    return chain.op("ElementWiseMaximum", held, chain.number(0, held)) if positive else held


def _between_integers(context: NodeContext, x: QTensor, source: DType, target: DType) -> QTensor:
    """The same numbers, modulo the target's range."""
    widths = source.numpy.itemsize, target.numpy.itemsize
    if (source is DType.UINT32 and target in WIDE) or (target is DType.UINT64 and source in SIGNED):
        raise DeclinedError(f"Cast from {source.label} to {target.label} may leave the 32 bits that QNN computes with")
    fits = widths[0] < widths[1] and (source not in SIGNED or target in SIGNED)
    if target in NARROW and not fits and source is not target:
        return wrapped(context.lowering, x, target)
    chain = Chain(context)
    return chain.shaped("Reshape", (x,), x.shape, x.data_type)


LOWERINGS.add({"Cast": _cast, "CastLike": _cast})

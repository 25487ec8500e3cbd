"""Between element types: halves, quantized numbers, sparse weights."""

from __future__ import annotations

import functools

import numpy as np

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.tensor import DType

_OPSET_OF_BIT_CAST = 26


@converter("DEQUANTIZE")
def dequantize(op: Operation) -> None:
    """Weights stored as halves pass through here, too: the optimizer makes floats of them, once in a session."""
    if op.is_quantized(op.tensor(0)):
        op.keep(op.real(0))
    else:
        op.keep(op.cast(op.stored(0), op.result_dtype()))


@converter("QUANTIZE")
def quantize(op: Operation) -> None:
    """Also from one quantization to another."""
    if not op.is_quantized(op.result()):
        raise op.error(f"has an output '{op.result().name}' without a scale")
    op.finish(op.real(0))


@converter("DENSIFY")
def densify(op: Operation) -> None:
    """A constant, which was written out when it was read."""
    if op.constant(0) is None:
        raise op.unsupported("writes out a sparse tensor that the model computes")
    op.keep(op.emit("Identity", [op.stored(0)]))


@converter("FAKE_QUANT", options="FakeQuantOptions")
def fake_quant(op: Operation) -> None:
    """Rounded to steps between two numbers, of which 0 is one (Jacob et al., 2017, section 3)."""
    low, high, bits = float(op.option("Min")), float(op.option("Max")), op.option("NumBits")
    first = 1 if op.option("NarrowRange") else 0
    last = (1 << bits) - 1
    if not 2 <= bits <= 16 or not low < high or low > 0 or high < 0:
        raise op.error(f"has the range {low} to {high} in {bits} bits")
    scale = np.float32((high - low) / (last - first))
    zero = float(np.clip(np.floor(first - low / scale + 0.5), first, last))
    bottom, top = np.float32((first - zero) * scale), np.float32((last - zero) * scale)
    bounds = [op.number(bound, np.float32) for bound in (bottom, top)]
    steps = op.emit("Sub", [op.emit("Clip", [op.real(0), *bounds]), bounds[0]])
    steps = op.emit("Mul", [steps, op.number(np.float32(1) / scale, np.float32)])
    steps = op.emit("Floor", [op.emit("Add", [steps, op.number(0.5, np.float32)])])
    steps = op.emit("Mul", [steps, op.number(scale, np.float32)])
    op.finish(op.emit("Add", [steps, bounds[0]]))


_UNSIGNED = {8: DType.UINT8, 16: DType.UINT16, 32: DType.UINT32, 64: DType.UINT64}


@converter("BITCAST")
def bit_cast(op: Operation) -> None:
    """The bits of each element as another type; of several narrow ones along a last axis, the first has the lowest."""
    own, target = op.dtype(0), op.result_dtype()
    if own.bits not in _UNSIGNED or target.bits not in _UNSIGNED or DType.BOOL in (own, target):
        raise op.unsupported(f"takes the bits of {own.label} for {target.label}")
    op.place.root.need_opset(_OPSET_OF_BIT_CAST)
    value, widest = op.stored(0), _UNSIGNED[max(own.bits, target.bits)]
    count = max(own.bits, target.bits) // min(own.bits, target.bits)
    shifts = op.number(np.arange(count) * min(own.bits, target.bits), widest.numpy)
    if own.bits < target.bits:
        bits = op.cast(op.emit("BitCast", [value], {"to": _UNSIGNED[own.bits].value}), widest)
        wide = op.emit("BitShift", [bits, shifts], {"direction": "LEFT"})
        parts = op.several("Split", [wide], count, {"axis": op.rank(0) - 1, "num_outputs": count})
        value = functools.reduce(lambda a, b: op.emit("BitwiseOr", [a, b]), parts)
        value = op.emit("Squeeze", [value, op.number([op.rank(0) - 1])])
    elif own.bits > target.bits:
        bits = op.emit("Unsqueeze", [op.emit("BitCast", [value], {"to": widest.value}), op.number([op.rank(0)])])
        parts_of = op.emit("BitShift", [bits, shifts], {"direction": "RIGHT"})
        low = op.emit("BitwiseAnd", [parts_of, op.number((1 << target.bits) - 1, widest.numpy)])
        value = op.cast(low, _UNSIGNED[target.bits])
    op.keep(op.emit("BitCast", [value], {"to": target.value}))

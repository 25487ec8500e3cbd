"""Quantization and products of quantized numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.operators.matrix import product_shapes
from mace_testing.fuzzing.operators.windows import draw_window
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

SCALES = (0.25, 0.5, 1.0, 2.0)
"""Powers of two: quotients are exact, so that ties are ties for everybody."""

QUANTIZED = tuple(np.dtype(name) for name in ("uint8", "int8", "uint16", "int16"))


def _scales(source: Source, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    random = source.random() or np.random.default_rng(0)
    return np.asarray(random.choice(SCALES, shape), dtype).reshape(shape)


def _zero(source: Source, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return source.array(shape, dtype, -5 if dtype.kind == "i" else 0, 9)


def _parameters(source: Source, shape: tuple[int, ...], opset: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The shape of scale and zero point, and the attributes that say so: per tensor, axis or block."""
    kind = source.pick(
        ["tensor", *(["axis"] if opset >= 13 and shape else []), *(["block"] if opset >= 21 and shape else [])]
    )
    if kind == "tensor":
        return (), {}
    axis = source.integer(0, len(shape) - 1)
    given = axis - len(shape) if source.flag() else axis
    if kind == "axis":
        return (shape[axis],), {"axis": given}
    block = source.integer(1, max(1, shape[axis]))
    blocks = -(-shape[axis] // block)
    return (*shape[:axis], blocks, *shape[axis + 1 :]), {"axis": given, "block_size": block}


@draws("QuantizeLinear")
def quantize(source: Source, op: str) -> OpCase:
    import onnx.helper

    opset = source.opset(op, first=10)
    dtype = source.dtype(op, opset, only=schema.FLOATS)
    targets = [d for d in schema.dtypes(op, opset, output=True) if d in QUANTIZED]
    target = np.dtype(source.pick(targets))
    shape = source.shape(1, 4, empty=False)
    lanes, attributes = _parameters(source, shape, opset)
    x = source.array(shape, dtype, -300, 300, 0.125) if source.rarely(4) else source.array(shape, dtype, -20, 20, 0.125)
    scales = _scales(source, lanes, dtype)
    if opset >= 21 and source.rarely(4):
        attributes["output_dtype"] = int(onnx.helper.np_dtype_to_tensor_dtype(target))
        return OpCase(op, opset, (x, scales), attributes)
    if source.flag():
        return OpCase(op, opset, (x, scales, _zero(source, lanes, target)), attributes)
    return OpCase(op, opset, (x, scales), attributes)


@draws("DequantizeLinear")
def dequantize(source: Source, op: str) -> OpCase:
    opset = source.opset(op, first=10)
    dtype = source.dtype(op, opset, only=(*QUANTIZED, np.dtype(np.int32)))
    shape = source.shape(1, 4, empty=False)
    lanes, attributes = _parameters(source, shape, opset)
    x = source.extremes(source.array(shape, dtype, -100, 100))
    kind = source.dtype(op, opset, 1, only=schema.FLOATS)
    inputs: list[Array] = [x, _scales(source, lanes, kind)]
    if source.flag():
        inputs.append(_zero(source, lanes, dtype) if dtype != np.int32 else np.zeros(lanes, np.int32))
    return OpCase(op, opset, tuple(inputs), attributes)


@draws("DynamicQuantizeLinear")
def dynamic(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    x = source.floats(source.shape(1, 3, empty=False), np.float32)
    return OpCase(op, opset, (x,), {}, (True, True, True), off_by=1)


@draws("QLinearMatMul")
def matmul(source: Source, op: str) -> OpCase:
    """Scales may be one a row or column; a result may be one off where its exact value lies between two."""
    opset = source.opset(op)
    left, right = product_shapes(source)
    first, second, third = (source.pick([np.dtype(np.uint8), np.dtype(np.int8)]) for _ in range(3))
    columns = (right[-1],) if len(right) == 2 and source.rarely(3) else ()
    inputs = (
        source.array(left, first, -20, 20), _scales(source, ()), _zero(source, (), first),
        source.array(right, second, -20, 20), _scales(source, columns), _zero(source, columns, second),
        _scales(source, ()) * np.float32(16), _zero(source, (), third),
    )  # fmt: skip
    return OpCase(op, opset, inputs, off_by=1)


@draws("ConvInteger", "QLinearConv")
def convolution(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    window = draw_window(source)
    groups = source.pick([1, 1, 2])
    per_group = source.dim(1, 4)
    filters = groups * source.dim(1, 4)
    first, second = (source.pick([np.dtype(np.uint8), np.dtype(np.int8)]) for _ in range(2))
    x = source.array((source.dim(1, 2), groups * per_group, *window.sizes), first, -20, 20)
    w = source.array((filters, per_group, *window.kernel), second, -20, 20)
    attributes = dict(window.attributes)
    if groups > 1:
        attributes["group"] = groups
    if source.flag():
        attributes["kernel_shape"] = list(window.kernel)
    lanes = (filters,) if source.flag() else ()
    if op == "ConvInteger":
        inputs: list[Array] = [x, w]
        if source.flag():
            inputs.append(_zero(source, (), first))
            if source.flag():
                inputs.append(_zero(source, lanes, second))
        return OpCase(op, opset, tuple(inputs), attributes)
    third = source.pick([np.dtype(np.uint8), np.dtype(np.int8)])
    inputs = [
        x, _scales(source, ()), _zero(source, (), first), w, _scales(source, lanes), _zero(source, lanes, second),
        _scales(source, ()) * np.float32(16), _zero(source, (), third),
    ]  # fmt: skip
    if source.flag():
        inputs.append(source.array((filters,), np.int32, -99, 99))
    return OpCase(op, opset, tuple(inputs), attributes, off_by=1)

"""The operators of com.microsoft that exporters emit; only onnxruntime judges them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import CONTRIB, Array, OpCase
from mace_testing.fuzzing.operators.quantized import convolution
from mace_testing.fuzzing.operators.windows import convolution as float_convolution
from mace_testing.fuzzing.operators.windows import draw_window
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

OPSET = 17
FLOAT = np.dtype(np.float32)
BYTES: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype(np.int8))


def _scale(source: Source) -> Array:
    return np.array(source.pick([0.25, 0.5, 0.125]), np.float32)


@draws("Gelu", "QuickGelu", domain=CONTRIB)
def gelu(source: Source, op: str) -> OpCase:
    attributes = {"alpha": source.number(0.5, 2)} if op == "QuickGelu" and source.flag() else {}
    return OpCase(op, OPSET, (source.array(source.shape(1), FLOAT, -6, 6, 0.125),), attributes, tolerance=1e-4)


@draws("BiasGelu", "FastGelu", domain=CONTRIB)
def biased_gelu(source: Source, op: str) -> OpCase:
    shape = source.shape(1, empty=False)
    inputs = [source.array(shape, FLOAT, -4, 4, 0.125)]
    if op == "BiasGelu" or source.flag():
        inputs.append(source.array(shape[-1:], FLOAT, -2, 2))
    return OpCase(op, OPSET, tuple(inputs), tolerance=1e-4)


def _activation(source: Source) -> dict[str, Any]:
    return source.pick(
        [
            {"activation": "Relu"}, {"activation": "Tanh"}, {"activation": "Sigmoid"},
            {"activation": "LeakyRelu", "activation_params": [0.25]},
            {"activation": "Clip", "activation_params": [-1.0, 2.0]},
            {"activation": "HardSigmoid", "activation_params": [0.25, 0.5]},
        ]
    )  # fmt: skip


@draws("FusedConv", domain=CONTRIB)
def fused_convolution(source: Source, op: str) -> OpCase:
    plain = float_convolution(source, "Conv")
    inputs = tuple(None if array is None else array.astype(FLOAT) for array in plain.inputs)
    return OpCase(op, OPSET, inputs, {**plain.attributes, **_activation(source)})


@draws("FusedGemm", domain=CONTRIB)
def fused_gemm(source: Source, op: str) -> OpCase:
    m, k, n = (source.dim() for _ in range(3))
    flip_a, flip_b = source.flag(), source.flag()
    a = source.array((k, m) if flip_a else (m, k), FLOAT, -2, 2, 0.5)
    b = source.array((n, k) if flip_b else (k, n), FLOAT, -2, 2, 0.5)
    c = (source.array((n,), FLOAT),) if source.flag() else ()
    chosen = _activation(source)
    given: dict[str, Any] = {"activation": chosen["activation"], "transA": int(flip_a), "transB": int(flip_b)}
    if chosen["activation"] == "LeakyRelu":
        given["activation_alpha"] = 0.25
    if chosen["activation"] in ("Clip", "HardSigmoid"):
        given["activation"] = "Relu"
    if source.flag():
        given["alpha"] = 0.5
    return OpCase(op, OPSET, (a, b, *c), given)


@draws("FusedMatMul", "TransposeMatMul", domain=CONTRIB)
def fused_matmul(source: Source, op: str) -> OpCase:
    m, k, n = (source.dim() for _ in range(3))
    batch = source.shape(0, 2, largest=3, empty=False)
    flip_a, flip_b = source.flag(), source.flag()
    a = source.array((*batch, k, m) if flip_a else (*batch, m, k), FLOAT, -2, 2, 0.5)
    b = source.array((*batch, n, k) if flip_b else (*batch, k, n), FLOAT, -2, 2, 0.5)
    attributes = {"transA": int(flip_a), "transB": int(flip_b), "alpha": source.pick([1.0, 0.5])}
    return OpCase(op, OPSET, (a, b), attributes)


@draws("MatMulIntegerToFloat", domain=CONTRIB)
def matmul_to_float(source: Source, op: str) -> OpCase:
    m, k, n = (source.dim() for _ in range(3))
    first, second = source.pick(BYTES), source.pick(BYTES)
    inputs: list[Array | None] = [
        source.array((m, k), first, -20, 20), source.array((k, n), second, -20, 20), _scale(source),
        _scale(source) if source.flag() else source.array((n,), FLOAT, 0.25, 1),
    ]  # fmt: skip
    if source.flag():
        inputs += [source.array((), first, 0, 5), source.array((), second, 0, 5)]
        if source.flag():
            inputs.append(source.array((n,), FLOAT))
    return OpCase(op, OPSET, tuple(inputs))


@draws("DynamicQuantizeMatMul", domain=CONTRIB)
def dynamic_matmul(source: Source, op: str) -> OpCase:
    """The input is rounded to steps of its own range; rounding one element up or down moves a product by a step."""
    m, k, n = (source.dim() for _ in range(3))
    second = source.pick(BYTES)
    inputs: list[Array | None] = [
        source.floats((m, k), FLOAT), source.array((k, n), second, -9, 9), _scale(source),
        source.array((), second, 0, 5),
    ]  # fmt: skip
    if source.flag():
        inputs.append(source.array((n,), FLOAT))
    return OpCase(op, OPSET, tuple(inputs), tolerance=2e-2)


@draws("QGemm", domain=CONTRIB)
def quantized_gemm(source: Source, op: str) -> OpCase:
    m, k, n = (source.dim() for _ in range(3))
    first, second = source.pick(BYTES), source.pick(BYTES)
    flip_a, flip_b = source.flag(), source.flag()
    inputs: list[Array | None] = [
        source.array((k, m) if flip_a else (m, k), first, -20, 20), _scale(source), source.array((), first, 0, 5),
        source.array((n, k) if flip_b else (k, n), second, -20, 20), _scale(source), source.array((), second, 0, 5),
        source.array((n,), np.int32, -99, 99) if source.flag() else None,
    ]  # fmt: skip
    if source.flag():
        inputs += [np.array(4.0, np.float32), source.array((), first, 0, 5)]
    elif inputs[-1] is None:
        inputs.pop()
    attributes = {"transA": int(flip_a), "transB": int(flip_b), "alpha": source.pick([1.0, 0.5])}
    return OpCase(op, OPSET, tuple(inputs), attributes, off_by=1, tolerance=1e-4)


@draws("MatMulNBits", domain=CONTRIB)
def matmul_bits(source: Source, op: str) -> OpCase:
    """Zero points and an order of the rows are not drawn together: onnxruntime then takes the default zero point."""
    block, bits = source.pick([16, 32]), source.pick([4, 4, 8, 2])
    k, n, m = block * source.dim(1, 3), source.dim(1, 9), source.dim(1, 5)
    blocks = k // block
    inputs: list[Array | None] = [
        source.array((m, k), FLOAT, -2, 2),
        source.array((n, blocks, block * bits // 8), np.uint8, 0, 255),
        source.array((n, blocks) if source.flag() else (n * blocks,), FLOAT, 0.25, 1),
    ]
    packed = -(-blocks * bits // 8)
    has_zeros = source.flag()
    inputs.append(
        source.array((n, packed) if source.flag() else (n * packed,), np.uint8, 0, 255) if has_zeros else None
    )
    inputs.append(
        source.array((k,), np.int32, 0, blocks - 1) if bits == 4 and not has_zeros and source.flag() else None
    )
    inputs.append(source.array((n,), FLOAT) if source.rarely(3) else None)
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    return OpCase(op, OPSET, tuple(inputs), attributes, constants=frozenset({1, 2, 3, 4, 5}), tolerance=1e-4)


@draws("QLinearAdd", "QLinearMul", domain=CONTRIB)
def quantized_binary(source: Source, op: str) -> OpCase:
    shape = source.shape(1, empty=False)
    dtype = source.pick(BYTES)
    inputs: list[Array] = []
    for part in (source.broadcast(shape), source.broadcast(shape)):
        inputs += [source.array(part, dtype, -50, 50), _scale(source), source.array((), dtype, 0, 5)]
    inputs += [np.array(source.pick([0.5, 1.0, 2.0]), np.float32), source.array((), dtype, 0, 5)]
    return OpCase(op, OPSET, tuple(inputs), off_by=1)


@draws("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=CONTRIB)
def quantized_unary(source: Source, op: str) -> OpCase:
    shape = source.shape(1, empty=False)
    dtype = source.pick(BYTES)
    attributes: dict[str, Any] = {"alpha": 0.25} if op == "QLinearLeakyRelu" else {}
    small = op != "QLinearLeakyRelu"
    target = np.array(1 / 256 if small else 0.25, np.float32)
    zero = np.array(-128 if small and dtype.kind == "i" else 0, dtype)
    if op == "QLinearSoftmax":
        attributes = {"axis": source.axis(len(shape)), "opset": source.pick([13, 11])}
    inputs = (source.array(shape, dtype, -50, 50), _scale(source), source.array((), dtype, 0, 5), target, zero)
    constants = frozenset(range(1, 5))
    return OpCase(op, OPSET, inputs, attributes, off_by=1, constants=constants)


@draws("QLinearAveragePool", domain=CONTRIB)
def quantized_pooling(source: Source, op: str) -> OpCase:
    window = draw_window(source, dilations=False, most_rank=2, same=False)
    dtype = source.pick(BYTES)
    x = source.array((1, source.dim(1, 4), *window.sizes), dtype, -50, 50)
    attributes = {**window.attributes, "kernel_shape": list(window.kernel)}
    if source.flag():
        x, attributes["channels_last"] = np.ascontiguousarray(np.moveaxis(x, 1, -1)), 1
    if source.flag():
        attributes["count_include_pad"] = int(source.flag())
    scale, zero = _scale(source), source.array((), dtype, 0, 5)
    return OpCase(op, OPSET, (x, scale, zero, _scale(source), source.array((), dtype, 0, 5)), attributes, off_by=1)


@draws("QLinearGlobalAveragePool", domain=CONTRIB)
def quantized_global_pooling(source: Source, op: str) -> OpCase:
    dtype = source.pick(BYTES)
    x = source.array((source.dim(1, 2), source.dim(1, 9), source.dim(1, 5), source.dim(1, 5)), dtype, -50, 50)
    scale, zero = _scale(source), source.array((), dtype, 0, 5)
    inputs = (x, scale, zero, _scale(source), source.array((), dtype, 0, 5))
    return OpCase(op, OPSET, inputs, {"channels_last": int(source.flag())}, off_by=1)


@draws("QLinearConcat", domain=CONTRIB)
def quantized_concat(source: Source, op: str) -> OpCase:
    shape = list(source.shape(1, 3, empty=False))
    dtype = source.pick(BYTES)
    axis = source.integer(0, len(shape) - 1)
    inputs: list[Array] = [_scale(source), source.array((), dtype, 0, 5)]
    for _ in range(source.dim(1, 3)):
        shape[axis] = source.dim(1, 4)
        inputs += [source.array(shape, dtype, -50, 50), _scale(source), source.array((), dtype, 0, 5)]
    return OpCase(op, OPSET, tuple(inputs), {"axis": axis}, off_by=1)


@draws("QLinearConv", domain=CONTRIB)
def quantized_convolution(source: Source, op: str) -> OpCase:
    """With its channels last half the time, as onnxruntime's optimizer lays it out."""
    plain = convolution(source, "QLinearConv")
    inputs, attributes = list(plain.inputs), dict(plain.attributes)
    if source.flag() and inputs[0] is not None:
        inputs[0] = np.ascontiguousarray(np.moveaxis(inputs[0], 1, -1))
        attributes["channels_last"] = 1
    return OpCase(op, OPSET, tuple(inputs), attributes, off_by=1, constants=plain.constants)


@draws("QuantizeLinear", "DequantizeLinear", domain=CONTRIB)
def linear(source: Source, op: str) -> OpCase:
    shape = source.shape(1, empty=False)
    dtype: np.dtype[Any] = source.pick([*BYTES, np.dtype(np.uint16), np.dtype(np.int16)])
    kind: np.dtype[Any] = FLOAT if op == "QuantizeLinear" else dtype
    x = source.array(shape, kind, -50, 50)
    axis = source.integer(0, len(shape) - 1)
    lanes = (shape[axis],) if source.flag() else ()
    scales = np.full(lanes, source.pick([0.25, 0.5]), np.float32)
    attributes = {"axis": axis} if lanes else {}
    return OpCase(op, OPSET, (x, scales, source.array(lanes, dtype, 0, 5)), attributes)


@draws("Trilu", domain=CONTRIB)
def triangle(source: Source, op: str) -> OpCase:
    x = source.array(source.shape(2, 4, empty=False), FLOAT)
    return OpCase(op, OPSET, (x, np.array(source.integer(-3, 3), np.int64)), {"upper": int(source.flag())})


@draws("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=CONTRIB)
def skip_normalization(source: Source, op: str) -> OpCase:
    shape = (source.dim(1, 3), source.dim(1, 4), source.dim(2, 20))
    row = shape[-1:]
    inputs: list[Array | None] = [
        source.floats(shape, FLOAT),
        source.floats(shape, FLOAT),
        source.array(row, FLOAT, 0.5, 2),
    ]
    if op == "SkipLayerNormalization":
        inputs.append(source.array(row, FLOAT) if source.flag() else None)
    inputs.append(source.array(row, FLOAT) if source.flag() else None)
    while inputs[-1] is None:
        inputs.pop()
    outputs = (True, False, False, True) if source.flag() else (True,)
    return OpCase(op, OPSET, tuple(inputs), {"epsilon": 1e-2}, outputs, tolerance=1e-4)


@draws("SimplifiedLayerNormalization")
def simplified_normalization(source: Source, op: str) -> OpCase:
    """An operator of onnxruntime in the domain of ai.onnx."""
    shape = source.shape(1, 4, empty=False)
    inputs = (source.floats(shape, FLOAT), source.array(shape[-1:], FLOAT, 0.5, 2))
    return OpCase(op, OPSET, inputs, {"axis": -1, "epsilon": 1e-2}, tolerance=1e-4)


@draws("UnfoldTensor", domain=CONTRIB)
def unfold(source: Source, op: str) -> OpCase:
    shape = source.shape(1, empty=False)
    axis = source.pick(range(-len(shape), len(shape)))
    attributes = {"size": source.pick(range(1, shape[axis] + 1)), "step": source.pick([1, 2, 3])}
    if axis != -1 or source.flag():
        attributes["dim"] = axis
    return OpCase(op, OPSET, (source.array(shape, FLOAT, -4, 4),), attributes)

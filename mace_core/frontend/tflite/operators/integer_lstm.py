"""The LSTM of 8 bits whose cell has 16, in LiteRT's integers (``LstmStepInteger8x8_16``): a Scan over its steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.frontend.scope import Frame
from mace_core.frontend.tflite.arithmetic import sigmoid
from mace_core.frontend.tflite.arithmetic.rounding import multiplier_of
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.sixteen_bits import CODES, table_of
from mace_core.frontend.tflite.place import Place
from mace_core.frontend.tflite.types import type_of
from mace_core.graph import Graph, Value
from mace_core.tensor import DType, Tensor, TensorType

_GATE_STEP = 2.0**-12
_H, _C = 18, 19
_LARGEST = 1 << 24
"""Numbers of a state whose first content is written out: a few bytes of a file could ask for any shape."""

_HIDDEN = 4
"""Of the intermediate tensors, the one that says how results are quantized before a projection."""


def integer_lstm(op: Operation) -> None:
    """Gates are input, forget, cell, output."""
    if any(op.has(index) for index in (9, 10, 11)):
        raise op.unsupported("keeps its state in integers and has peepholes")
    h, c = _state(op, _H), _state(op, _C)
    bits = math.log2(_scale(op, _C)) + 15
    if op.dtype(0) is not DType.INT8 or op.dtype(_C) is not DType.INT16 or abs(bits - round(bits)) > 1e-3:
        raise op.unsupported("keeps its state in integers, and not in 8 and 16 bits with a cell in a power of 2")
    x, time_major = op.stored(0), bool(op.option("TimeMajor"))
    if not time_major:
        x = op.emit("Transpose", [x], {"perm": [1, 0, 2]})
    batch, units = op.shape(_C)
    features = op.shape(0)[-1]
    graph = Graph(f"{op.name}/step")
    place = Place(op.place.root, op.place.file, graph, op.place, Frame(graph, op.place.frame))
    step = op.within(place)
    ends = {"h": (DType.INT8, units), "c": (DType.INT16, units), "x": (DType.INT8, features)}
    values: dict[str, Value] = {}
    for name, (dtype, size) in ends.items():
        values[name] = place.made(f"{op.name}/{name}")
        values[name].type = TensorType(dtype, (batch, size))
    graph.inputs += values.values()
    after_h, after_c = _step(op, step, values["x"], values["h"], values["c"], round(bits))
    outputs = [after_h, after_c, step.emit("Identity", [after_h])]
    for value, dtype in zip(outputs, (DType.INT8, DType.INT16, DType.INT8), strict=True):
        value.type = TensorType(dtype, (batch, units))
    graph.outputs += outputs
    last_h, last_c, y = op.several("Scan", [h[1], c[1], x], 3, {"body": graph, "num_scan_inputs": 1})
    op.place.change(h[0], last_h, op)
    op.place.change(c[0], last_c, op)
    op.keep(y if time_major else op.emit("Transpose", [y], {"perm": [1, 0, 2]}))


def _step(op: Operation, at: Operation, x: Value, h: Value, c: Value, bits: int) -> tuple[Value, Value]:
    x, h, c = (at.cast(value, DType.INT32 if value is not c else DType.INT64) for value in (x, h, c))
    gates = []
    for number, (w, r, b) in enumerate(zip(range(1, 5), range(5, 9), range(12, 16), strict=True)):
        function = sigmoid.tanh_series if number == 2 else sigmoid.logistic_series
        total = _product(op, at, x, w, _zero(op, 0), _factor(op, w, 0), bias=op.constant(b))
        total = at.emit("Add", [total, _product(op, at, h, r, _zero(op, _H), _factor(op, r, _H))])
        gates.append(_of_table(at, _clipped(at, total, 16), function(CODES)))
    into, forget, cell, out = gates
    kept = _divided(at, at.emit("Mul", [forget, c]), 15)
    added = _divided(at, at.emit("Mul", [into, cell]), 30 + bits - 15)
    c = _clipped(at, at.emit("Add", [kept, added]), 16)
    shown = _of_table(at, c, sigmoid.tanh_series(CODES, bits))
    scale, zero = _hidden(op)
    y = _scaled(at, at.emit("Mul", [out, shown]), multiplier_of(float(np.float32(2.0**-15 / scale * 2.0**-15))))
    y = _clipped(at, at.emit("Add", [y, at.number(zero)]), 8)
    return at.cast(y, DType.INT8), at.cast(c, DType.INT16)


def _product(
    op: Operation,
    at: Operation,
    x: Value,
    weights: int,
    zero: int,
    factor: float,
    bias: npt.NDArray[Any] | None = None,
) -> Value:
    """Numbers times weights, in steps of a gate: 64 bits, so that what the kernels round can be rounded."""
    content = op.constant(weights)
    if content is None:
        raise op.unsupported("has weights that the model computes")
    wide = content.astype(np.int64)
    base = -zero * wide.sum(1) + (0 if bias is None else bias.astype(np.int64))
    sums = at.cast(at.emit("MatMul", [x, at.number(wide.T, np.int32)]), DType.INT64)
    return _clipped(at, _scaled(at, at.emit("Add", [sums, at.number(base)]), multiplier_of(factor)), 16)


def _scaled(at: Operation, x: Value, multiplier: tuple[int, int]) -> Value:
    """As `rounding.multiplied`."""
    fixed, shift = multiplier
    product = at.emit("Mul", [x, at.number(fixed << max(shift, 0))])
    nudge = at.emit("Where", [at.emit("Less", [product, at.number(0)]), at.number(1 - (1 << 30)), at.number(1 << 30)])
    high = at.emit("Div", [at.emit("Add", [product, nudge]), at.number(1 << 31)])
    return _divided(at, high, max(-shift, 0))


def _divided(at: Operation, x: Value, exponent: int) -> Value:
    """As `rounding.divided_by_power`: halves away from zero."""
    if exponent == 0:
        return x
    half = at.emit("Mul", [at.emit("Sign", [x]), at.number(1 << (exponent - 1))])
    return at.emit("Div", [at.emit("Add", [x, half]), at.number(1 << exponent)])


def _clipped(at: Operation, x: Value, bits: int) -> Value:
    last = (1 << (bits - 1)) - 1
    return at.emit("Min", [at.emit("Max", [x, at.number(-last - 1)]), at.number(last)])


def _of_table(at: Operation, x: Value, results: npt.NDArray[np.int64]) -> Value:
    return at.cast(table_of(at, x, results.astype(np.int16)), DType.INT64)


def _scale(op: Operation, index: int) -> float:
    quantization = op.tensor(index).quantization
    if quantization is None or quantization.scale.size != 1:
        raise op.unsupported(f"keeps its state in integers, and input {index} has not one scale")
    return float(quantization.scale[0])


def _zero(op: Operation, index: int) -> int:
    quantization = op.tensor(index).quantization
    return 0 if quantization is None else int(quantization.zero_point[0])


def _factor(op: Operation, weights: int, x: int) -> float:
    """In float32, as LiteRT has it."""
    with np.errstate(over="ignore"):  # what is not finite is refused by `multiplier_of`
        scale = np.float32(_scale(op, weights)) * np.float32(_scale(op, x))
        return float(np.float32(scale) / np.float32(_GATE_STEP))


def _hidden(op: Operation) -> tuple[float, int]:
    numbers = op.file.intermediates
    if len(numbers) <= _HIDDEN or not 0 <= numbers[_HIDDEN] < len(op.place.file.tensors):
        raise op.error("says nowhere how its results are quantized")
    quantization = op.place.tensor(numbers[_HIDDEN]).quantization
    if quantization is None or quantization.scale.size != 1 or quantization.scale[0] <= 0:
        raise op.error("says nowhere how its results are quantized")
    return float(quantization.scale[0]), int(quantization.zero_point[0])


def _state(op: Operation, index: int) -> tuple[str, Value]:
    """Key and present content; at first what stands for 0."""
    tensor = op.tensor(index)
    key = f"tensor {op.place.file.index}/{tensor.index}"
    type = type_of(tensor, op.where)
    variable = op.place.root.variables.of(key, tensor.name or f"state_{tensor.index}", type)
    zero = _zero(op, index)
    if zero and variable.start is None and type.is_concrete:
        if math.prod(type.concrete_shape) > _LARGEST:
            raise op.unsupported(f"keeps a state of the shape {list(type.concrete_shape)}")
        variable.start = Tensor.from_numpy(np.full(type.concrete_shape, zero, type.dtype.numpy))
    return key, op.place.current(key, op)

"""Recurrent layers.  Their states are variables: what a run leaves is where the next begins, as in LiteRT."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import bias, image
from mace_core.frontend.tflite.operators.integer_lstm import integer_lstm
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.types import type_of
from mace_core.graph import Value
from mace_core.tensor import TensorType

_ACTIVATIONS = {0: "Affine", 1: "Relu", 4: "Tanh"}
"""ONNX's names for fused activations; Affine with its defaults of 1 and 0 leaves its input as it is."""


@converter("UNIDIRECTIONAL_SEQUENCE_LSTM", options="UnidirectionalSequenceLSTMOptions")
def lstm(op: Operation) -> None:
    """Gates are input, forget, cell, output; in ONNX input, output, forget, cell."""
    for first, last, what in ((16, 18, "a projection"), (20, 24, "layer normalization")):
        if any(op.has(index) for index in range(first, last)):
            raise op.unsupported(f"has {what}")
    if op.option("CellClip") or op.option("ProjClip"):
        raise op.unsupported("clips its cell")
    if op.option("FusedActivationFunction") != 4:
        raise op.unsupported(f"has the activation number {op.option('FusedActivationFunction')}")
    if not op.has(1):
        raise op.unsupported("has one gate for input and forget")
    if op.is_quantized(op.tensor(18)):
        integer_lstm(op)
        return
    units = image(op, 2, 2)[0]
    if units is None:
        raise op.unsupported("has weights of unknown size")
    w = _stacked(op, (1, 4, 2, 3))
    r = _stacked(op, (5, 8, 6, 7))
    biases = [op.real(index) for index in (12, 15, 13, 14)]
    b = op.emit("Concat", [*biases, op.number([0] * (4 * units), "float32")], {"axis": 0})
    peepholes: list[Value | None] = []
    if op.has(10):
        peepholes = [_one(op, op.emit("Concat", [op.real(index) for index in (9, 11, 10)], {"axis": 0}))]
    states = [_state(op, index) for index in (18, 19)]
    start = [_one(op, value) for _, value in states]
    x, time_major = op.real(0), bool(op.option("TimeMajor"))
    if not time_major:
        x = op.emit("Transpose", [x], {"perm": [1, 0, 2]})
    inputs = [x, w, r, _one(op, b), None, *start, *peepholes]
    y, h, c = op.several("LSTM", inputs, 3, {"hidden_size": units})
    for (key, _), value in zip(states, (h, c), strict=True):
        op.place.change(key, op.emit("Squeeze", [value, op.number([0])]), op)
    _finish(op, y, time_major=time_major)


@converter("UNIDIRECTIONAL_SEQUENCE_RNN", options="SequenceRNNOptions")
def recurrent(op: Operation) -> None:
    units = image(op, 1, 2)[0]
    function = op.option("FusedActivationFunction")
    if units is None or function not in _ACTIVATIONS:
        raise op.unsupported(f"has the activation number {function}")
    key, start = _state(op, 4)
    b = op.emit("Concat", [op.real(3), op.number([0] * units, "float32")], {"axis": 0})
    x, time_major = op.real(0), bool(op.option("TimeMajor"))
    if not time_major:
        x = op.emit("Transpose", [x], {"perm": [1, 0, 2]})
    attributes: dict[str, object] = {"hidden_size": units, "activations": [_ACTIVATIONS[function]]}
    if function == 0:
        attributes |= {"activation_alpha": [1.0], "activation_beta": [0.0]}
    inputs = [x, _one(op, op.real(1)), _one(op, op.real(2)), _one(op, b), None, _one(op, start)]
    y, h = op.several("RNN", inputs, 2, attributes)
    op.place.change(key, op.emit("Squeeze", [h, op.number([0])]), op)
    _finish(op, y, time_major=time_major)


@converter("RNN", options="RNNOptions")
def step(op: Operation) -> None:
    """One step: activation(W x + R h + b)."""
    key, start = _state(op, 4)
    here = op.emit("Gemm", [op.real(0), op.real(1), op.real(3)], {"transB": 1})
    before = op.emit("Gemm", [start, op.real(2)], {"transB": 1})
    h = op.activated(op.emit("Add", [here, before]), op.option("FusedActivationFunction"))
    op.place.change(key, h, op)
    op.finish(op.emit("Identity", [h]))


@converter("SVDF", options="SVDFOptions")
def filters_over_time(op: Operation) -> None:
    """Filters of rank n: one over features, one over the last steps (Nakkiran et al., 2015)."""
    count, memory = image(op, 2, 2)
    rank = op.option("Rank")
    if count is None or memory is None or rank < 1 or count % rank:
        raise op.error(f"has {count} filters of rank {rank}")
    key, start = _state(op, 4 if op.count > 4 else 3)
    state = op.emit("Reshape", [start, op.number([-1, count, memory])])
    now = op.emit("Gemm", [op.real(0), op.real(1)], {"transB": 1})
    kept = op.emit("Slice", [state, op.number([1]), op.number([memory]), op.number([2])])
    state = op.emit("Concat", [kept, op.emit("Unsqueeze", [now, op.number([2])])], {"axis": 2})
    op.place.change(key, op.emit("Reshape", [state, op.number([-1, count * memory])]), op)
    seen = op.emit("ReduceSum", [op.emit("Mul", [state, op.real(2)]), op.number([2])], {"keepdims": 0})
    y = op.emit("Reshape", [seen, op.number([-1, count // rank, rank])])
    y = op.emit("ReduceSum", [y, op.number([2])], {"keepdims": 0})
    for value in bias(op, 3):
        y = op.emit("Add", [y, value])
    op.finish(op.activated(y, op.option("FusedActivationFunction")))


def _state(op: Operation, index: int) -> tuple[str, Value]:
    """Key and present content of a state: a tensor that the file calls a variable."""
    tensor = op.tensor(index)
    if op.is_quantized(tensor):
        raise op.unsupported("keeps its state in integers")
    key = f"tensor {op.place.file.index}/{tensor.index}"
    name = tensor.name or f"state_{tensor.index}"
    type = type_of(tensor, op.where)
    op.place.root.variables.of(key, name, TensorType(type.dtype, type.shape))
    return key, op.place.current(key, op)


def _stacked(op: Operation, indices: tuple[int, ...]) -> Value:
    return _one(op, op.emit("Concat", [op.real(index) for index in indices], {"axis": 0}))


def _one(op: Operation, value: Value) -> Value:
    """For the one direction there is."""
    return op.emit("Unsqueeze", [value, op.number([0])])


def _finish(op: Operation, y: Value, *, time_major: bool) -> None:
    y = op.emit("Squeeze", [y, op.number([1])])
    op.finish(y if time_major else op.emit("Transpose", [y], {"perm": [1, 0, 2]}))

"""Convolutional classifiers from ONNX to TFLite, as a training framework's exporter would write them.

Channels last; activations fused into the operator before; padding that TFLite's "same" does not mean as an operator of
its own.  Only the operators that such networks have are known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper

from benchmarks.compare.convert import NotConvertibleError

SIGNATURE = "serving_default"
_VALID, _SAME = schema.Padding.VALID, schema.Padding.SAME
_ACTIVATION = schema.ActivationFunctionType


def to_tflite(model: onnx.ModelProto) -> bytes:
    """The TFLite file of a model with fixed shapes.

    Raises:
        NotConvertibleError: for an operator, or a use of one, that is not known here.
    """
    return _Writer(onnx.shape_inference.infer_shapes(model)).write()


class _Writer:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = graph = model.graph
        self._constants: dict[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._buffers = [schema.BufferT()]
        self._tensors: list[Any] = []
        self._index: dict[str, int] = {}
        self._codes: list[int] = []
        self._operators: list[Any] = []
        self._clamped: set[str] = set()
        """Values that are never negative: they can be padded with zeros for a maximum."""

    def write(self) -> bytes:
        unknown = {node.op_type for node in self._graph.node} - {*_CONVERTERS, "Clip", "Identity", "Constant"}
        if unknown:
            raise NotConvertibleError(f"no TFLite form of {', '.join(sorted(unknown))} is written here")
        given = [value.name for value in self._graph.input if value.name not in self._constants]
        inputs = [self._value(name) for name in given]
        done: set[str] = set()
        for node in self._graph.node:
            if node.name in done:
                continue
            if node.op_type == "Identity":
                self._index[node.output[0]] = self._value(node.input[0])
                continue
            convert = _CONVERTERS.get(node.op_type)
            if convert is None:
                raise NotConvertibleError(f"no TFLite form of this use of {node.op_type} is written here")
            activation, last = self._fused_activation(node)
            if last is not node:
                done.add(last.name)
            if activation in (_ACTIVATION.RELU, _ACTIVATION.RELU6):
                self._clamped.add(last.output[0])
            convert(self, node, last.output[0], activation)
        model = schema.ModelT()
        model.version = 3
        model.description = self._graph.name
        model.buffers = self._buffers
        model.operatorCodes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code) for code in self._codes
        ]
        outputs = [self._value(value.name) for value in self._graph.output]
        model.subgraphs = [
            schema.SubGraphT(
                tensors=self._tensors, inputs=inputs, outputs=outputs, operators=self._operators, name="main"
            )
        ]
        model.signatureDefs = [self._signature(given, inputs, outputs)]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _signature(self, given: Sequence[str], inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        """What inputs and outputs are called; quantizers ask by it."""
        named = zip((*given, *(value.name for value in self._graph.output)), (*inputs, *outputs), strict=True)
        entries = [schema.TensorMapT(name=name, tensorIndex=index) for name, index in named]
        return schema.SignatureDefT(
            inputs=entries[: len(given)], outputs=entries[len(given) :], signatureKey=SIGNATURE, subgraphIndex=0
        )

    def _fused_activation(self, node: onnx.NodeProto) -> tuple[int, onnx.NodeProto]:
        """What follows ``node`` and can be part of it, and the node whose output the joint operator has."""
        users = self._users.get(node.output[0], [])
        if node.op_type not in _FUSING or len(users) != 1:
            return _ACTIVATION.NONE, node
        if users[0].op_type == "Relu":
            return _ACTIVATION.RELU, users[0]
        if users[0].op_type == "Clip":
            low, high = (float(self._constants[name]) for name in users[0].input[1:3])
            if (low, high) == (0.0, 6.0):
                return _ACTIVATION.RELU6, users[0]
        return _ACTIVATION.NONE, node

    # --- tensors and operators ------------------------------------------------------------------------------------

    def shape(self, name: str) -> list[int]:
        """Channels last."""
        shape = self._shapes[name]
        return [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else shape

    def constant(self, name: str) -> npt.NDArray[Any]:
        """A weight; one that is computed has no place in a TFLite file."""
        if name not in self._constants:
            raise NotConvertibleError(f"'{name}' is computed, where TFLite wants a constant")
        return self._constants[name]

    def is_clamped(self, name: str) -> bool:
        return name in self._clamped

    def _value(self, name: str) -> int:
        if name not in self._index:
            self._index[name] = self._add(name, self.shape(name), schema.TensorType.FLOAT32, 0)
        return self._index[name]

    def _stored(self, array: npt.NDArray[Any]) -> int:
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._buffers.append(schema.BufferT(data=data))
        kind = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}[array.dtype.name]
        return self._add(f"constant_{len(self._buffers)}", list(array.shape), kind, len(self._buffers) - 1)

    def _add(self, name: str, shape: Sequence[int], kind: int, buffer: int) -> int:
        self._tensors.append(schema.TensorT(shape=np.array(shape, np.int32), type=kind, buffer=buffer, name=name))
        return len(self._tensors) - 1

    def emit(self, code: int, inputs: Sequence[str | npt.NDArray[Any]], output: str, options: Any = None) -> None:
        """Append an operator; arrays among the inputs become constants."""
        if code not in self._codes:
            self._codes.append(code)
        kind = 0 if options is None else getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.index(code),
                inputs=[self._value(x) if isinstance(x, str) else self._stored(x) for x in inputs],
                outputs=[self._value(output)],
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )

    def padded(self, x: str, pads: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> tuple[str, int]:
        """``x``, behind an operator that pads it where needed, and the mode of padding that is left to do."""
        if not any(pads):
            return x, _VALID
        spatial = self.shape(x)[1:3]
        begin, end = pads[:2], pads[2:]
        total = [
            max((math.ceil(size / step) - 1) * step + side - size, 0)
            for size, side, step in zip(spatial, window, strides, strict=True)
        ]
        if [t // 2 for t in total] == [*begin] and [t - t // 2 for t in total] == [*end]:
            return x, _SAME
        name = f"{x}_padded_{len(self._operators)}"
        n, c, h, w = self._shapes[x]
        self._shapes[name] = [n, c, h + begin[0] + end[0], w + begin[1] + end[1]]
        amounts = np.array([[0, 0], [begin[0], end[0]], [begin[1], end[1]], [0, 0]], np.int32)
        self.emit(schema.BuiltinOperator.PAD, [x, amounts], name, schema.PadOptionsT())
        return name, _VALID


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _conv(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
    known = _attributes(node)
    weights = writer.constant(node.input[1])
    bias = writer.constant(node.input[2])
    filters, channels, *window = weights.shape
    group, strides = known.get("group", 1), known.get("strides", [1, 1])
    if any(d != 1 for d in known.get("dilations", [1])) or (group > 1 and (channels, filters) != (1, group)):
        raise NotConvertibleError("dilated and grouped convolutions are not written here")
    x, padding = writer.padded(node.input[0], known.get("pads", [0] * 4), window, strides)
    options = schema.Conv2DOptionsT() if group == 1 else schema.DepthwiseConv2DOptionsT(depthMultiplier=1)
    options.padding, options.fusedActivationFunction = padding, activation
    options.strideH, options.strideW = strides
    code = schema.BuiltinOperator.CONV_2D if group == 1 else schema.BuiltinOperator.DEPTHWISE_CONV_2D
    order = (0, 2, 3, 1) if group == 1 else (1, 2, 3, 0)
    writer.emit(code, [x, weights.transpose(order), bias], output, options)


def _max_pool(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
    known = _attributes(node)
    window, strides, pads = known["kernel_shape"], known.get("strides", [1, 1]), known.get("pads", [0] * 4)
    if any(pads) and not writer.is_clamped(node.input[0]):
        raise NotConvertibleError("padded maximum pooling of values that may be negative is not written here")
    x, padding = writer.padded(node.input[0], pads, window, strides)
    if (
        padding == _VALID
        and [(s - w) // t + 1 for s, w, t in zip(writer.shape(x)[1:3], window, strides, strict=True)]
        != (writer.shape(output)[1:3])
    ):
        raise NotConvertibleError("pooling with windows that reach over the end is not written here")
    options = schema.Pool2DOptionsT(padding=padding, fusedActivationFunction=activation)
    options.strideH, options.strideW = strides
    options.filterHeight, options.filterWidth = window
    writer.emit(schema.BuiltinOperator.MAX_POOL_2D, [x], output, options)


def _gemm(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
    if {k: v for k, v in _attributes(node).items() if k not in ("alpha", "beta")} != {"transB": 1}:
        raise NotConvertibleError("only x @ transpose(w) + b is written here")
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=activation)
    weights, bias = (writer.constant(name) for name in node.input[1:3])
    writer.emit(schema.BuiltinOperator.FULLY_CONNECTED, [node.input[0], weights, bias], output, options)


def _global_pool(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
    axes = np.array([1, 2], np.int32)
    writer.emit(schema.BuiltinOperator.MEAN, [node.input[0], axes], output, schema.ReducerOptionsT(keepDims=True))


def _flatten(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
    if writer.shape(node.input[0])[1:3] != [1, 1]:
        raise NotConvertibleError("flattening of more than one pixel is not written here")
    shape = np.array(writer.shape(output), np.int32)
    writer.emit(schema.BuiltinOperator.RESHAPE, [node.input[0], shape], output, schema.ReshapeOptionsT(newShape=shape))


def _concat(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
    if _attributes(node)["axis"] != 1 or len(writer.shape(output)) != 4:
        raise NotConvertibleError("only channels are joined here")
    writer.emit(schema.BuiltinOperator.CONCATENATION, node.input, output, schema.ConcatenationOptionsT(axis=3))


def _plain(code: int, options: Callable[[], Any] | None = None) -> Callable[[_Writer, onnx.NodeProto, str, int], None]:
    def convert(writer: _Writer, node: onnx.NodeProto, output: str, activation: int) -> None:
        made = None if options is None else options()
        if made is not None:
            made.fusedActivationFunction = activation
        writer.emit(code, node.input, output, made)

    return convert


_FUSING = ("Conv", "Add", "Gemm")

_CONVERTERS: dict[str, Callable[[_Writer, onnx.NodeProto, str, int], None]] = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "Flatten": _flatten,
    "Concat": _concat,
    "Add": _plain(schema.BuiltinOperator.ADD, schema.AddOptionsT),
    "Mul": _plain(schema.BuiltinOperator.MUL, schema.MulOptionsT),
    "Sigmoid": _plain(schema.BuiltinOperator.LOGISTIC),
    "Relu": _plain(schema.BuiltinOperator.RELU),
}

"""Writing encodings into a graph as QuantizeLinear and DequantizeLinear nodes, in the form that engines recognize.

Every quantized value is followed by one QuantizeLinear and one DequantizeLinear, which all its readers read. Weights
are stored as integers with a DequantizeLinear behind them, biases as int32 in steps of input scale times weight scale.
A Relu or Clip that the saturation of the QuantizeLinear behind it computes anyway is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.quantization.configure import Configuration, data_inputs
from mace_core.quantization.editing import Editor
from mace_core.quantization.encodings import (
    encoding_for_bias,
    limits,
    quantize,
    quantize_bias,
    quantize_steps,
    weight_encoding,
)
from mace_core.quantization.folding import channel_axis
from mace_core.quantization.grids import Grid
from mace_core.quantization.operators import RULES, Form
from mace_core.tensor import QuantEncoding, Tensor, TensorType


@dataclass(frozen=True, slots=True)
class WeightRule:
    """How constants are stored.

    Attributes:
        grid: the integers for weights.
        per_channel: one scale for each output channel where an operator has them.
    """

    grid: Grid
    per_channel: bool = True


BiasShift: TypeAlias = Callable[[Node, npt.NDArray[Any], QuantEncoding], "npt.NDArray[Any] | None"]
"""``(product, integers, encoding)`` to what is to be added to each of its biases, or None."""


@dataclass(slots=True)
class Written:
    """What was written.

    Attributes:
        weights: integers and encoding of the weights of each product, by its node.
        folded: the Relu and Clip nodes that saturation computes.
    """

    weights: dict[Node, tuple[npt.NDArray[Any], QuantEncoding]] = field(default_factory=dict)
    folded: list[Node] = field(default_factory=list)


def write_qdq(
    configuration: Configuration,
    encodings: Mapping[Value, QuantEncoding],
    weights: WeightRule,
    rounded: Mapping[Node, tuple[npt.NDArray[Any], QuantEncoding]] | None = None,
    shift: BiasShift | None = None,
) -> Written:
    """Quantize the graph of a configuration in place.

    Args:
        encodings: of every value of the configuration.
        weights: how constants are stored.
        rounded: weights whose integers were chosen already.
        shift: what to add to the biases.

    Raises:
        UsageError: if a weight is NaN or infinite.
    """
    return _Writer(configuration, encodings, weights, rounded or {}, shift).run()


class _Writer:
    def __init__(
        self,
        configuration: Configuration,
        encodings: Mapping[Value, QuantEncoding],
        weights: WeightRule,
        rounded: Mapping[Node, tuple[npt.NDArray[Any], QuantEncoding]],
        shift: BiasShift | None,
    ) -> None:
        self.configuration = configuration
        self.graph: Graph = configuration.graph
        self.encodings = encodings
        self.weights = weights
        self.rounded = rounded
        self.shift = shift
        self.editor = Editor(self.graph)
        self.written = Written()
        self.before: dict[Node, list[Node]] = {}
        self.after: dict[Value, list[Node]] = {}
        self.stored: dict[tuple[object, ...], Value] = {}

    def run(self) -> Written:
        self._fold_activations()
        quantized = set(self.configuration.nodes)
        dequantized = {value: self._between(value) for value in self.configuration.values}
        outputs = set(self.graph.outputs)
        for node in self.graph.nodes:
            if node in quantized:
                self._constants(node)
            node.inputs = [dequantized.get(v, v) if v is not None and v not in outputs else v for v in node.inputs]
        self._captured(dequantized, outputs)
        nodes: list[Node] = [node for value in self.graph.inputs for node in self.after.get(value, ())]
        for node in self.graph.nodes:
            nodes += self.before.get(node, ())
            nodes.append(node)
            nodes += [added for value in list(node.outputs) if value is not None for added in self.after.get(value, ())]
        self.graph.nodes = nodes
        self.editor.sweep()
        return self.written

    # --- computed values ---------------------------------------------------------------------------------------------

    def _between(self, value: Value) -> Value:
        """Put a QuantizeLinear and a DequantizeLinear behind a value; returns what its readers are to read.

        An output of the model keeps its name: what computes it gets a new one.
        """
        encoding = self.encodings[value]
        name = value.name
        scale = self.editor.constant(f"{name}_scale", encoding.scale)
        zero = self.editor.constant(f"{name}_zero_point", encoding.zero_point)
        source, result = value, value
        if value in self.graph.outputs and value.producer is not None:
            source = self.editor.value(f"{name}_QuantizeLinear_Input", value.type)
            producer = value.producer
            producer.outputs = [source if output is value else output for output in producer.outputs]
            source.producer = producer
        else:
            result = self.editor.value(f"{name}_DequantizeLinear_Output", value.type)
        shape = value.type.shape if isinstance(value.type, TensorType) else None
        stored = self.editor.value(f"{name}_QuantizeLinear_Output", TensorType(encoding.dtype, shape))
        self.after[source] = [
            self.editor.node("QuantizeLinear", [source, scale, zero], [stored], name=f"{name}_QuantizeLinear"),
            self.editor.node("DequantizeLinear", [stored, scale, zero], [result], name=f"{name}_DequantizeLinear"),
        ]
        return result

    def _captured(self, dequantized: Mapping[Value, Value], outputs: set[Value]) -> None:
        """Let graphs nested in nodes read what is left after quantization, as all readers do."""
        replaced = {value: new for value, new in dequantized.items() if value not in outputs}

        def visit(graph: Graph) -> None:
            for node in graph.nodes:
                node.inputs = [replaced.get(v, v) if v is not None else None for v in node.inputs]
                for body in node.subgraphs():
                    visit(body)
            graph.outputs = [replaced.get(value, value) for value in graph.outputs]

        for node in self.graph.nodes:
            for body in node.subgraphs():
                visit(body)

    def _fold_activations(self) -> None:
        """Take out the Relu and Clip nodes whose bounds are those of the 8-bit integers of their result.

        Of 16 bits they stay: OpenVINO leaves out a pair of QuantizeLinear and DequantizeLinear of 16 bits, and with it
        the saturation.
        """
        for node, activation in self.configuration.activations.items():
            result = activation.outputs[0]
            assert result is not None
            if self.encodings[result].dtype.bits != 8 or not _saturates(activation, self.encodings[result]):
                continue
            node.outputs = [result]
            result.producer = node
            node.source = (*node.source, *activation.source)
            self.written.folded.append(activation)
        gone = set(self.written.folded)
        self.graph.nodes = [node for node in self.graph.nodes if node not in gone]
        self.configuration.nodes = [node for node in self.configuration.nodes if node not in gone]

    # --- constants ---------------------------------------------------------------------------------------------------

    def _constants(self, node: Node) -> None:
        if node in self.configuration.biases.values():
            return
        constants = [value for value in data_inputs(node) if value.constant is not None]
        if RULES[node.op_type].form is Form.PRODUCT:
            for value in constants:
                self._product_weights(node, value)
            return
        for value in constants:
            grid = Grid(self._activation_type(node), False)
            self._replace(node, value, self._stored(node, value, weight_encoding(_floats(value), grid)))

    def _product_weights(self, node: Node, value: Value) -> None:
        x = node.inputs[0]
        has_bias_type = node.op_type != "MatMul" and x is not None and x in self.encodings
        if node in self.rounded and self._bias_fits(node, self.rounded[node][1]):
            integers, encoding = self.rounded[node]
        else:
            encoding = weight_encoding(_floats(value), self.weights.grid, axis=self.weight_axis(node, value))
            if (bias := self._bias_of(node)) is not None and has_bias_type:
                encoding = encoding_for_bias(encoding, bias, self._input_scale(node))
            integers = quantize(_floats(value), encoding)
        if has_bias_type and self.shift is not None and value is node.inputs[1]:
            self._shift_bias(node, self.shift(node, integers, encoding))
        self.written.weights[node] = integers, encoding
        self._replace(node, value, self._stored(node, value, encoding, integers))
        if has_bias_type and self._bias_of(node) is not None:
            self._bias(node, encoding)

    def _bias_of(self, node: Node) -> npt.NDArray[np.float32] | None:
        bias = node.input(2) if node.op_type != "MatMul" else None
        return None if bias is None or bias.constant is None else _floats(bias).reshape(-1)

    def _input_scale(self, node: Node) -> float:
        x = node.inputs[0]
        assert x is not None
        return float(self.encodings[x].scale)

    def _bias_fits(self, node: Node, encoding: QuantEncoding) -> bool:
        """Whether the scales that were chosen let the bias fit into 32 bits."""
        bias, x = self._bias_of(node), node.inputs[0]
        if bias is None or x not in self.encodings:
            return True
        return np.array_equal(encoding_for_bias(encoding, bias, self._input_scale(node)).scale, encoding.scale)

    def _shift_bias(self, node: Node, shift: npt.NDArray[Any] | None) -> None:
        if shift is None:
            return
        bias = self._bias_of(node)
        total = (shift if bias is None else bias + shift).astype(np.float32)
        name = f"{node.name}_bias" if bias is None else getattr(node.inputs[2], "name", "bias")
        node.inputs = [*node.inputs[:2], self.editor.constant(name, total)]

    def weight_axis(self, node: Node, value: Value) -> int | None:
        """The axis along which the weights of a product have a scale each; None for one scale."""
        if not self.weights.per_channel or value is not node.inputs[1] or value.constant is None:
            return None
        if node.op_type == "MatMul":
            return 1 if len(value.constant.shape) == 2 else None
        if node.op_type == "ConvTranspose" and int(node.attr("group", 1)) > 1:
            return None
        return channel_axis(node)

    def _bias(self, node: Node, encoding: QuantEncoding) -> None:
        bias, x = node.inputs[2], node.inputs[0]
        assert bias is not None and x is not None
        channels = encoding.scale.size if encoding.scale.ndim else 1
        array = _floats(bias).reshape(-1)
        if array.size == 1 and channels > 1:
            array = np.repeat(array, channels)
        steps, scales = quantize_bias(array, float(self.encodings[x].scale), encoding.scale)
        stored = self.editor.constant(f"{bias.name}_quantized", steps)
        scale = self.editor.constant(f"{bias.name}_quantized_scale", scales)
        node.inputs[2] = self._dequantized(node, bias, stored, scale, None, 0 if scales.ndim else None)

    def _activation_type(self, node: Node) -> Any:
        return next(iter(self.encodings.values())).dtype

    def _stored(
        self, node: Node, value: Value, encoding: QuantEncoding, integers: npt.NDArray[Any] | None = None
    ) -> Value:
        """What dequantizes a constant; one of a constant that several nodes read alike."""
        key = (value, encoding.axis, encoding.scale.tobytes(), None if integers is None else integers.tobytes())
        if (shared := self.stored.get(key)) is not None:
            return shared
        array = quantize(_floats(value), encoding) if integers is None else integers
        stored = self.editor.constant(f"{value.name}_quantized", Tensor.from_numpy(np.asarray(array, order="C")))
        scale = self.editor.constant(f"{value.name}_scale", encoding.scale)
        zero = self.editor.constant(f"{value.name}_zero_point", encoding.zero_point)
        result = self._dequantized(node, value, stored, scale, zero, encoding.axis)
        self.stored[key] = result
        return result

    def _dequantized(
        self, node: Node, value: Value, stored: Value, scale: Value, zero: Value | None, axis: int | None
    ) -> Value:
        result = self.editor.value(f"{value.name}_DequantizeLinear_Output", value.type)
        inputs = [stored, scale] if zero is None else [stored, scale, zero]
        attributes = {} if axis is None else {"axis": Attribute(AttributeKind.INT, axis)}
        made = self.editor.node(
            "DequantizeLinear", inputs, [result], name=f"{value.name}_DequantizeLinear", attributes=attributes
        )
        self.before.setdefault(node, []).append(made)
        return result

    def _replace(self, node: Node, old: Value, new: Value) -> None:
        node.inputs = [new if value is old else value for value in node.inputs]


def _floats(value: Value) -> npt.NDArray[np.float32]:
    assert value.constant is not None
    return value.constant.numpy()


def _saturates(activation: Node, encoding: QuantEncoding) -> bool:
    """Whether every number beyond the bounds of a Relu or Clip becomes the same integer as the bound anyway."""
    if activation.op_type == "Relu":
        least, most = np.float32(0), np.float32(np.inf)
    else:
        bounds = [activation.input(1), activation.input(2)]
        least, most = (
            np.float32(default) if bound is None or bound.constant is None else bound.constant.numpy().reshape(-1)[0]
            for bound, default in zip(bounds, (-np.inf, np.inf), strict=True)
        )
    steps = quantize_steps(np.array([least, most], np.float32), encoding)
    return (int(steps[0]), int(steps[1])) == limits(encoding.dtype)

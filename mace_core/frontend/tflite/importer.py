"""Building a Graph from the description of a .tflite file."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.scope import Frame, Names
from mace_core.frontend.tflite.buffers import Constants
from mace_core.frontend.tflite.description import FileModel, FileOperator, FileSubgraph, FileTensor
from mace_core.frontend.tflite.operation import INTEGERS, Operation
from mace_core.frontend.tflite.registry import find_converter
from mace_core.frontend.tflite.types import dtype_of, is_handle, type_of
from mace_core.graph import Graph, Value
from mace_core.tensor import DType, Tensor, TensorType

OPSET = 21
"""Of the default domain, that imported graphs are written for."""

CUSTOM_DOMAIN = "tflite"
"""Of custom operators that applications register."""


class Importer:
    """Builds the Graph of one file."""

    def __init__(self, model: FileModel, constants: Constants, label: str) -> None:
        self.model = model
        self.constants = constants
        self.label = label
        self.names = Names()
        self._domains = {"": OPSET}

    def build(self) -> Graph:
        """The graph of the main subgraph.

        Raises:
            ModelError: if the model is not valid.
            UnsupportedModelError: if it has an operator that is not imported.
        """
        file = self.model.subgraphs[0]
        graph = Graph(file.name or "main")
        place = Place(self, file, graph, None)
        for number in file.inputs:
            place.add_input(file.tensors[number])
        place.fill()
        for number in file.outputs:
            graph.outputs.append(place.output(file.tensors[number]))
        graph.opset_imports = dict(self._domains)
        graph.doc_string = self.model.description
        return graph

    def use_domain(self, domain: str) -> None:
        """A node of this domain was added."""
        self._domains.setdefault(domain, 1)


class Place:
    """One subgraph on its way into a graph.

    Attributes:
        root: of the whole file.
        graph: what is filled.
        names: of the whole model.
        label: the model in messages.
    """

    def __init__(self, root: Importer, file: FileSubgraph, graph: Graph, outer: Place | None) -> None:
        self.root = root
        self.file = file
        self.graph = graph
        self.names = root.names
        self.label = root.label
        self.outer = outer
        self._frame: Frame = Frame(graph, None if outer is None else outer._frame)
        self._values: dict[int, Value] = {}
        self._reals: dict[int, Value] = {}
        self._encodings: dict[int, tuple[Value, Value, dict[str, Any]]] = {}

    def fill(self) -> None:
        """Append the nodes of all operators."""
        for operator in self.file.operators:
            self._add(operator)

    def _add(self, operator: FileOperator) -> None:
        prefix = "" if self.file.index == 0 else f"{self.file.name or f'subgraph_{self.file.index}'}/"
        name = self.names.node(f"{prefix}{operator.label}_{operator.index}", of_file=False)
        where = f"{self.label}: node '{name}' ({operator.label})"
        found = find_converter(
            operator.label, is_custom=bool(operator.custom), is_quantized=self._is_quantized(operator, where)
        )
        if found is None:
            raise UnsupportedModelError(f"{where} is an operator that is not supported")
        found.convert(Operation(operator, name, self, found.options))
        for number in operator.outputs:
            if number >= 0 and number not in self._values and not is_handle(self.file.tensors[number]):
                raise AssertionError(f"the converter of {operator.label} left out output {number}")

    def _is_quantized(self, operator: FileOperator, where: str) -> bool:
        for numbers in (operator.outputs[:1], operator.inputs[:1]):
            for number in numbers:
                if number >= 0 and self.file.tensors[number].quantization is not None:
                    return dtype_of(self.file.tensors[number], where) in INTEGERS
        return False

    # --- tensors -------------------------------------------------------------------------------------------------

    def tensor(self, number: int) -> FileTensor:
        """The description of a tensor."""
        return self.file.tensors[number]

    def add_input(self, tensor: FileTensor, name: str | None = None) -> Value:
        """Make a tensor an input of the graph."""
        if tensor.index in self._values:
            raise ModelError(f"{self.label}: tensor '{tensor.name}' is an input twice")
        value = self._named(tensor, name)
        self.graph.inputs.append(value)
        return value

    def define(self, tensor: FileTensor, value: Value, where: str) -> None:
        """Say that ``value``, which a node of this graph makes, is a tensor."""
        if tensor.index in self._values:
            raise ModelError(f"{where} computes tensor '{tensor.name}', which has a value already")
        value.name = self.names.value(self._wanted(tensor), self._frame, of_file=True)
        value.type = type_of(tensor, where)
        self._values[tensor.index] = value

    def bind(self, tensor: FileTensor, value: Value) -> None:
        """Say that a value of a graph around this one is a tensor."""
        self._values[tensor.index] = value

    def value(self, tensor: FileTensor, op: Operation) -> Value:
        """What a tensor is here, as the file stores it.

        Raises:
            ModelError: if nothing computes it.
        """
        found = self._values.get(tensor.index)
        return found if found is not None else self._constant(tensor, op.where)

    def real(self, tensor: FileTensor, op: Operation) -> Value:
        """What a tensor is here, as real numbers."""
        if not op.is_quantized(tensor):
            return self.value(tensor, op)
        found = self._reals.get(tensor.index)
        if found is None:
            stored = self.value(tensor, op)
            scale, zero, attributes = self.encoding(tensor, op)
            found = op.emit("DequantizeLinear", [stored, scale, zero], attributes)
            self._reals[tensor.index] = found
        return found

    def output(self, tensor: FileTensor) -> Value:
        """What an output of the subgraph is.

        Raises:
            ModelError: if nothing computes it.
        """
        found = self._values.get(tensor.index)
        return found if found is not None else self._constant(tensor, f"{self.label}: the graph's output")

    def encoding(self, tensor: FileTensor, op: Operation) -> tuple[Value, Value, dict[str, Any]]:
        """See `Operation.encoding`."""
        found = self._encodings.get(tensor.index)
        if found is not None:
            return found
        quantization = tensor.quantization
        assert quantization is not None
        dtype = dtype_of(tensor, op.where)
        scales, zeros = quantization.scale, quantization.zero_point
        attributes: dict[str, Any] = {}
        if scales.size == 1:
            scales, zeros = scales.reshape(()), zeros.reshape(())
        else:
            axis = quantization.axis
            if not 0 <= axis < len(tensor.shape) or tensor.shape[axis] != scales.size:
                raise op.error(
                    f"has tensor '{tensor.name}' of shape {list(tensor.shape)} with {scales.size} scales along axis "
                    f"{axis}, which do not fit it"
                )
            attributes["axis"] = axis
        info = np.iinfo(dtype.numpy) if not dtype.is_packed else None
        if info is not None and zeros.size and (zeros.min() < info.min or zeros.max() > info.max):
            raise op.error(f"has tensor '{tensor.name}' with a zero point that {dtype.label} cannot hold")
        made = (op.number(scales, np.float32), op.number(zeros, dtype.numpy), attributes)
        self._encodings[tensor.index] = made
        return made

    def made(self, wanted: str) -> Value:
        """A new value with a name of its own."""
        return Value(self.names.value(wanted, self._frame, of_file=False))

    def _constant(self, tensor: FileTensor, where: str) -> Value:
        what = f"tensor '{tensor.name}' (number {tensor.index})"
        constant = self.root.constants.of(tensor, what)
        if constant is None and not is_handle(tensor) and 0 in tensor.shape:
            dtype = dtype_of(tensor, where)
            constant = Tensor(dtype, tensor.shape, np.zeros(0, object if dtype is DType.STRING else np.uint8))
        if constant is None:
            raise ModelError(f"{where} reads {what}, which nothing in the model computes")
        value = self._named(tensor, None)
        value.constant, value.type = constant, TensorType(constant.dtype, constant.shape)
        self.graph.initializers[value.name] = value
        return value

    def _named(self, tensor: FileTensor, name: str | None) -> Value:
        wanted = name or self._wanted(tensor)
        value = Value(
            self.names.value(wanted, self._frame, of_file=True),
            type_of(tensor, f"{self.label}: tensor '{tensor.name}'"),
        )
        self._values[tensor.index] = value
        return value

    def _wanted(self, tensor: FileTensor) -> str:
        return tensor.name or f"tensor_{tensor.index}"

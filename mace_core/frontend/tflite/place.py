"""A subgraph of a .tflite file on its way into a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.errors import MaceError, ModelError, UnsupportedModelError
from mace_core.frontend.scope import Frame
from mace_core.frontend.tflite.custom import convert_custom
from mace_core.frontend.tflite.description import FileOperator, FileQuantization, FileSubgraph, FileTensor
from mace_core.frontend.tflite.operation import INTEGERS, Operation
from mace_core.frontend.tflite.origins import origin_of
from mace_core.frontend.tflite.registry import find_converter
from mace_core.frontend.tflite.types import dtype_of, is_handle, type_of
from mace_core.graph import Graph, Value
from mace_core.tensor import DType, Tensor, TensorType

if TYPE_CHECKING:
    from mace_core.frontend.tflite.hybrid import Rows
    from mace_core.frontend.tflite.importer import Importer
    from mace_core.frontend.tflite.variables import Variable

MAX_DEPTH = 50
"""Subgraphs inside each other."""

_NONSENSE = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, AssertionError)
"""What a converter raises where a file says what no converter wrote."""


class Place:
    """One subgraph that is being read, and the graph that its nodes go to.

    Attributes:
        root: of the whole file.
        file: the subgraph.
        graph: what is filled.
        outer: where this subgraph is called from; None for the outermost.
        frame: the names taken in the graph.
        state: what variables hold, where that was changed in this graph, by key.
        handles: keys of variables, by the numbers of the tensors that stand for them.
        rows: activations that were stored in bytes, by what they were and the axes that share a step.
        is_initializing: it runs before the model does, and gives variables their first content.
    """

    def __init__(
        self,
        root: Importer,
        file: FileSubgraph,
        graph: Graph,
        outer: Place | None,
        frame: Frame,
        *,
        is_initializing: bool = False,
    ) -> None:
        self.root = root
        self.file = file
        self.graph = graph
        self.outer = outer
        self.frame = frame
        self.names = root.names
        self.label = root.label
        self.is_initializing = is_initializing
        self.state: dict[str, Value] = {}
        self.handles: dict[int, str] = {}
        self.rows: dict[tuple[Value, tuple[int, ...], str], Rows] = {}
        self._values: dict[int, Value] = {}
        self._reals: dict[int, Value] = {}
        self._encodings: dict[int, tuple[Value, Value, dict[str, Any]]] = {}
        self._reserved: dict[int, str] = {}

    def fill(self) -> None:
        """Append the nodes of all operators."""
        for operator in self.file.operators:
            self._add(operator)

    def _add(self, operator: FileOperator) -> None:
        self.root.count_operator()
        prefix = "" if self.outer is None else f"{self.file.name or f'subgraph_{self.file.index}'}/"
        name = self.names.node(f"{prefix}{operator.label}_{operator.index}", of_file=False)
        self.root.origins[name] = origin_of(self.file, operator)
        where = f"{self.label}: node '{name}' ({operator.label})"
        found = find_converter(
            operator.label, is_custom=bool(operator.custom), integers=self._integers(operator, where)
        )
        try:
            if found is not None:
                found.convert(Operation(operator, name, self, found.options))
            else:
                convert_custom(Operation(operator, name, self, ""))
        except MaceError:
            raise
        except _NONSENSE as error:
            raise ModelError(f"{where} has inputs, outputs or options that do not fit each other") from error
        for number in operator.outputs:
            if number >= 0 and number not in self._values and not is_handle(self.file.tensors[number]):
                raise ModelError(f"{where} has {len(operator.outputs)} outputs, more than the operator gives")

    def _integers(self, operator: FileOperator, where: str) -> DType | None:
        """The element type of an operator's first quantized tensor; None where none is quantized."""
        for numbers in (operator.outputs[:1], operator.inputs[:1]):
            for number in numbers:
                if number >= 0 and self.file.tensors[number].quantization is not None:
                    dtype = dtype_of(self.file.tensors[number], where)
                    return dtype if dtype in INTEGERS else None
        return None

    # --- subgraphs -----------------------------------------------------------------------------------------------

    @property
    def outermost(self) -> Place:
        """The place of the model's own graph, or of what initializes it."""
        place = self
        while place.outer is not None:
            place = place.outer
        return place

    def subgraph(self, index: int, op: Operation) -> FileSubgraph:
        """A subgraph that an operator here calls.

        Raises:
            ModelError: if there is none, or it is one of those that lead here.
        """
        if not 0 <= index < len(self.root.model.subgraphs):
            raise op.error(f"calls subgraph {index}, and there are {len(self.root.model.subgraphs)}")
        place: Place | None = self
        depth = 0
        while place is not None:
            if place.file.index == index:
                raise op.error(f"calls subgraph {index}, which it is part of: that would never end")
            place, depth = place.outer, depth + 1
        if depth > MAX_DEPTH:
            raise UnsupportedModelError(f"{op.where} is inside {depth} subgraphs; at most {MAX_DEPTH} are supported")
        return self.root.model.subgraphs[index]

    def nested(self, index: int, op: Operation) -> Place:
        """A subgraph as a graph of its own, inside this one."""
        file = self.subgraph(index, op)
        graph = Graph(self.names.node(f"{op.name}/{file.name or index}", of_file=False))
        return Place(self.root, file, graph, self, Frame(graph, self.frame))

    def inlined(self, index: int, op: Operation) -> Place:
        """A subgraph whose nodes go into this graph."""
        place = Place(self.root, self.subgraph(index, op), self.graph, self, self.frame)
        place.state = self.state
        return place

    def expect(self, inputs: int, op: Operation) -> None:
        """
        Raises:
            ModelError: if the subgraph does not take so many inputs.
        """
        if len(self.file.inputs) != inputs:
            raise op.error(f"gives {inputs} inputs to subgraph {self.file.index}, which takes {len(self.file.inputs)}")

    # --- tensors -------------------------------------------------------------------------------------------------

    def tensor(self, number: int) -> FileTensor:
        """The description of a tensor."""
        return self.file.tensors[number]

    def reserve(self, number: int, name: str) -> None:
        """Keep a name, which is taken already, for a tensor."""
        if number not in self._values:
            self._reserved.setdefault(number, name)

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
        value.type = type_of(tensor, where)
        value.name = self._name(tensor)
        self._values[tensor.index] = value

    def bind(self, tensor: FileTensor, value: Value) -> None:
        """Say that a value of this graph, or of one around it, is a tensor."""
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
        if quantization.block_size:
            made = self._blocks(tensor, quantization, dtype, op)
            self._encodings[tensor.index] = made
            return made
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

    def _blocks(
        self, tensor: FileTensor, quantization: FileQuantization, dtype: DType, op: Operation
    ) -> tuple[Value, Value, dict[str, Any]]:
        """Scales that hold for blocks along the last axis; they are in a tensor of their own."""
        held = []
        for number in (quantization.scale_tensor, quantization.zero_point_tensor):
            if not -1 <= number < len(self.file.tensors):
                raise op.error(f"has tensor '{tensor.name}', whose scales are in tensor {number}, which is not there")
            content = None if number < 0 else self.value(self.file.tensors[number], op).constant
            held.append(None if content is None else content.numpy())
        scales, zeros = held
        if scales is None:
            raise op.unsupported(f"has tensor '{tensor.name}' with scales that the model computes")
        shape = [*tensor.shape[:-1], -(-tensor.shape[-1] // quantization.block_size)] if tensor.shape else []
        if scales.size != math.prod(shape) or (zeros is not None and zeros.size != scales.size):
            raise op.error(
                f"has tensor '{tensor.name}' of shape {list(tensor.shape)} with {scales.size} scales of blocks"
            )
        zeros = np.zeros(shape, dtype.numpy) if zeros is None else zeros.reshape(shape)
        attributes = {"axis": len(shape) - 1, "block_size": quantization.block_size}
        return op.number(scales.reshape(shape), np.float32), op.number(zeros, dtype.numpy), attributes

    def made(self, wanted: str) -> Value:
        """A new value with a name of its own."""
        return Value(self.names.value(wanted, self.frame, of_file=False))

    # --- variables -----------------------------------------------------------------------------------------------

    def handle(self, number: int, op: Operation) -> str:
        """The key of the variable that a tensor stands for.

        Raises:
            ModelError: if it stands for none.
        """
        found = self.handles.get(number)
        if found is None:
            raise op.error(f"reads the handle '{self.tensor(number).name}', which is of no variable")
        return found

    def current(self, key: str, op: Operation) -> Value:
        """What a variable holds now."""
        place: Place | None = self
        while place is not None:
            if key in place.state:
                return place.state[key]
            place = place.outer
        return self.outermost.begin(self.root.variables.at(key), op)

    def begin(self, variable: Variable, op: Operation) -> Value:
        """What a variable holds when the run begins: an input.

        Raises:
            UnsupportedModelError: while the model is initialized: nothing was written to it yet.
        """
        if self.is_initializing:
            raise op.unsupported(f"reads the variable '{variable.name}' before anything is written to it")
        if variable.type is None:
            raise op.unsupported(f"uses the variable '{variable.name}', of which the file says no type")
        variable.source = Value(self.names.value(variable.name, self.frame, of_file=True), variable.type)
        self.state[variable.key] = variable.source
        return variable.source

    def change(self, key: str, value: Value, op: Operation) -> None:
        """Let a variable hold a value from here on."""
        variable = self.root.variables.at(key)
        if self.outermost.is_initializing:
            if value.constant is None:
                raise op.unsupported(f"computes the first content of the variable '{variable.name}'")
            variable.start = value.constant
        else:
            before = self.current(key, op)  # makes it an input
            value.type = value.type or before.type
        self.state[key] = value

    def changed_keys(self, subgraphs: Iterable[int], op: Operation) -> list[str]:
        """The variables that may be changed in these subgraphs and those that they call: all, if any is."""
        return self.root.variables.all_keys() if self.root.variables.are_changed_in(subgraphs) else []

    # --- private -------------------------------------------------------------------------------------------------

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
        wanted = self._name(tensor) if name is None else self.names.value(name, self.frame, of_file=True)
        value = Value(wanted, type_of(tensor, f"{self.label}: tensor '{tensor.name}'"))
        self._values[tensor.index] = value
        return value

    def _name(self, tensor: FileTensor) -> str:
        reserved = self._reserved.pop(tensor.index, None)
        if reserved is not None:
            return reserved
        return self.names.value(tensor.name or f"tensor_{tensor.index}", self.frame, of_file=True)

"""One operator of a .tflite file, as the function that converts it sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.tflite.bindings import small_bindings
from mace_core.frontend.tflite.description import FileOperator, FileTensor
from mace_core.frontend.tflite.reader import DAMAGE
from mace_core.frontend.tflite.types import Sizes, dtype_of, shape_of
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType

if TYPE_CHECKING:
    from mace_core.frontend.tflite.place import Place

_EMPTY_TABLE = b"\x04\x00\x04\x00\x04\x00\x00\x00"
"""A table without fields: its vtable, then the distance back to it.  Every accessor gives the schema's default."""

INTEGERS = (DType.INT8, DType.UINT8, DType.INT16, DType.INT4, DType.UINT4, DType.INT2, DType.INT32)
"""Element types that quantized tensors have; int32 is that of biases."""


class Operation:
    """One operator: what it reads, its options, and the nodes that stand for it.

    A tensor has up to two forms.  `stored` is what the file holds: integers, where it is quantized.  `real` is what
    they stand for: where the tensor is quantized, a DequantizeLinear of it.  `keep` gives an output in the stored form,
    `finish` in the real one, with a QuantizeLinear behind it where the output is quantized.

    Attributes:
        file: the operator in the file.
        name: unique in the model.
        place: the graph that nodes go to, and what tensors mean there.
    """

    def __init__(self, file: FileOperator, name: str, place: Place, options: str) -> None:
        self.file = file
        self.name = name
        self.place = place
        self._options = self._table(options)
        self._fresh: set[Value] = set()

    def within(self, place: Place) -> Operation:
        """The same operator, whose nodes go to another place: a subgraph that it calls."""
        return Operation(self.file, self.name, place, "")

    # --- what it reads --------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """The number of inputs, left out ones included."""
        return len(self.file.inputs)

    def has(self, index: int) -> bool:
        """Whether there is an input at ``index``."""
        return index < len(self.file.inputs) and self.file.inputs[index] >= 0

    def tensor(self, index: int) -> FileTensor:
        """The tensor of an input.

        Raises:
            ModelError: if it is left out.
        """
        if not self.has(index):
            raise self.error(f"lacks input {index}")
        return self.place.tensor(self.file.inputs[index])

    def result(self, index: int = 0) -> FileTensor:
        """The tensor of an output.

        Raises:
            ModelError: if it is left out.
        """
        if index >= len(self.file.outputs) or self.file.outputs[index] < 0:
            raise self.error(f"lacks output {index}")
        return self.place.tensor(self.file.outputs[index])

    def stored(self, index: int) -> Value:
        """The value of an input as the file has it."""
        return self.place.value(self.tensor(index), self)

    def real(self, index: int) -> Value:
        """The value of an input as real numbers (of tensors that are not quantized, what `stored` gives)."""
        return self.place.real(self.tensor(index), self)

    def weights(self, index: int, order: Sequence[int] | None) -> Value:
        """An input as real numbers with its axes in another order (None: as they are).

        The axes are moved before the numbers are dequantized, so that constants stay small once they are moved.
        """
        if order is None:
            return self.real(index)
        tensor = self.tensor(index)
        moved = self.emit("Transpose", [self.stored(index)], {"perm": list(order)})
        if not self.is_quantized(tensor):
            return moved
        scale, zero, attributes = self.encoding(tensor)
        if "block_size" in attributes:  # its scales have axes, too
            return self.emit("Transpose", [self.real(index)], {"perm": list(order)})
        if "axis" in attributes:
            attributes = {**attributes, "axis": list(order).index(attributes["axis"])}
        return self.emit("DequantizeLinear", [moved, scale, zero], attributes)

    def shape(self, index: int) -> Sizes:
        """The shape of an input: None for sizes that may change.

        Raises:
            UnsupportedModelError: if even the rank is not known.
        """
        return self._shape(self.tensor(index))

    def result_shape(self, index: int = 0) -> Sizes:
        """The shape of an output, as `shape`."""
        return self._shape(self.result(index))

    def rank(self, index: int) -> int:
        """The number of dimensions of an input."""
        return len(self.shape(index))

    def dtype(self, index: int) -> DType:
        """The element type of an input as the file has it."""
        return dtype_of(self.tensor(index), self.where)

    def result_dtype(self, index: int = 0) -> DType:
        """The element type of an output as the file has it."""
        return dtype_of(self.result(index), self.where)

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """The values of an input (as the file has them), where they are constant; None where they are not."""
        value = self.stored(index)
        return None if value.constant is None else value.constant.numpy()

    def whole(self, index: int, what: str) -> list[int]:
        """The values of an input that must be constant whole numbers; ``what`` names it in the message.

        Raises:
            UnsupportedModelError: if they are computed.
        """
        found = self.constant(index)
        if found is None:
            raise UnsupportedModelError(f"{self.where}: {what} is computed by the model, which is not supported")
        if found.dtype.kind not in "iu":
            raise self.error(f"has {found.dtype} numbers for {what}, not whole ones")
        return [int(number) for number in found.reshape(-1)]

    def is_quantized(self, tensor: FileTensor) -> bool:
        """Whether a tensor holds integers that stand for real numbers."""
        return tensor.quantization is not None and dtype_of(tensor, self.where) in INTEGERS

    def is_alike(self, one: FileTensor, other: FileTensor) -> bool:
        """Whether the stored numbers of two tensors mean the same: neither is quantized, or both in the same way."""
        if not self.is_quantized(one) or not self.is_quantized(other):
            return self.is_quantized(one) == self.is_quantized(other)
        a, b = one.quantization, other.quantization
        assert a is not None and b is not None
        return (
            one.type == other.type
            and a.scale.size == b.scale.size == 1
            and bool(a.scale[0] == b.scale[0] and a.zero_point[0] == b.zero_point[0])
        )

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front.

        Raises:
            ModelError: if there is none of that number.
        """
        if not -rank <= axis < rank:
            raise self.error(f"has axis {axis} of {rank}")
        return axis + rank if axis < 0 else axis

    # --- options --------------------------------------------------------------------------------------------------

    def option(self, name: str) -> Any:
        """A number of the table of options, by the name of its accessor (``StrideW``).

        Raises:
            ModelError: if the file is damaged there.
        """
        try:
            return getattr(self._options, name)()
        except DAMAGE as error:
            raise self.error("has damaged options") from error

    def option_list(self, name: str) -> list[int]:
        """Whole numbers of a list of the table of options; [] where there is none."""
        try:
            if getattr(self._options, f"{name}Length")() == 0:
                return []
            return [int(number) for number in getattr(self._options, f"{name}AsNumpy")()]
        except DAMAGE as error:
            raise self.error("has damaged options") from error

    def float_list(self, name: str) -> list[float]:
        """Floats of a list of the table of options; [] where there is none."""
        try:
            if getattr(self._options, f"{name}Length")() == 0:
                return []
            return [float(number) for number in getattr(self._options, f"{name}AsNumpy")()]
        except DAMAGE as error:
            raise self.error("has damaged options") from error

    def _table(self, name: str) -> Any:
        file = self.file
        if not name:
            return None
        if file.options is not None and file.options_type == name:
            return file.options
        if file.options is not None or file.options_type:
            raise self.error(f"has options {file.options_type}, not {name}")
        table = small_bindings().of(name)()
        table.Init(_EMPTY_TABLE, 4)
        return table

    # --- nodes ----------------------------------------------------------------------------------------------------

    def emit(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> Value:
        """Append a node with one output.

        Attributes are plain values (whole numbers, floats, text, lists of whole numbers or floats, arrays, graphs).
        """
        return self.several(op_type, inputs, 1, attributes, domain=domain)[0]

    def several(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        count: int,
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> list[Value]:
        """Append a node with ``count`` outputs."""
        name = self.place.names.node(f"{self.name}/{op_type}", of_file=False)
        outputs = [self.place.made(name if count == 1 else f"{name}_{index}") for index in range(count)]
        made = {key: _attribute(value) for key, value in (attributes or {}).items()}
        self.place.graph.nodes.append(
            Node(op_type, inputs, outputs, name=name, domain=domain, attributes=made, source=(self.name,))
        )
        if domain:
            self.place.root.use_domain(domain)
        self._fresh.update(outputs)
        return outputs

    def number(self, content: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> Value:
        """A constant."""
        value = self.place.made(f"{self.name}/constant")
        value.constant = Tensor.from_numpy(np.asarray(content, dtype))
        value.type = TensorType(value.constant.dtype, value.constant.shape)
        self.place.graph.initializers[value.name] = value
        return value

    def like(self, content: npt.ArrayLike, index: int = 0) -> Value:
        """A constant of the element type of an input's real form."""
        dtype = DType.FLOAT32 if self.is_quantized(self.tensor(index)) else self.dtype(index)
        return self.number(content, dtype.numpy)

    def cast(self, value: Value, dtype: DType) -> Value:
        """A value as another element type."""
        return self.emit("Cast", [value], {"to": dtype.value})

    def sizes(self, index: int) -> Value:
        """An input that holds sizes, axes or places, as int64: a constant where it is one."""
        content = self.constant(index)
        if content is not None:
            return self.number(content)
        return self.stored(index) if self.dtype(index) is DType.INT64 else self.cast(self.stored(index), DType.INT64)

    def size(self, number: int) -> Value:
        """A size as a list of one."""
        return self.number([number])

    def dims(self, value: Value, rank: int) -> list[Value]:
        """The sizes of a value, each a list of one."""
        whole = self.emit("Shape", [value])
        return [
            self.emit("Slice", [whole, self.number([axis]), self.number([axis + 1]), self.number([0])])
            for axis in range(rank)
        ]

    def joined(self, sizes: Sequence[Value]) -> Value:
        """Lists of sizes as one."""
        return self.emit("Concat", sizes, {"axis": 0})

    def product(self, size: Value, factor: int) -> Value:
        """A size times a number."""
        return self.emit("Mul", [size, self.size(factor)])

    def quotient(self, size: Value, factor: int) -> Value:
        """A size divided by a number."""
        return self.emit("Div", [size, self.size(factor)])

    def index_numbers(self, value: Value, dtype: DType) -> Value:
        """Indices in an element type that ONNX's operators take."""
        return value if dtype in (DType.INT32, DType.INT64) else self.cast(value, DType.INT32)

    # --- what it gives --------------------------------------------------------------------------------------------

    def finish(self, value: Value, index: int = 0) -> None:
        """Give an output as real numbers: quantized here, where the file quantizes it."""
        tensor = self.result(index)
        if self.is_quantized(tensor):
            scale, zero, attributes = self.encoding(tensor)
            value = self.emit("QuantizeLinear", [value, scale, zero], attributes)
        self.keep(value, index)

    def keep(self, value: Value, index: int = 0) -> None:
        """Give an output as the file has it."""
        if value not in self._fresh:
            value = self.emit("Identity", [value])
        self._fresh.discard(value)
        self.place.define(self.result(index), value, self.where)

    def encoding(self, tensor: FileTensor) -> tuple[Value, Value, dict[str, Any]]:
        """Scale, zero point and attributes of the QuantizeLinear or DequantizeLinear of a tensor.

        Raises:
            ModelError: if the tensor has no such axis, or not as many scales as indices along it.
        """
        return self.place.encoding(tensor, self)

    def activated(self, value: Value, function: int) -> Value:
        """What a fused activation makes of a value; ``function`` is the schema's ActivationFunctionType."""
        match function:
            case 0:
                return value
            case 1:
                return self.emit("Relu", [value])
            case 2:
                return self.emit("Clip", [value, self.number(-1, np.float32), self.number(1, np.float32)])
            case 3:
                return self.emit("Clip", [value, self.number(0, np.float32), self.number(6, np.float32)])
            case 4:
                return self.emit("Tanh", [value])
            case _:
                raise UnsupportedModelError(f"{self.where}: its activation (number {function}) is not supported")

    def to_channels_first(self, value: Value, rank: int = 4) -> Value:
        """(N, ..., C) as (N, C, ...)."""
        return self.emit("Transpose", [value], {"perm": [0, rank - 1, *range(1, rank - 1)]})

    def to_channels_last(self, value: Value, rank: int = 4) -> Value:
        """(N, C, ...) as (N, ..., C)."""
        return self.emit("Transpose", [value], {"perm": [0, *range(2, rank), 1]})

    # --- messages -------------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """The model and the operator, at the beginning of a message."""
        return f"{self.place.label}: node '{self.name}' ({self.file.label})"

    def error(self, problem: str) -> ModelError:
        """An error of the file at this operator."""
        return ModelError(f"{self.where} {problem}")

    def unsupported(self, problem: str) -> UnsupportedModelError:
        """What this version cannot do at this operator."""
        return UnsupportedModelError(f"{self.where} {problem}, which is not supported")

    def _shape(self, tensor: FileTensor) -> Sizes:
        found = shape_of(tensor)
        if found is None:
            raise UnsupportedModelError(f"{self.where}: the rank of tensor '{tensor.name}' is not known")
        return found


def _attribute(value: Any) -> Attribute:
    match value:
        case Attribute():
            return value
        case Graph():
            return Attribute(AttributeKind.GRAPH, value)
        case bool() | int() | np.integer():
            return Attribute(AttributeKind.INT, int(value))
        case float():
            return Attribute(AttributeKind.FLOAT, value)
        case str():
            return Attribute(AttributeKind.STRING, value)
        case np.ndarray():
            return Attribute(AttributeKind.TENSOR, Tensor.from_numpy(value))
        case _:
            items = tuple(value)
            if items and all(isinstance(item, float) for item in items):
                return Attribute(AttributeKind.FLOATS, items)
            if items and all(isinstance(item, str) for item in items):
                return Attribute(AttributeKind.STRINGS, items)
            return Attribute(AttributeKind.INTS, tuple(int(item) for item in items))

"""Where the values of a view are inside the network, and how one gets them in another order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_apu.description import Call, ChannelScales, Network, Operand, scalar_int
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import MAX_RANK, Order, laid, long_axes, natural
from mace_apu.lowering.types import BYTES, MOVES, PLAIN, QUANTIZED, TAKES
from mace_apu.neuron.constants import FIRST_VERSION, SINCE, ExtensionOperation, OperandCode, Operation
from mace_core.graph import GraphView, Node, Value, node_encoding
from mace_core.tensor import DType, QuantEncoding

Array = npt.NDArray[Any]

_INT32 = np.iinfo(np.int32)
_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Located:
    """A value inside the network."""

    operand: Operand
    order: Order


@dataclass(frozen=True, slots=True)
class State:
    """What a failed attempt goes back to."""

    calls: int
    inputs: int
    located: dict[Value, tuple[Located, ...]]
    materialized: dict[Node, tuple[Call, ...]]


class Values:
    """Operands by value, and the network that they are part of.

    Attributes:
        network: the operations so far.
        source: names of the model's nodes that operations are added for.
        located: computed values; the first place is where it was made.
        deferred: DequantizeLinear nodes by their results, emitted when somebody reads one.
        materialized: those that were, with their operations (none where the result is constant).
        is_half: whether float32 will be computed in float16.
    """

    def __init__(self, view: GraphView, version: tuple[int, int, int], *, float16: bool, claims_only: bool) -> None:
        self.view = view
        self.nodes = frozenset(view.nodes)
        self.network = Network()
        self.source: tuple[str, ...] = ()
        self.located: dict[Value, tuple[Located, ...]] = {}
        self.deferred: dict[Value, Node] = {}
        self.materialized: dict[Node, tuple[Call, ...]] = {}
        self._version = version
        self._claims_only = claims_only
        self.is_half = float16
        self._constants: dict[tuple[Value, Order], Operand] = {}

    def save(self) -> State:
        """The present state, for `restore`."""
        return State(len(self.network.calls), len(self.network.inputs), dict(self.located), dict(self.materialized))

    def restore(self, state: State) -> None:
        """Forget what was added since."""
        del self.network.calls[state.calls :], self.network.inputs[state.inputs :]
        self.located, self.materialized = state.located, state.materialized

    # --- what the model says ---------------------------------------------------------------------------------------

    def dtype(self, value: Value) -> DType:
        """The element type of a value."""
        found = self.view.tensor_type(value)
        if found is None:
            raise DeclinedError(f"the type of '{value.name}' is not known before the run")
        return found.dtype

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape of a value."""
        found = self.view.tensor_type(value)
        if found is None or not found.is_concrete:
            raise DeclinedError(f"the shape of '{value.name}' is not known before the run, Neuron needs it")
        shape = found.concrete_shape
        if 0 in shape:
            raise DeclinedError(f"'{value.name}' is empty; the APU does not take empty tensors")
        return shape

    def natural(self, value: Value) -> Order:
        """The order of a value's axes as they are."""
        shape = self.shape(value)
        order = natural(shape)
        if order is None:
            raise DeclinedError(f"'{value.name}' has {len(shape)} dimensions; Neuron takes up to {MAX_RANK}")
        return order

    def array(self, value: Value | None) -> Array | None:
        """The content of a value if it is constant, dequantized where it comes from constant DequantizeLinear."""
        if value is None:
            return None
        tensor = self.view.constant(value)
        if tensor is not None:
            found: Array = tensor.numpy()
            return found
        node = value.producer
        if node is None or node not in self.nodes or node.op_type != "DequantizeLinear" or node.domain:
            return None
        stored, encoding = self.view.constant(node.inputs[0]), node_encoding(self.view, node)
        if stored is None or encoding is None or encoding.block_size:
            return None
        self.materialized[node] = ()
        codes = stored.numpy()
        scale, zero = encoding.scale.reshape(-1), encoding.zero_point.reshape(-1)
        if encoding.axis is not None:
            along = [1] * codes.ndim
            along[encoding.axis] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        reals = (codes.astype(np.int64) - zero.astype(np.int64)) * scale.astype(np.float32)
        result: Array = reals.astype(self.dtype(value).numpy).reshape(codes.shape)
        return result

    # --- operands --------------------------------------------------------------------------------------------------

    def order_of(self, value: Value) -> Order:
        """The order in which a value is there; natural for constants."""
        return self.natural(value) if self.array(value) is not None else self.place(value).order

    def place(self, value: Value) -> Located:
        """Where a computed value was made."""
        if value not in self.located:
            if value in self.deferred:
                self._dequantize(value)
            elif self._claims_only:
                self.add_input(value)
            else:
                raise DeclinedError(f"'{value.name}' is neither an input nor computed on this device")
        return self.located[value][0]

    def tensor(self, value: Value, order: Order | None = None) -> Operand:
        """A value as an operand in ``order`` (natural by default), transposed where it is not there like that."""
        wanted = self.natural(value) if order is None else order
        constant = self.array(value)
        if constant is not None:
            key = (value, wanted)
            if key not in self._constants:
                self._constants[key] = self.constant(arranged(constant, wanted), value.name)
            return self._constants[key]
        made = self.place(value)
        for place in self.located[value]:
            if place.order == wanted:
                return place.operand
        found = self._rearranged(made, self.shape(value), wanted, value.name)
        self.located[value] = (*self.located[value], Located(found, wanted))
        return found

    def define(self, value: Value, operand: Operand, order: Order) -> None:
        """Say that ``operand`` holds ``value``."""
        self.located[value] = (Located(operand, order),)

    def constant(self, array: Array, name: str) -> Operand:
        """A constant of numbers that stand for themselves."""
        if array.dtype == np.int64:
            if array.size and (array.min() < _INT32.min or array.max() > _INT32.max):
                raise DeclinedError(f"'{name}' holds 64-bit integers beyond 32 bits, which Neuron does not have")
            array = array.astype(np.int32)
        dtype = DType.from_numpy(array.dtype)
        if dtype in QUANTIZED:
            data = np.ascontiguousarray(array.reshape(array.shape or (1,)))
            return Operand(name, QUANTIZED[dtype], data.shape, 1.0, 0, data=data)
        code = PLAIN.get(dtype)
        if code is None:
            raise DeclinedError(f"'{name}' is {array.dtype}, which Neuron does not have")
        if self.is_half and array.dtype == np.float32 and (np.isfinite(array) & (np.abs(array) > _HALF)).any():
            raise DeclinedError(f"'{name}' holds numbers beyond the range of float16; compute in float32 on the CPU")
        data = np.ascontiguousarray(array.reshape(array.shape or (1,)))
        return Operand(name, code, data.shape, data=data)

    def quantized_constant(self, codes: Array, name: str, encoding: QuantEncoding) -> Operand:
        """A constant quantized per tensor."""
        code = QUANTIZED.get(DType.from_numpy(codes.dtype))
        if code is None or encoding.axis is not None or encoding.scale.size != 1:
            raise DeclinedError(f"'{name}' is quantized per channel or as {codes.dtype}, which Neuron takes for "
                                "weights of convolutions only")  # fmt: skip
        data = np.ascontiguousarray(codes.reshape(codes.shape or (1,)))
        scale, zero = scale_and_zero(encoding)
        return Operand(name, code, data.shape, scale, zero, data=data)

    def new_operand(self, value: Value, order: Order, encoding: QuantEncoding | None = None) -> Operand:
        """An operand that is to hold a computed ``value``."""
        dtype = self.dtype(value)
        shape = laid(self.shape(value), order)
        if len(shape) > MAX_RANK:
            raise DeclinedError(f"'{value.name}' has {len(shape)} dimensions; Neuron takes up to {MAX_RANK}")
        if encoding is None and dtype in QUANTIZED:  # bytes that stand for themselves
            return Operand(value.name, QUANTIZED[dtype], shape, 1.0, 0)
        code = PLAIN.get(dtype) if encoding is None else QUANTIZED.get(dtype)
        if code is None:
            how = "as plain numbers" if encoding is None else "as quantized numbers"
            raise DeclinedError(f"'{value.name}' is {dtype.label}, which Neuron does not have {how}")
        scale, zero = (0.0, 0) if encoding is None else scale_and_zero(encoding)
        return Operand(value.name, code, shape, scale, zero)

    def like(self, source: Operand, name: str, shape: Sequence[int]) -> Operand:
        """An intermediate of the type and encoding of ``source``."""
        return Operand(name, source.code, tuple(shape) or (1,), source.scale, source.zero_point)

    def add_input(self, value: Value) -> None:
        """A value that is computed elsewhere."""
        encoding = self.view.encoding(value)
        order = self.natural(value)
        operand = self.new_operand(value, order, encoding if self.dtype(value) in QUANTIZED else None)
        if encoding is not None and encoding.axis is not None:
            raise DeclinedError(f"'{value.name}' is quantized per channel, which Neuron takes for weights only")
        self.network.inputs.append(operand)
        self.define(value, operand, order)

    # --- operations ------------------------------------------------------------------------------------------------

    def add(self, operation: Operation, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> None:
        """Append an operation.

        Raises:
            DeclinedError: if the library's version does not have it or it does not take the type.
        """
        since = SINCE.get(operation, FIRST_VERSION)
        if self._version < since:
            has, needs = (".".join(map(str, version)) for version in (self._version, since))
            raise DeclinedError(f"{operation.name} needs Neuron {needs}, this library is {has}")
        code = inputs[0].code
        if operation in MOVES and code is OperandCode.TENSOR_BOOL8:
            self._move_flags(operation, inputs, outputs)
            return
        if operation is Operation.SELECT and inputs[1].code is OperandCode.TENSOR_BOOL8:
            self._move_flags(operation, inputs, outputs, kept=1)
            return
        if code not in TAKES[operation]:
            raise DeclinedError(f"{operation.name} of {code.name} is not offered by Neuron")
        if len({operand.code for operand in (*inputs, *outputs) if operand.code in BYTES}) > 1:
            raise DeclinedError(f"{operation.name} of int8 and uint8 together is not offered by Neuron")
        self.network.calls.append(Call(operation, list(inputs), list(outputs), self.source))

    def _move_flags(
        self, operation: Operation, inputs: Sequence[Operand], outputs: Sequence[Operand], kept: int = 0
    ) -> None:
        """What moves numbers takes no truth values: they go as 0 and 1, all but the first ``kept``."""
        flags = OperandCode.TENSOR_BOOL8
        taken = [
            self._numbers_of(operand) if operand.code is flags and place >= kept else operand
            for place, operand in enumerate(inputs)
        ]
        made = [Operand(result.name, OperandCode.TENSOR_FLOAT32, result.shape) for result in outputs]
        self.add(operation, taken, made)
        zero = self.constant(np.zeros(1, np.float32), "zero")
        for numbers, result in zip(made, outputs, strict=True):
            self.add(Operation.NOT_EQUAL, [numbers, zero], [result])

    def _numbers_of(self, flags: Operand) -> Operand:
        """1 for true, 0 for false."""
        numbers = Operand(flags.name, OperandCode.TENSOR_FLOAT32, flags.shape)
        if flags.data is not None:
            numbers.data = flags.data.astype(np.float32)
            return numbers
        choices = [self.constant(np.full(flags.shape, number, np.float32), "number") for number in (1, 0)]
        self.add(Operation.SELECT, [flags, *choices], [numbers])
        return numbers

    def add_extension(self, operation: ExtensionOperation, inputs: Sequence[Operand], result: Operand) -> Call:
        """Append an operation of an extension; whoever does has seen that the library has it."""
        self.network.calls.append(Call(operation, list(inputs), [result], self.source))
        return self.network.calls[-1]

    def reshape(self, source: Operand, result: Operand) -> None:
        """The numbers of ``source`` in the shape of ``result``."""
        if source.code is OperandCode.TENSOR_INT32 and (places := inserted(source.shape, result.shape)):
            for place in places[:-1]:  # integers are reshaped by new dimensions only
                longer = self.like(source, source.name, (*source.shape[:place], 1, *source.shape[place:]))
                self.add(Operation.EXPAND_DIMS, [source, scalar_int(place, "axis")], [longer])
                source = longer
            self.add(Operation.EXPAND_DIMS, [source, scalar_int(places[-1], "axis")], [result])
            return
        self.add(Operation.RESHAPE, [source, int32_vector(result.shape, f"{result.name}.shape")], [result])

    def transpose(self, source: Operand, perm: Sequence[int], result: Operand) -> None:
        """``result`` has the dimensions of ``source`` in the order of ``perm``."""
        self.add(Operation.TRANSPOSE, [source, int32_vector(perm, f"{result.name}.perm")], [result])

    # --- inside ----------------------------------------------------------------------------------------------------

    def _rearranged(self, place: Located, shape: tuple[int, ...], wanted: Order, name: str) -> Operand:
        target = laid(shape, wanted)
        result = self.like(place.operand, f"{name}.{''.join(map(str, wanted))}", target)
        if long_axes(shape, place.order) == long_axes(shape, wanted):
            if place.operand.shape == target:
                return place.operand
            self.reshape(place.operand, result)
            return result
        source, order = place.operand, place.order
        if set(order) != set(wanted):
            order = (*(axis for axis in order if axis in wanted), *(axis for axis in wanted if axis not in order))
            source = self.like(source, f"{name}.dimensions", laid(shape, order))
            self.reshape(place.operand, source)
        self.transpose(source, [order.index(axis) for axis in wanted], result)
        return result

    def _dequantize(self, value: Value) -> None:
        node = self.deferred[value]
        stored, encoding = node.inputs[0], node_encoding(self.view, node)
        assert stored is not None
        assert encoding is not None
        if self.dtype(stored) not in QUANTIZED or encoding.axis is not None or encoding.block_size:
            raise DeclinedError(f"'{stored.name}' is not quantized per tensor in 8 bits; Neuron unpacks nothing else")
        place = self.place(stored)
        if place.operand.code not in BYTES or (place.operand.scale, place.operand.zero_point) != scale_and_zero(
            encoding
        ):
            raise DeclinedError(f"'{stored.name}' is quantized in two ways, which Neuron cannot express")
        result, calls = self.new_operand(value, place.order), len(self.network.calls)
        self.add(Operation.DEQUANTIZE, [place.operand], [result])
        self.define(value, result, place.order)
        self.materialized[node] = tuple(self.network.calls[calls:])


def scale_and_zero(encoding: QuantEncoding) -> tuple[float, int]:
    """The numbers of an encoding per tensor.

    Raises:
        DeclinedError: if the scale is none that Neuron takes.
    """
    scale = float(np.float32(encoding.scale.reshape(-1)[0]))
    if not 0 < scale < math.inf:
        raise DeclinedError(f"a scale of {scale:g} is not offered by Neuron, only positive ones")
    return scale, int(encoding.zero_point.reshape(-1)[0])


def arranged(array: Array, order: Order) -> Array:
    """``array`` with its axes in ``order``; axes that are not listed have length 1."""
    left_out = [axis for axis in range(array.ndim) if axis not in order]
    moved = np.transpose(array, (*left_out, *order))
    result: Array = moved.reshape(laid(array.shape, order))
    return result


def inserted(shape: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Where dimensions of length 1 are put in, one after the other, to make ``wanted``; none if that is not how."""
    places, left = [], list(shape)
    for place, size in enumerate(wanted):
        if left and left[0] == size:
            left.pop(0)
        elif size == 1:
            places.append(place)
        else:
            return []
    return [] if left else places


def int32_vector(numbers: Sequence[int], name: str) -> Operand:
    """A constant TENSOR_INT32 of one dimension."""
    return Operand(name, OperandCode.TENSOR_INT32, (len(numbers),), data=np.array(numbers, np.int32))


def per_channel(codes: Array, name: str, scales: Array, axis: int) -> Operand:
    """Weights quantized symmetrically with a scale for each position of ``axis``."""
    channels = ChannelScales(axis, np.ascontiguousarray(scales.reshape(-1), np.float32))
    data = np.ascontiguousarray(codes)
    return Operand(name, OperandCode.TENSOR_QUANT8_SYMM_PER_CHANNEL, data.shape, channels=channels, data=data)

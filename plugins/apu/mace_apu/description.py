"""A Neuron network as plain data: what lowering produces, and what is then asked about, built, or thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_apu.neuron.constants import ExtensionOperation, OperandCode, Operation

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ChannelScales:
    """Scales of TENSOR_QUANT8_SYMM_PER_CHANNEL.

    Attributes:
        axis: the dimension of the channels.
        scales: float32, one for each channel.
    """

    axis: int
    scales: Array


@dataclass(eq=False)
class Operand:
    """A scalar or a tensor of a network; one object is one operand.

    Attributes:
        name: for messages.
        code: its type.
        shape: dimensions as Neuron has them (channels last for pictures); () for scalars.
        scale, zero_point: of quantized tensors: real = (number - zero_point) * scale; 0 for others.
        channels: scales of each channel, where the type has them.
        data: the content of a constant, in the shape and the bytes that the type asks for.
    """

    name: str
    code: OperandCode
    shape: tuple[int, ...] = ()
    scale: float = 0.0
    zero_point: int = 0
    channels: ChannelScales | None = None
    data: Array | None = None


@dataclass(eq=False)
class Call:
    """One operation.

    Attributes:
        operation: which one.
        inputs, outputs: in the order that the interface asks for; scalars such as strides are inputs.
        source: names of the model's nodes that it stands for.
    """

    operation: Operation | ExtensionOperation
    inputs: Sequence[Operand]
    outputs: Sequence[Operand]
    source: tuple[str, ...] = ()


@dataclass
class Network:
    """Calls in topological order.

    Attributes:
        inputs, outputs: in the order of the subgraph's; an operand is never both.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: list[Operand] = field(default_factory=list)
    outputs: list[Operand] = field(default_factory=list)


def scalar_int(value: int, name: str = "") -> Operand:
    """A constant INT32."""
    return Operand(name, OperandCode.INT32, data=np.asarray(value, np.int32))


def scalar_float(value: float, name: str = "") -> Operand:
    """A constant FLOAT32."""
    return Operand(name, OperandCode.FLOAT32, data=np.asarray(value, np.float32))


def scalar_bool(value: bool, name: str = "") -> Operand:
    """A constant BOOL."""
    return Operand(name, OperandCode.BOOL, data=np.asarray(value, np.bool_))

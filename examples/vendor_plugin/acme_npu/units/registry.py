"""Where the units register: what computes an operator, and what of a node it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value

Array: TypeAlias = npt.NDArray[Any]
Settings: TypeAlias = Mapping[str, Any]
Kernel: TypeAlias = Callable[..., Array | tuple[Array, ...]]
"""``(operands in order, **settings) -> result``, or several results where the operator has several."""


class DeclinedError(Exception):
    """The reason why a unit does not take a node."""


@dataclass(frozen=True)
class Lowered:
    """A node as a unit takes it.

    Attributes:
        operands: what is read during a run, in the order of the kernel's arguments.
        settings: everything else, in a form that JSON can hold: attributes, and inputs that must be constant.
    """

    operands: tuple[Value, ...]
    settings: Settings = field(default_factory=dict)


Lowering: TypeAlias = Callable[[GraphView, Node], Lowered]

OPERATORS: dict[str, Kernel] = {}
LOWERINGS: dict[str, Lowering] = {}


def unit(*op_types: str) -> Callable[[Lowering], Lowering]:
    """Register what reads a node of these operators; it raises `DeclinedError` where the unit cannot do it."""

    def register(lowering: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(op_types, lowering))
        return lowering

    return register


def kernel(op_type: str) -> Callable[[Kernel], Kernel]:
    """Register what computes an operator."""

    def register(function: Kernel) -> Kernel:
        OPERATORS[op_type] = function
        return function

    return register


def operand(node: Node, index: int) -> Value:
    """An input that the node must have."""
    value = node.input(index)
    if value is None:
        raise DeclinedError(f"{node.op_type} has no input {index}")
    return value


def fixed(view: GraphView, node: Node, index: int) -> Array | None:
    """An input that must be known before the run; None where it is left out."""
    value = node.input(index)
    if value is None:
        return None
    tensor = view.constant(value)
    if tensor is None:
        raise DeclinedError(f"'{value.name}' is not constant, and the ACME NPU compiles it into {node.op_type}")
    return np.array(tensor.numpy())


def fixed_or_attribute(view: GraphView, node: Node, index: int, name: str, opset: int) -> list[Any] | None:
    """What was an attribute and became an input with ``opset``."""
    if view.opset() < opset:
        given = node.attr(name)
        return None if given is None else list(given)
    found = fixed(view, node, index)
    return None if found is None else found.reshape(-1).tolist()

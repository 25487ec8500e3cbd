"""Finds expressions in a graph: what computes a value is compared with a description of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.shared.nodes import need


@dataclass(frozen=True, slots=True)
class Name:
    """Whatever value stands here: the same one, or an equal constant, wherever the name does.

    Attributes:
        name: under which it is found.
        made: how it has to be computed; None for any way.
    """

    name: str
    made: Pattern | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """The first result of a node.

    Attributes:
        op_type: of the standard's own domain.
        inputs: all of its inputs.
        attributes: numbers that some of its attributes have to have.
    """

    op_type: str
    inputs: tuple[Pattern, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)


Pattern = Name | Made | float
"""A float stands for a constant of that one number."""


def op(op_type: str, *inputs: Pattern, **attributes: int) -> Made:
    """A node and its inputs."""
    return Made(op_type, inputs, attributes)


def cast(x: Pattern, dtype: DType) -> Made:
    """A Cast."""
    return Made("Cast", (x,), {"to": dtype.value})


def moves_one_number(view: GraphView, node: Node) -> bool:
    """Whether a node is a Transpose of a single number."""
    if node.op_type != "Transpose" or node.domain:
        return False
    found = view.tensor_type(need(node.input(0)))
    return found is not None and found.is_concrete and all(is_same(size, 1) for size in found.concrete_shape)


class Matcher:
    """Compares the values of a view with patterns.

    Attributes:
        found: the values of names, as far as `matches` has come.
    """

    def __init__(self, view: GraphView, producers: Mapping[Value, Node]) -> None:
        self._view, self._producers = view, producers
        self.found: dict[str, Value] = {}

    def matches(self, value: Value | None, pattern: Pattern) -> bool:
        """Whether ``value`` is computed as ``pattern`` says; names that are known already keep their values."""
        if value is None:
            return False
        value = self._moved(value)
        if isinstance(pattern, Name):
            known = self.found.get(pattern.name)
            if known is not None:
                return known is value or self._are_equal(known, value)
            if pattern.made is not None and not self.matches(value, pattern.made):
                return False
            self.found[pattern.name] = value
            return True
        if isinstance(pattern, Made):
            node = self._producers.get(value)
            if node is None or node.domain or node.op_type != pattern.op_type or node.output(0) is not value:
                return False
            if len(node.inputs) != len(pattern.inputs):
                return False
            if any(int(node.attr(name, -1)) != number for name, number in pattern.attributes.items()):
                return False
            return all(self.matches(one, its) for one, its in zip(node.inputs, pattern.inputs, strict=True))
        content = self._content(value)
        return content is not None and content.size == 1 and float(content.reshape(-1)[0]) == pattern

    def _moved(self, value: Value) -> Value:
        """What a Transpose of a single number is of."""
        node = self._producers.get(value)
        while node is not None and moves_one_number(self._view, node):
            value = need(node.input(0))
            node = self._producers.get(value)
        return value

    def _are_equal(self, first: Value, second: Value) -> bool:
        one, other = self._content(first), self._content(second)
        return one is not None and other is not None and one.dtype == other.dtype and np.array_equal(one, other)

    def _content(self, value: Value) -> npt.NDArray[Any] | None:
        found = self._view.constant(value)
        return None if found is None else found.numpy()

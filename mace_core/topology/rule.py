"""What a rewrite is, and the table of them."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.operators.bodies import BodyBuilder
from mace_core.tensor import DType, Tensor

_log = logging.getLogger("mace")

Compute = Callable[[Graph], Sequence[Tensor]]
"""Runs a graph without inputs on the host."""


class RuleBuilder(BodyBuilder):
    """As `BodyBuilder`, with the questions that rules ask of a node.

    Attributes:
        compute: runs a graph without inputs.
    """

    def __init__(self, view: GraphView, node: Node, compute: Compute) -> None:
        super().__init__(view, node)
        self.compute = compute

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape, in numbers.

        Raises:
            ValueError: where it is not known before the run.
        """
        return self.view.shape(value)

    def dtype(self, value: Value) -> DType:
        """The element type.

        Raises:
            ValueError: where it is not known.
        """
        found = self.view.tensor_type(value)
        if found is None:
            raise ValueError(f"the type of '{value.name}' is not known")
        return found.dtype

    def content(self, value: Value | None) -> Any:
        """The numbers of a constant as an array; None where it is no constant."""
        found = self.view.constant(value)
        return None if found is None else found.numpy()

    def ints(self, index: int) -> list[int]:
        """The whole numbers of a constant input; empty where it is left out.

        Raises:
            ValueError: if a run computes it.
        """
        value = self.node.input(index)
        if value is None:
            return []
        found = self.content(value)
        if found is None:
            raise ValueError(f"'{value.name}' is computed by the run")
        return [int(number) for number in found.reshape(-1)]

    def reshaped(self, value: Value, shape: Sequence[int], *, into: Value | None = None) -> Value:
        """``value`` in another shape."""
        return self.op("Reshape", [value, self.constant([int(size) for size in shape], "int64")], into=into)

    def turned(self, value: Value, perm: Sequence[int], *, into: Value | None = None) -> Value:
        """``value`` with its axes in another order."""
        return self.op("Transpose", [value], {"perm": list(perm)}, into=into)

    def reduced(
        self, op_type: str, value: Value, axes: Sequence[int], *, keep: bool, into: Value | None = None
    ) -> Value:
        """A reduction, as the opset at hand writes it."""
        since = 13 if op_type == "ReduceSum" else 18
        if self.opset < since:
            return self.op(op_type, [value], {"axes": list(axes), "keepdims": int(keep)}, into=into)
        numbers = self.constant([int(axis) for axis in axes], "int64")
        return self.op(op_type, [value, numbers], {"keepdims": int(keep)}, into=into)

    def sliced(
        self, value: Value, axis: int, start: int, stop: int, step: int = 1, *, into: Value | None = None
    ) -> Value:
        """A slice along one axis.

        Raises:
            ValueError: for another step than 1 before opset 10, where there is none.
        """
        if self.opset < 10:
            if step != 1:
                raise ValueError("Slice has no steps before opset 10")
            return self.op("Slice", [value], {"starts": [start], "ends": [stop], "axes": [axis]}, into=into)
        numbers = [self.constant([number], "int64") for number in (start, stop, axis, step)]
        return self.op("Slice", [value, *numbers], into=into)

    def padded(self, value: Value, pads: Sequence[int], filler: float = 0.0) -> Value:
        """``value`` with a constant around it; pads as Pad has them."""
        if self.opset < 11:
            return self.op("Pad", [value], {"pads": [int(pad) for pad in pads], "value": float(filler)})
        return self.op(
            "Pad", [value, self.constant([int(pad) for pad in pads], "int64"), self.scalar_like(filler, value)]
        )


FEWEST_OPSET = 9
"""Of models that rules are for."""

Rewrite = Callable[[RuleBuilder, Node], bool]
"""Appends what stands for the node; False where the rule is not for this form of it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewrite of one operator.

    Attributes:
        name: short ("Conv of one dimension as Conv of two").
        operators: of the default domain that it is for.
        rewrite: builds what stands for a node.
        is_exact: the result has the same bits in exact arithmetic of the operator; else sums may be made in another
            order.
    """

    name: str
    operators: tuple[str, ...]
    rewrite: Rewrite
    is_exact: bool


_RULES: list[Rule] = []


def rule(name: str, *operators: str, exact: bool = False) -> Callable[[Rewrite], Rewrite]:
    """Registers a rewrite of operators of the default domain."""

    def register(rewrite: Rewrite) -> Rewrite:
        _RULES.append(Rule(name, operators, rewrite, exact))
        return rewrite

    return register


def rules() -> tuple[Rule, ...]:
    """The table, in the order in which rules are tried."""
    from mace_core.topology import rewrites as families

    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")
    return tuple(_RULES)


def rules_by_operator() -> Mapping[str, list[Rule]]:
    """The rules for each operator."""
    found: dict[str, list[Rule]] = {}
    for each in rules():
        for operator in each.operators:
            found.setdefault(operator, []).append(each)
    return found


def rewritten(each: Rule, view: GraphView, node: Node, compute: Compute) -> Graph | None:
    """What a rule puts in the place of ``node``; None where it is not for this form of it."""
    builder = RuleBuilder(view, node, compute)
    try:
        return builder.graph if each.rewrite(builder, node) else None
    except (ArithmeticError, LookupError, TypeError, ValueError):  # a form that the rule does not know
        _log.debug("the rewrite '%s' does not know this form of '%s'", each.name, node.name, exc_info=True)
        return None

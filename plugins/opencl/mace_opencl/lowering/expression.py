"""Elementwise nodes as statements of C, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_opencl.kernels import formulas
from mace_opencl.kernels.formulas import C_TYPES
from mace_opencl.lowering.builder import Builder, Read
from mace_opencl.lowering.checks import FLOAT, NUMBERS, constant_reason, dtype_of, dtype_reason, outputs_reason

_FLOAT_BINARY = frozenset(formulas.BINARY) - formulas.INTEGER_BINARY
OPERATORS = frozenset(
    (*formulas.UNARY, *formulas.BINARY, *formulas.COMPARISONS, *formulas.LOGIC, "Clip", "Where", "Cast")
) | {"BatchNormalization"}


def elementwise_reason(view: GraphView, node: Node) -> str | None:
    """Why an elementwise node is declined."""
    op = node.op_type
    first = node.inputs[0]
    assert first is not None
    dtype = dtype_of(view, first)
    if view.opset() < 7 and (op == "PRelu" or node.attr("broadcast", 0)) and _is_spread(view, node):
        return f"a second operand of {op} that belongs to other than the last axes (until opset 6) has no kernel here"
    if op == "BatchNormalization":
        if node.attr("training_mode", 0):
            return "BatchNormalization in training mode updates its statistics, which inference kernels do not"
        return dtype_reason(view, node, FLOAT) or constant_reason(view, node, 1, 2, 3, 4) or outputs_reason(node)
    if op == "Cast":
        target = DType(node.attr("to"))
        if dtype not in C_TYPES or target not in C_TYPES:
            return f"casting {dtype.label} to {target.label} is not available in this provider's kernels"
        return None
    if op == "Where":
        branch = node.inputs[1]
        assert branch is not None
        if dtype_of(view, branch) not in C_TYPES:
            return f"Where selects {dtype_of(view, branch).label} here, which kernels do not handle"
        return None
    if op in formulas.LOGIC:
        return dtype_reason(view, node, {DType.BOOL})
    if op in formulas.COMPARISONS:
        return dtype_reason(view, node, NUMBERS | {DType.BOOL})
    if op == "Clip" or op in formulas.INTEGER_UNARY | formulas.INTEGER_BINARY:
        return dtype_reason(view, node, NUMBERS)
    return dtype_reason(view, node, FLOAT)


def _is_spread(view: GraphView, node: Node) -> bool:
    """Whether the second operand has fewer axes than the first, is not a scalar, and need not be of the last axes."""
    x, other = (view.shape(value) for value in node.inputs[:2] if value is not None)
    axis = 1 if node.op_type == "PRelu" else node.attr("axis")
    return axis is not None and other not in ((), (1,)) and len(other) < len(x)


@dataclass(slots=True, eq=False)
class Leaf:
    """A tensor that is read at each element, broadcast from ``shape``."""

    read: Read
    c_type: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Expression:
    """Statements over operands ``v0 …`` (tensors), ``q0 …`` (scalar arguments) and what is defined from outside.

    Attributes:
        names: the C variable that holds each value.
    """

    builder: Builder
    leaves: list[Leaf] = field(default_factory=list)
    scalars: list[tuple[str, int | float]] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    names: dict[Value, str] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Append what ``node`` computes."""
        result = node.outputs[0]
        assert result is not None
        dtype = self.builder.dtype(result)
        name = f"t{len(self.statements)}"
        self.statements.append(f"  {C_TYPES[dtype]} {name} = {self._formula(node)};\n")
        self.names[result] = name

    def operand(self, value: Value | None) -> str:
        """The C expression of a value."""
        assert value is not None
        found = self.names.get(value)
        if found is not None:
            return found
        constant = self.builder.constant(value)
        dtype = self.builder.dtype(value)
        if constant is not None and constant.size == 1 and dtype in _SCALAR_TYPES:
            name = self._scalar(_SCALAR_TYPES[dtype], constant.reshape(-1)[0].item())
        else:
            name = self.tensor(self.builder.read(value), C_TYPES[dtype], self.builder.shape(value))
        self.names[value] = name
        return name

    def tensor(self, read: Read, c_type: str, shape: Sequence[int]) -> str:
        """A further tensor operand."""
        self.leaves.append(Leaf(read, c_type, tuple(shape)))
        return f"v{len(self.leaves) - 1}"

    def array(self, array: npt.NDArray[Any], shape: Sequence[int]) -> str:
        """A float32 array made while lowering as an operand that is broadcast from ``shape``."""
        values = np.ascontiguousarray(array, np.float32)
        return self.tensor(self.builder.data(values), "float", shape)

    def parameters(self) -> list[tuple[str, str]]:
        """Kernel parameters of the operands: tensors, then scalars."""
        found = [(f"{leaf.c_type}*", f"p{i}") for i, leaf in enumerate(self.leaves)]
        return found + [(kind, f"q{i}") for i, (kind, _) in enumerate(self.scalars)]

    def loads(self, positions: Sequence[str]) -> str:
        """Statements that load each tensor operand from its position."""
        return "".join(
            f"  {leaf.c_type} v{i} = p{i}[{at}];\n"
            for i, (leaf, at) in enumerate(zip(self.leaves, positions, strict=True))
        )

    def arguments(self) -> list[Read | int | float]:
        return [*(leaf.read for leaf in self.leaves), *(value for _, value in self.scalars)]

    # --- private ----------------------------------------------------------------------------------------------------

    def _scalar(self, kind: str, value: int | float) -> str:
        self.scalars.append((kind, value))
        return f"q{len(self.scalars) - 1}"

    def _formula(self, node: Node) -> str:
        op = node.op_type
        if op == "BatchNormalization":
            return self._normalization(node)
        first = node.inputs[0]
        assert first is not None
        if op == "Clip":
            return self._clip(node, first)
        if op == "Cast":
            return formulas.cast(self.operand(first), self.builder.dtype(first), DType(node.attr("to")))
        if op == "Where":
            return f"({self.operand(first)} ? {self.operand(node.inputs[1])} : {self.operand(node.inputs[2])})"
        if op == "Pow":
            exponent = self.builder.constant(node.inputs[1])
            if exponent is not None and exponent.size == 1:
                simple = formulas.power(self.operand(first), float(exponent.reshape(-1)[0]))
                if simple is not None:
                    return simple
        operands = [self.operand(value) for value in node.inputs]
        for table in (formulas.UNARY, formulas.BINARY, formulas.COMPARISONS, formulas.LOGIC):
            if op in table:
                return table[op](node, operands)
        raise AssertionError(f"{op} was claimed and has no formula")

    def _clip(self, node: Node, first: Value) -> str:
        found = self.operand(first)
        low, high = self._bound(node, 1, "min", first), self._bound(node, 2, "max", first)
        if low is not None:
            found = f"({found} < {low} ? {low} : {found})"
        return found if high is None else f"({found} > {high} ? {high} : {found})"

    def _bound(self, node: Node, index: int, attribute: str, first: Value) -> str | None:
        """A bound of Clip; before opset 11 they were attributes."""
        value = node.input(index)
        if value is None:
            given = node.attr(attribute)
            return None if given is None else formulas.literal(float(given))
        constant = self.builder.constant(value)
        if constant is not None and self.builder.dtype(first) is DType.FLOAT32:
            return formulas.literal(float(constant.reshape(-1)[0]))  # bounds hardly vary: part of the kernel
        return self.operand(value)

    def _normalization(self, node: Node) -> str:
        """Batch normalization with fixed statistics is one multiplication and one addition per channel."""
        scale, bias, mean, variance = (self._known(node, index).astype(np.float64) for index in range(1, 5))
        factor = scale / np.sqrt(variance + float(node.attr("epsilon", 1e-5)))
        first = node.inputs[0]
        shape = (factor.size, *(1 for _ in self.builder.shape(first)[2:]))
        x = self.operand(first)
        factor_name = self.array(factor, shape)
        return f"({x} * {factor_name} + {self.array(bias - mean * factor, shape)})"

    def _known(self, node: Node, index: int) -> npt.NDArray[Any]:
        found = self.builder.constant(node.inputs[index])
        assert found is not None, "checked before the node was claimed"
        return found


_SCALAR_TYPES = {DType.FLOAT32: "float", DType.INT32: "int", DType.INT64: "long"}

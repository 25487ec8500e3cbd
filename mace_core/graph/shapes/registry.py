"""Which function answers for which operator: shapes, element types of unknown outputs, contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mace_core.graph.shapes.context import Array, NodeContext
from mace_core.tensor import DType, TensorType, ValueType

ShapeFunction: TypeAlias = Callable[[NodeContext], Sequence["ValueType | None"]]
DTypeRule: TypeAlias = Callable[[NodeContext], Sequence["DType | None"]]
Evaluator: TypeAlias = Callable[[NodeContext, "list[Array | None]"], "Sequence[Array] | None"]


@dataclass(frozen=True, slots=True)
class ShapeEntry:
    """A shape function, the element types its outputs have even when it cannot answer, and whether to trust it."""

    function: ShapeFunction
    dtypes: DTypeRule
    trusted: bool = True


def first_input_dtype(ctx: NodeContext) -> Sequence[DType | None]:
    """Every output has the element type of input 0 (None where that is no tensor)."""
    found = ctx.type(0) if ctx.has(0) else None
    return [found.dtype if isinstance(found, TensorType) else None] * ctx.output_count


_SHAPES: dict[tuple[str, str], ShapeEntry] = {}
_EVALUATORS: dict[str, Evaluator] = {}


def shape_function(
    *op_types: str, domain: str = "", dtypes: DTypeRule = first_input_dtype
) -> Callable[[ShapeFunction], ShapeFunction]:
    """Decorator: the function answers for these operators of ``domain``."""

    def register(function: ShapeFunction) -> ShapeFunction:
        entry = ShapeEntry(function, dtypes)
        for op_type in op_types:
            _SHAPES[domain, op_type] = entry
        return function

    return register


def evaluator(*op_types: str) -> Callable[[Evaluator], Evaluator]:
    """Decorator: the function computes contents for these operators of the default domain.

    It is given the contents of all inputs (None where one is left out) and returns those of the outputs, or None where
    the result is undefined and must be left to the run.
    """

    def register(function: Evaluator) -> Evaluator:
        for op_type in op_types:
            _EVALUATORS[op_type] = function
        return function

    return register


def register_shape_function(
    domain: str, op_type: str, function: ShapeFunction, dtypes: DTypeRule = first_input_dtype
) -> None:
    """Teach the resolver an operator of a custom domain (or replace what it knows of one).

    Args:
        domain: the operator's domain; ``""`` or ``ai.onnx`` for the default one.
        op_type: the operator.
        function: takes a :class:`NodeContext` and returns one type per output.  It raises ``ShapeMismatchError`` for
            inputs that cannot be and ``UnresolvedShapeError(index, …)`` where contents are missing.
        dtypes: element types of the outputs when the shapes cannot be known; those of input 0 unless given.
    """
    _SHAPES["" if domain == "ai.onnx" else domain, op_type] = ShapeEntry(function, dtypes, trusted=False)


def find_shape_function(domain: str, op_type: str) -> ShapeEntry | None:
    return _SHAPES.get((domain, op_type))


def find_evaluator(domain: str, op_type: str) -> Evaluator | None:
    return None if domain else _EVALUATORS.get(op_type)


def evaluated_operators() -> list[str]:
    """The operators of the default domain that have an evaluator, by name."""
    return sorted(_EVALUATORS)

"""What the framework knows of each operator, by domain and name.

Operators register with the decorators of this module.  The families of the standard lie in
`mace_core.operators.standard`; those of other domains, ours (com.microsoft, ai.onnx.ml, training) like anyone else's,
are published by installed packages and imported when a model first uses the domain (`mace_core.operators.packages`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from mace_core.errors import UsageError
from mace_core.graph import Graph, GraphView, Node
from mace_core.operators import packages
from mace_core.operators.bodies import BodyBuilder, built
from mace_core.operators.context import Array, NodeContext
from mace_core.tensor import DType, TensorType, ValueType

ShapeFunction: TypeAlias = Callable[[NodeContext], Sequence["ValueType | None"]]
DTypeRule: TypeAlias = Callable[[NodeContext], Sequence["DType | None"]]
Evaluator: TypeAlias = Callable[[NodeContext, "list[Array | None]"], "Sequence[Array] | None"]
Agreement: TypeAlias = Callable[[NodeContext], None]
Body: TypeAlias = Callable[[BodyBuilder, Node], bool]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ShapeEntry:
    """A shape function, the element types its outputs have even when it cannot answer, and whether to trust it."""

    function: ShapeFunction
    dtypes: DTypeRule
    trusted: bool = True


class _Table(Generic[T]):
    """Entries of one kind; a second one for the same operator is refused."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries: dict[tuple[str, str], T] = {}

    def add(self, domain: str, op_types: Sequence[str], entry: T) -> None:
        for op_type in op_types:
            if (domain, op_type) in self._entries:
                raise UsageError(
                    f"{domain or 'ai.onnx'}.{op_type} has {self._what} already; "
                    "an operator is registered once, in one place"
                )
            self._entries[domain, op_type] = entry

    def replace(self, domain: str, op_type: str, entry: T) -> None:
        self._entries[domain, op_type] = entry

    def find(self, domain: str, op_type: str) -> T | None:
        """The entry of an operator, if it has one; asked for every node of a graph, so written for speed."""
        if domain not in packages.loaded:
            packages.load_domain(domain)
        return self._entries.get((domain, op_type))

    def operators(self, domain: str) -> list[str]:
        packages.load_domain(domain)
        return sorted(op_type for own, op_type in self._entries if own == domain)


_shapes: _Table[ShapeEntry] = _Table("a shape function")
_agreements: _Table[Agreement] = _Table("an agreement rule")
_evaluators: _Table[Evaluator] = _Table("an evaluator")
_bodies: _Table[Body] = _Table("a function body")


def first_input_dtype(ctx: NodeContext) -> Sequence[DType | None]:
    """Every output has the element type of input 0 (None where that is not a tensor)."""
    found = ctx.type(0) if ctx.has(0) else None
    return [found.dtype if isinstance(found, TensorType) else None] * ctx.output_count


# --- registration -----------------------------------------------------------------------------------------------------


def shape_function(
    *op_types: str, domain: str = "", dtypes: DTypeRule = first_input_dtype
) -> Callable[[ShapeFunction], ShapeFunction]:
    """Decorator: the function gives the output types of these operators of ``domain``.

    It takes a `NodeContext` and returns one type per output.  It raises `ShapeMismatchError` for inputs that cannot be,
    and ``UnresolvedShapeError(index, …)`` where the content of inputs would have to be known.

    Args:
        op_types: names of operators.
        domain: their domain; "" for the default one.
        dtypes: element types of the outputs when the shapes cannot be known; those of input 0 unless given.

    Raises:
        UsageError: if one of them has a shape function already.
    """

    def register(function: ShapeFunction) -> ShapeFunction:
        _shapes.add(domain, op_types, ShapeEntry(function, dtypes))
        return function

    return register


def agreement(*op_types: str, domain: str = "") -> Callable[[Agreement], Agreement]:
    """Decorator: the function checks what the inputs of these operators must have in common.

    It raises `ShapeMismatchError`, see `mace_core.operators.checks`.

    Raises:
        UsageError: if one of them has a rule already.
    """

    def register(function: Agreement) -> Agreement:
        _agreements.add(domain, op_types, function)
        return function

    return register


def evaluator(*op_types: str, domain: str = "") -> Callable[[Evaluator], Evaluator]:
    """Decorator: the function computes small contents for these operators while shapes are resolved.

    It is given the contents of all inputs (None where one is left out) and returns those of the outputs, or None where
    the result is undefined and must be left to the run.

    Raises:
        UsageError: if one of them has an evaluator already.
    """

    def register(function: Evaluator) -> Evaluator:
        _evaluators.add(domain, op_types, function)
        return function

    return register


def body(*op_types: str, domain: str = "") -> Callable[[Body], Body]:
    """Decorator: the function builds what stands for these operators where no device claims them.

    It takes a `BodyBuilder` and the node, appends nodes that compute the node's outputs, and returns whether it knows
    this form of the node.

    Raises:
        UsageError: if one of them has a body already.
    """

    def register(function: Body) -> Body:
        _bodies.add(domain, op_types, function)
        return function

    return register


def register_shape_function(
    domain: str, op_type: str, function: ShapeFunction, dtypes: DTypeRule = first_input_dtype
) -> None:
    """Teach the resolver an operator of an application's own, or replace what it knows of one.

    Args:
        domain: the operator's domain; ``""`` or ``ai.onnx`` for the default one.
        op_type: the operator.
        function: as for `shape_function`; results without a concrete shape count as not known.
        dtypes: element types of the outputs when the shapes cannot be known; those of input 0 unless given.
    """
    domain = "" if domain == "ai.onnx" else domain
    packages.load_domain(domain)
    _shapes.replace(domain, op_type, ShapeEntry(function, dtypes, trusted=False))


# --- lookup -----------------------------------------------------------------------------------------------------------


find_shape_function = _shapes.find
"""``(domain, op_type)``: the shape function of an operator, if it has one."""

find_evaluator = _evaluators.find
"""``(domain, op_type)``: the evaluator of an operator, if it has one."""


def check_agreement(ctx: NodeContext) -> None:
    """Check a node whose inputs have concrete types.

    Raises:
        ShapeMismatchError: if shapes contradict each other.
    """
    rule = _agreements.find(ctx.node.domain, ctx.node.op_type)
    if rule is not None:
        rule(ctx)


def body_of(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where nothing is registered, or the node makes no sense."""
    found = _bodies.find(node.domain, node.op_type)
    return None if found is None else built(found, view, node)


def operators_with_body(domain: str) -> list[str]:
    """The operators of ``domain`` that have a function body, by name."""
    return _bodies.operators(domain)

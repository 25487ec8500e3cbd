"""What the framework knows of each operator, by domain and name.

Operators register with the decorators of this module.  The families of the standard lie in
`mace_core.operators.standard`; those of other domains, ours (com.microsoft, ai.onnx.ml, training) like anyone else's,
are published by installed packages and imported when a model first uses the domain (`mace_core.operators.packages`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from mace_core.errors import UsageError
from mace_core.graph import Graph, GraphView, Node
from mace_core.operators import packages
from mace_core.operators.axis_maps import AxisMap
from mace_core.operators.bodies import BodyBuilder, built
from mace_core.operators.context import Array, NodeContext, NodeShapes
from mace_core.operators.independence import AxesContext, Lane
from mace_core.tensor import DType, TensorType, ValueType

ShapeFunction: TypeAlias = Callable[[NodeContext], Sequence["ValueType | None"]]
DTypeRule: TypeAlias = Callable[[NodeContext], Sequence["DType | None"]]
Evaluator: TypeAlias = Callable[[NodeContext, "list[Array | None]"], "Sequence[Array] | None"]
RankCheck: TypeAlias = Callable[[NodeContext], None]
Agreement: TypeAlias = Callable[[NodeContext], None]
OperationCount: TypeAlias = Callable[[NodeShapes], "int | None"]
AxesRule: TypeAlias = Callable[[AxesContext], Iterable[Lane]]
AxisMapRule: TypeAlias = Callable[[AxesContext], "AxisMap | None"]
Body: TypeAlias = Callable[[BodyBuilder, Node], bool]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ShapeEntry:
    """A shape function, the element types its outputs have even when it cannot answer, and whether to trust it."""

    function: ShapeFunction
    dtypes: DTypeRule
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class EvaluatorEntry:
    """An evaluator, and whether it reads the contents of inputs (else their types are enough)."""

    function: Evaluator
    reads_contents: bool


@dataclass(frozen=True, slots=True)
class WorkEntry:
    """How many elementary operations a node takes, and whether these are the multiply-accumulates of linear algebra."""

    count: OperationCount
    are_macs: bool


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
_rank_checks: _Table[RankCheck] = _Table("a check of its attributes")
_agreements: _Table[Agreement] = _Table("an agreement rule")
_one_type: _Table[tuple[tuple[int, ...], ...]] = _Table("inputs of one type")
_content_inputs: _Table[tuple[int, ...]] = _Table("inputs whose content decides its shapes")
_random: _Table[bool] = _Table("random results")
_work: _Table[WorkEntry] = _Table("an estimate of its work")
_independent: _Table[AxesRule] = _Table("a rule of independent axes")
_axis_maps: _Table[AxisMapRule] = _Table("a map of its axes")
_evaluators: _Table[EvaluatorEntry] = _Table("an evaluator")
_symbolic_evaluators: _Table[Evaluator] = _Table("a symbolic evaluator")
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


def shapes_from_contents(*op_types: str, domain: str = "", inputs: Sequence[int]) -> None:
    """Say which inputs' contents decide the output shapes of operators that have no shape function.

    onnx's own inference is asked for these; until the contents are known, the node waits.

    Raises:
        UsageError: if one of them has such inputs already.
    """
    _content_inputs.add(domain, op_types, tuple(inputs))


def rank_check(*op_types: str, domain: str = "") -> Callable[[RankCheck], RankCheck]:
    """Decorator: the function checks the attributes of these operators against the ranks of their inputs.

    It sees nodes that have attributes, and raises `ShapeMismatchError`; `mace_core.operators.attributes.ranks` has the
    checks that many operators share.

    Raises:
        UsageError: if one of them has a check already.
    """

    def register(function: RankCheck) -> RankCheck:
        _rank_checks.add(domain, op_types, function)
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


def one_type(*op_types: str, domain: str = "", inputs: Sequence[int], others: Sequence[int] = ()) -> None:
    """Say which inputs of operators must be of one element type: those given by number, or all where none is.

    A node whose inputs differ there is refused before a provider is asked for it.

    Args:
        op_types: names of operators.
        domain: their domain; "" for the default one.
        inputs: their numbers; empty for all.
        others: a second group, of a type of its own.

    Raises:
        UsageError: if one of them has such inputs already.
    """
    groups = (tuple(inputs), tuple(others)) if others else (tuple(inputs),)
    _one_type.add(domain, op_types, groups)


def evaluator(*op_types: str, domain: str = "", reads_contents: bool = True) -> Callable[[Evaluator], Evaluator]:
    """Decorator: the function computes small contents for these operators while shapes are resolved.

    It is given the contents of all inputs (None where one is left out) and returns those of the outputs, or None where
    the result is undefined and must be left to the run.

    Args:
        op_types: names of operators.
        domain: their domain; "" for the default one.
        reads_contents: False if the types of the inputs are enough; the function is then given no contents.

    Raises:
        UsageError: if one of them has an evaluator already.
    """

    def register(function: Evaluator) -> Evaluator:
        _evaluators.add(domain, op_types, EvaluatorEntry(function, reads_contents))
        return function

    return register


def symbolic_evaluator(*op_types: str, domain: str = "") -> Callable[[Evaluator], Evaluator]:
    """Decorator: as `evaluator`, for contents that hold symbolic integers: object arrays.

    Where an operator has none, its evaluator computes with the numbers of the shapes at hand.

    Raises:
        UsageError: if one of them has one already.
    """

    def register(function: Evaluator) -> Evaluator:
        _symbolic_evaluators.add(domain, op_types, function)
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


def work_estimate(
    *op_types: str, domain: str = "", are_macs: bool = False
) -> Callable[[OperationCount], OperationCount]:
    """Decorator: the function counts the elementary operations of these operators, where outputs do not tell of them.

    It takes `NodeShapes`, and returns None where a shape that it depends on is not known.  A node that would take more
    than the limit is refused while planning.

    Args:
        op_types: names of operators.
        domain: their domain; "" for the default one.
        are_macs: whether these are multiply-accumulates, of which reports give the speed.

    Raises:
        UsageError: if one of them has an estimate already.
    """

    def register(function: OperationCount) -> OperationCount:
        _work.add(domain, op_types, WorkEntry(function, are_macs))
        return function

    return register


def independent_axes(*op_types: str, domain: str = "") -> Callable[[AxesRule], AxesRule]:
    """Decorator: the function names the axes along which these operators treat each position apart from the others.

    It takes an `AxesContext`, with concrete types of all inputs and outputs and the contents that are known, and
    returns a `Lane` for each such axis.  It may raise `UnresolvedShapeError` or `ShapeMismatchError` where it cannot
    tell: then no axis is independent.  See `mace_core.operators.independence`.

    Args:
        op_types: names of operators.
        domain: their domain; "" for the default one.

    Raises:
        UsageError: if one of them has a rule already.
    """

    def register(function: AxesRule) -> AxesRule:
        _independent.add(domain, op_types, function)
        return function

    return register


def axis_map(*op_types: str, domain: str = "") -> Callable[[AxisMapRule], AxisMapRule]:
    """Decorator: the function says how the axes of inputs and outputs of these operators go together.

    It takes an `AxesContext`, whose sizes may be symbolic, and returns an `AxisMap`: by it the optimizer moves
    Transposes over a node.  It returns None where no order of axes but the present one will do.  It may raise
    `UnresolvedShapeError` or `ShapeMismatchError` where it cannot tell.

    Args:
        op_types: names of operators.
        domain: their domain; "" for the default one.

    Raises:
        UsageError: if one of them has a map already.
    """

    def register(function: AxisMapRule) -> AxisMapRule:
        _axis_maps.add(domain, op_types, function)
        return function

    return register


def declare_random(*op_types: str, domain: str = "") -> None:
    """Say that equal nodes of these operators may give different results, and every run others.

    They are computed by each run, and by each node.

    Raises:
        UsageError: if one of them is declared already.
    """
    _random.add(domain, op_types, True)


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

find_symbolic_evaluator = _symbolic_evaluators.find
"""``(domain, op_type)``: the evaluator of an operator for symbolic contents, if it has one."""


find_content_inputs = _content_inputs.find
"""``(domain, op_type)``: the inputs whose contents decide the output shapes of an operator, if there are any."""

find_independent_axes = _independent.find
"""``(domain, op_type)``: the rule of an operator's independent axes, if it has one."""

find_axis_map = _axis_maps.find
"""``(domain, op_type)``: the rule that maps the axes of an operator, if it has one."""

find_work = _work.find
"""``(domain, op_type)``: the estimate of an operator's work, if it has one."""


def is_random(domain: str, op_type: str) -> bool:
    """Whether an operator is declared to give different results."""
    return _random.find(domain, op_type) is not None


def random_operators(domain: str) -> list[str]:
    """The operators of ``domain`` that are declared to give different results, by name."""
    return _random.operators(domain)


def is_deterministic(domain: str, op_type: str) -> bool:
    """Whether equal nodes of an operator give equal results.

    Operators are, unless they are declared random; of one that no package describes, such as an application's own,
    nothing is known.
    """
    if is_random(domain, op_type):
        return False
    entry = _shapes.find(domain, op_type)
    is_described = (entry is not None and entry.trusted) or _bodies.find(domain, op_type) is not None
    return is_described or packages.is_onnx_domain(domain)


def check_ranks(ctx: NodeContext) -> None:
    """Check the attributes of a node whose inputs have concrete types.

    Raises:
        ShapeMismatchError: naming the attribute and its value.
    """
    node = ctx.node
    check = _rank_checks.find(node.domain, node.op_type) if node.attributes else None
    if check is not None:
        check(ctx)


def check_agreement(ctx: NodeContext) -> None:
    """Check a node whose inputs have concrete types.

    Raises:
        ShapeMismatchError: if types or shapes contradict each other.
    """
    groups = _one_type.find(ctx.node.domain, ctx.node.op_type)
    if groups is not None:
        ctx.require_one_type(groups)
    rule = _agreements.find(ctx.node.domain, ctx.node.op_type)
    if rule is not None:
        rule(ctx)


def body_of(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where nothing is registered, or the node makes no sense."""
    found = _bodies.find(node.domain, node.op_type)
    return None if found is None else built(found, view, node)


def operators_with_independent_axes(domain: str) -> list[str]:
    """The operators of ``domain`` that have a rule of independent axes, by name."""
    return _independent.operators(domain)


def operators_with_axis_map(domain: str) -> list[str]:
    """The operators of ``domain`` whose axes are mapped, by name."""
    return _axis_maps.operators(domain)


def operators_with_body(domain: str) -> list[str]:
    """The operators of ``domain`` that have a function body, by name."""
    return _bodies.operators(domain)

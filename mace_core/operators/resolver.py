"""The walk over a graph that gives every value its concrete type under one input signature."""

from __future__ import annotations

import logging
import math
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from mace_core.errors import MaceError, ModelError, shorten
from mace_core.graph.attribute import AttributeKind
from mace_core.graph.graph import Graph, Node, Value, captured_values
from mace_core.graph.signature import Resolution
from mace_core.operators.context import CONTENT_LIMIT, Array, NodeContext, ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.fallback import infer_with_onnx
from mace_core.operators.packages import is_onnx_domain
from mace_core.operators.registry import (
    DTypeRule,
    ShapeEntry,
    check_agreement,
    check_ranks,
    find_evaluator,
    find_shape_function,
    find_symbolic_evaluator,
)
from mace_core.operators.work import node_work
from mace_core.operators.work_limit import WORK_LIMIT_VARIABLE, work_limit
from mace_core.symbolic import is_symbolic, writing_for_people
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor, concrete, elements_of, simplified
from mace_core.tensor.types import MAX_RANK

_log = logging.getLogger("mace")

LARGEST_TENSOR_ELEMENTS = 1 << 56
"""More than any memory holds, and few enough for every product with an element's size to fit 63 bits."""

LONGEST_REASON = 600
"""Characters: a shape may have a thousand axes."""

_NO_VALUES: Mapping[Value, Tensor] = {}


def resolve(
    graph: Graph,
    inputs: Mapping[Value, ValueType],
    values: Mapping[Value, Tensor] = _NO_VALUES,
    *,
    opset_imports: Mapping[str, int] | None = None,
) -> Resolution:
    """The concrete facts of ``graph`` when its inputs have these types.

    Args:
        graph: a model or a nested body.
        inputs: concrete types of the graph's inputs.  Types of computed values may be given too (results of an earlier
            stage, captured values of a body): what is given is taken as it is, and a node all of whose outputs are
            given is passed over.
        values: contents, where known, of values in ``inputs``.
        opset_imports: the versions that hold for a nested body (only outermost graphs carry them).

    Returns:
        Types of all values reached (constants included), contents that follow from the signature, and the blocked
        nodes.  No output of a blocked node has a concrete shape: its type is ``TensorType(dtype, None)``, or missing
        where not even the element type is known.

    Raises:
        ModelError: if a node's inputs cannot be; the message names model, node, shapes and what was expected.
    """
    resolver = Resolver(graph, opset_imports if opset_imports is not None else graph.opset_imports)
    resolver.give(inputs, values)
    for value in graph.inputs:
        if value not in resolver.types and value.constant is None:
            resolver.declare(value)
    with np.errstate(all="ignore"):
        resolver.walk(graph)
    return resolver.resolution()


class OpenValues:
    """Values that have a type whose shape is not known, with those that the resolver around this one knows of.

    Like the layers of types and contents: a body's findings are laid over what is known outside, which is never copied,
    so that a model of many bodies takes time in proportion to what is in them.
    """

    __slots__ = ("_around", "_closed", "_open")

    def __init__(self, around: OpenValues | None = None) -> None:
        self._around = around
        self._open: set[Value] = set()
        self._closed: set[Value] = set()

    def add(self, value: Value) -> None:
        self._open.add(value)
        self._closed.discard(value)

    def discard(self, value: Value) -> None:
        self._open.discard(value)
        if self._around is not None:
            self._closed.add(value)

    def __contains__(self, value: Value) -> bool:
        if value in self._open:
            return True
        return self._around is not None and value not in self._closed and value in self._around

    def adopt(self, inner: OpenValues) -> None:
        """Take over what was found in a layer over this one."""
        self._open |= inner._open


def _layers(mapping: MutableMapping[Value, Any]) -> list[MutableMapping[Value, Any]]:
    """What a mapping is made of, the innermost first."""
    return mapping.maps if isinstance(mapping, ChainMap) else [mapping]


class Resolver:
    """State of one walk: the types, contents and blocked nodes found so far."""

    def __init__(self, root: Graph, opset_imports: Mapping[str, int]) -> None:
        self.root = root
        self.opset_imports = opset_imports
        self.types: MutableMapping[Value, ValueType] = {}
        self.contents: MutableMapping[Value, Array] = {}
        self.blocked: dict[Node, tuple[Value, ...]] = {}
        self.open = OpenValues()
        self._given: dict[Value, Tensor | None] = {}
        self._skips = False
        self._work_limit = work_limit()

    def child(self) -> Resolver:
        """A resolver for a nested body that sees what this one knows; :meth:`adopt` takes its findings over."""
        nested = Resolver(self.root, self.opset_imports)
        nested.types = ChainMap({}, *_layers(self.types))
        nested.contents = ChainMap({}, *_layers(self.contents))
        nested.open = OpenValues(self.open)
        nested._given = self._given
        nested._skips = self._skips
        return nested

    def adopt(self, nested: Resolver) -> None:
        """Take over what a nested walk found."""
        self.types.update(_layers(nested.types)[0])
        self.contents.update(_layers(nested.contents)[0])
        self.blocked.update(nested.blocked)
        self.open.adopt(nested.open)

    def give(self, inputs: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> None:
        """Set the types and contents that are known from outside."""
        for value, given in inputs.items():
            self.set_type(value, given)
            self._given[value] = values.get(value)
            self._skips = self._skips or value.producer is not None
        for value, tensor in values.items():
            self.types.setdefault(value, TensorType(tensor.dtype, tensor.shape))
            self._given[value] = tensor
            self._skips = self._skips or value.producer is not None
            if tensor.dtype is not DType.STRING:
                self.contents[value] = elements_of(tensor)

    def declare(self, value: Value) -> None:
        """Give a graph input that the signature leaves out its declared type."""
        if value.type is not None:
            self.set_type(value, value.type)

    def set_type(self, value: Value, found: ValueType) -> None:
        self.types[value] = found
        if isinstance(found, TensorType) and not found.is_concrete:
            self.open.add(value)
        else:
            self.open.discard(value)

    def is_reached(self, value: Value) -> bool:
        """Whether the type of ``value`` is fully known."""
        return value.constant is not None or (value in self.types and value not in self.open)

    def type_of(self, value: Value) -> ValueType | None:
        """The type of a value that is reached, else None."""
        found = self.types.get(value)
        if found is None and value.constant is not None:
            found = self.types[value] = TensorType(value.constant.dtype, value.constant.shape)
        return None if value in self.open else found

    def content_of(self, value: Value) -> Array | None:
        """The content of a value if it is known and small."""
        found = self.contents.get(value)
        constant = value.constant
        if found is None and constant is not None and constant.size <= CONTENT_LIMIT:
            return None if constant.dtype is DType.STRING else elements_of(constant)
        return found

    def walk(self, graph: Graph) -> None:
        """Resolve every node of ``graph`` that can be reached."""
        opsets = self.opset_imports
        with writing_for_people():
            for node in graph.nodes:
                if self._inputs_reached(node) and not (self._skips and self._is_given(node)):
                    context = NodeContext(node, opsets.get(node.domain, 1), self.types, self.contents, self)
                    self._resolve_node(context)

    def _inputs_reached(self, node: Node) -> bool:
        types = self.types
        for value in node.inputs:
            if value is None:
                continue
            if value not in types:
                constant = value.constant
                if constant is None:
                    return False
                types[value] = TensorType(constant.dtype, constant.shape)
            elif value in self.open:
                return False
        for attribute in node.attributes.values():
            if attribute.kind in _GRAPH_KINDS:
                return all(self.is_reached(value) for value in captured_values(node))
        return True

    def _is_given(self, node: Node) -> bool:
        return all(value is None or value in self._given for value in node.outputs)

    def _resolve_node(self, ctx: NodeContext) -> None:
        node = ctx.node
        entry = find_shape_function(node.domain, node.op_type)
        try:
            check_ranks(ctx)
            check_agreement(ctx)
            if entry is not None:
                found = entry.function(ctx)
                if not entry.trusted:
                    _check_concrete(node, found)
            elif is_onnx_domain(node.domain):
                found = infer_with_onnx(ctx, self.opset_imports)
            else:
                found = _infer_custom(ctx)
        except UnresolvedShapeError as unresolved:
            self._block(ctx, unresolved, entry)
            return
        except ShapeMismatchError as mismatch:
            raise ModelError(self._describe(node, str(mismatch))) from None
        except MaceError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            if entry is None:
                raise
            raise ModelError(self._describe(node, "its attributes and inputs do not make sense together")) from error
        if len(found) < len(node.outputs):
            expected = f"it has at most {len(found)} outputs, not {len(node.outputs)}"
            raise ModelError(self._describe(node, expected))
        types = self.types
        for value, type_ in zip(node.outputs, found, strict=False):
            if value is not None and value not in self._given and type_ is not None:
                self._check_possible(node, type_)
                types[value] = type_
        self._check_work(node)
        self._evaluate(ctx)

    def _check_work(self, node: Node) -> None:
        work = node_work(node, self.types)
        if work > self._work_limit:
            needed = f"{min(work, 10**300):.1e} operations, more than the {self._work_limit:.1e}"
            allowed = f"that one node may take (the environment variable {WORK_LIMIT_VARIABLE} allows more)"
            raise ModelError(self._describe(node, f"it would take about {needed} {allowed}"))

    def _check_possible(self, node: Node, found: ValueType) -> None:
        """Refuse a tensor that no memory holds, and one of a size below zero."""
        if not isinstance(found, TensorType) or found.shape is None:
            return
        if len(found.shape) > MAX_RANK:
            raise ModelError(
                self._describe(
                    node, f"the result would have {len(found.shape)} dimensions; at most {MAX_RANK} are supported"
                )
            )
        dims = [dim for dim in found.shape if isinstance(dim, int)]
        for dim in dims:
            if dim < 0:
                raise ModelError(self._describe(node, f"the result {found} would have a negative dimension"))
        if math.prod(dims) > LARGEST_TENSOR_ELEMENTS:
            raise ModelError(self._describe(node, f"the result {found} is larger than any memory"))

    def _block(self, ctx: NodeContext, unresolved: UnresolvedShapeError, entry: ShapeEntry | None) -> None:
        node = ctx.node
        inputs = (ctx.node.input(index) for index in unresolved.indices)
        self.blocked[node] = tuple(dict.fromkeys(value for value in inputs if value is not None))
        types = unresolved.types
        if types is None:
            types = _element_types(ctx, entry.dtypes) if entry is not None else ()
        for value, found in zip(node.outputs, types, strict=False):
            if value is None or found is None or value in self._given:
                continue
            # one unknown output makes the whole node wait, so none of them counts as reached
            self.types[value] = TensorType(found.dtype) if isinstance(found, TensorType) else found
            self.open.add(value)

    def _evaluate(self, ctx: NodeContext) -> None:
        """Compute the contents of the outputs where all inputs are known and everything is small."""
        node = ctx.node
        entry = find_evaluator(node.domain, node.op_type)
        if entry is None:
            return
        evaluate = entry.function
        arrays: list[Array | None] = []
        if entry.reads_contents:
            for index, value in enumerate(node.inputs):
                if value is None:
                    arrays.append(None)
                    continue
                if value not in self.contents and (value.constant is None or not self.is_readable(value, None)):
                    return
                content = ctx.content(index)
                if content is None or not self.is_readable(value, content) or content.dtype.char not in _READABLE_KINDS:
                    return
                arrays.append(content)
        if not self.may_evaluate(node):
            return
        has_symbols = not entry.reads_contents and self._reads_symbolic_shape(node)
        for array in arrays:
            has_symbols |= array is not None and array.dtype == object
        if has_symbols:
            symbolic = find_symbolic_evaluator(node.domain, node.op_type)
            if symbolic is None:
                arrays = [None if array is None else self._numbers(node, i, array) for i, array in enumerate(arrays)]
            evaluate = symbolic or evaluate
        try:
            results = evaluate(ctx, arrays)
        except MaceError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            _log.debug("the content of node '%s' is left to the run: %s", node.name, error)
            return
        if results is None:
            return
        for value, result in zip(node.outputs, results, strict=False):
            if value is not None and value not in self._given:
                self.contents[value] = self._plain(value, np.asarray(result))

    def _reads_symbolic_shape(self, node: Node) -> bool:
        shapes = (found.shape or () for v in node.inputs if v and isinstance(found := self.types.get(v), TensorType))
        return any(is_symbolic(size) for shape in shapes for size in shape)

    def _numbers(self, node: Node, index: int, array: Array) -> Array:
        """The content of an input for the shapes at hand."""
        value = node.inputs[index]
        found = self.types.get(value) if value is not None else None
        return concrete(array).astype(found.dtype.numpy) if isinstance(found, TensorType) else concrete(array)

    def _plain(self, value: Value, content: Array) -> Array:
        found = self.types.get(value)
        if content.dtype != object or not isinstance(found, TensorType):
            return content
        return simplified(content, found.dtype.numpy)

    def is_readable(self, value: Value, content: Array | None) -> bool:
        """Whether a known content (where None, that of a constant) is small enough to compute with."""
        size = content.size if content is not None else value.constant.size if value.constant is not None else 0
        return size <= CONTENT_LIMIT

    def may_evaluate(self, node: Node) -> bool:
        """Whether the results of a node whose inputs are known are small enough to be computed."""
        found = [self.types.get(value) for value in node.outputs if value is not None]
        return all(isinstance(known, TensorType) and _is_small(known) for known in found)

    def _describe(self, node: Node, expected: str) -> str:
        model = self.root.source_path or (f"model '{shorten(self.root.name)}'" if self.root.name else "the model")
        inputs: list[str] = []
        for value in node.inputs:
            inputs.append(
                "(left out)" if value is None else f"'{shorten(value.name)}' {self.types.get(value, 'unknown')}"
            )
        return (
            f"{model}: node '{shorten(node.name)}' ({node.qualified_op}) cannot take its inputs: "
            f"{shorten(expected, LONGEST_REASON)}. "
            f"It was given {', '.join(inputs) or 'none'}. Check the model, or the shapes of the inputs fed to it."
        )

    def fail(self, node: Node, expected: str) -> ModelError:
        """The error for a node whose inputs cannot be."""
        return ModelError(self._describe(node, expected))

    def resolution(self) -> Resolution:
        """The findings as the public result."""
        known: dict[Value, Tensor] = {}
        for value, content in self.contents.items():
            if value.constant is None and not self._is_symbolic_float(value, content):
                known[value] = self._given.get(value) or _constant_payload(value) or self._tensor(value, content)
        return Resolution(dict(self.types), known, self.blocked)

    def _is_symbolic_float(self, value: Value, content: Array) -> bool:
        """Whether these are floats that follow from sizes: a run computes them, unless only shapes need them."""
        found = self.types.get(value)
        return content.dtype == object and isinstance(found, TensorType) and found.dtype.is_float

    def _tensor(self, value: Value, content: Array) -> Tensor:
        found = self.types.get(value)
        if content.dtype == object and isinstance(found, TensorType):
            return SymbolicTensor(found.dtype, content)
        return Tensor.from_numpy(content)


def _infer_custom(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Output types of a node of a domain that is not the standard's, by its registered custom operator.

    Raises:
        ShapeMismatchError: if the node does not fit the operator.
        UnresolvedShapeError: where there is none, or only the run tells.
    """
    from mace_core.operators.custom.registry import find_custom_op

    node = ctx.node
    op = find_custom_op(node.domain, node.op_type)
    if op is None:
        raise UnresolvedShapeError
    objection = op.check(node)
    if objection:
        raise ShapeMismatchError(objection)
    try:
        found = op.output_types(node, [ctx.type(i) if ctx.has(i) else None for i in range(ctx.input_count)])
    except Exception as error:  # the function is the application's: whatever it raises is about these inputs
        raise ShapeMismatchError(f"its shape function says: {type(error).__name__}: {error}") from error
    if found is None:
        raise UnresolvedShapeError
    _check_concrete(node, found)
    return found


_PLAIN_KINDS = "?bBhHiIlLqQefd"  # numpy's own numbers; extension types (bfloat16, float8) are left to the run
_READABLE_KINDS = _PLAIN_KINDS + "O"  # symbolic integers
_GRAPH_KINDS = frozenset({AttributeKind.GRAPH, AttributeKind.GRAPHS})


def _constant_payload(value: Value) -> Tensor | None:
    """The tensor a Constant node holds: given on as it is."""
    producer = value.producer
    if producer is None or producer.op_type != "Constant" or producer.domain:
        return None
    payload = producer.attr("value")
    return payload if isinstance(payload, Tensor) else None


def _is_small(known: TensorType) -> bool:
    for size in known.shape or ():  # a loop, as below: this is asked for every node
        if type(size) is not int and is_symbolic(size):
            return False  # there is no array of a size that is not decided
    return math.prod(known.shape or ()) <= CONTENT_LIMIT  # type: ignore[arg-type]  # concrete here


def _check_concrete(node: Node, found: Sequence[ValueType | None]) -> None:
    """Raise UnresolvedShapeError where a function that is not ours left a tensor's shape open."""
    for value, type_ in zip(node.outputs, found, strict=False):
        if value is not None and (type_ is None or (isinstance(type_, TensorType) and not type_.is_concrete)):
            raise UnresolvedShapeError(types=found)


def _element_types(ctx: NodeContext, rule: DTypeRule) -> Sequence[ValueType | None]:
    return [None if dtype is None else TensorType(dtype) for dtype in rule(ctx)]

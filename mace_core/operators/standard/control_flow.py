"""If, Loop, Scan and SequenceMap: the types that come out of their bodies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph.graph import Graph, Value
from mace_core.operators.attributes.ranks import check_length
from mace_core.operators.checks import expect_one, require
from mace_core.operators.context import Array, NodeContext, ShapeMismatchError, UnresolvedShapeError, normalize_axis
from mace_core.operators.registry import agreement, rank_check, shape_function
from mace_core.operators.resolver import Resolver
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------


@rank_check("Scan")
def check_scan_lengths(ctx: NodeContext) -> None:
    count = ctx.attr("num_scan_inputs", 0)
    states = ctx.input_count - count - (1 if ctx.opset < 9 else 0)
    for name in ("scan_input_axes", "scan_input_directions", "directions"):
        check_length(ctx, name, count)
    for name in ("scan_output_axes", "scan_output_directions"):
        check_length(ctx, name, ctx.output_count - states)


# --- shapes -----------------------------------------------------------------------------------------------------------


def _declared(values: Sequence[Value]) -> list[DType | None]:
    """Element types the body itself declares."""
    return [v.type.dtype if isinstance(v.type, TensorType) else None for v in values]


def _output_types(nested: Resolver, body: Graph) -> list[ValueType | None]:
    return [nested.type_of(value) for value in body.outputs]


def _element_types(found: Sequence[ValueType | None], declared: Sequence[DType | None]) -> list[ValueType | None]:
    """What is known of outputs whose shapes are not: element types."""
    result: list[ValueType | None] = []
    for type_, dtype in zip(found, declared, strict=True):
        if isinstance(type_, TensorType):
            result.append(TensorType(type_.dtype))
        else:
            result.append(type_ if type_ is not None or dtype is None else TensorType(dtype))
    return result


@shape_function("If")
def if_(ctx: NodeContext) -> Sequence[ValueType | None]:
    condition = ctx.content(0)
    branches: tuple[Graph, Graph] = (ctx.attr("then_branch"), ctx.attr("else_branch"))
    if condition is not None:
        return _taken_branch(ctx, branches[0] if bool(condition.reshape(-1)[0]) else branches[1])
    found: list[list[ValueType | None]] = []
    for branch in branches:
        nested = ctx.resolver.child()
        try:
            nested.walk(branch)
        except ModelError:
            # a branch that cannot work with these shapes may be one that is never taken
            raise UnresolvedShapeError(
                0, types=_element_types([None] * len(branch.outputs), _declared(branch.outputs))
            ) from None
        ctx.resolver.adopt(nested)
        found.append(_output_types(nested, branch))
    then, other = found
    if then != other or any(type_ is None for type_ in then):
        raise UnresolvedShapeError(0, types=_element_types(then, _declared(branches[0].outputs)))
    return then


def _taken_branch(ctx: NodeContext, branch: Graph) -> Sequence[ValueType | None]:
    resolver = ctx.resolver
    resolver.walk(branch)
    found = _output_types(resolver, branch)
    if any(type_ is None for type_ in found):
        raise UnresolvedShapeError(types=_element_types(found, _declared(branch.outputs)))
    for output, inner in zip(ctx.node.outputs, branch.outputs, strict=True):
        content = resolver.content_of(inner)
        if output is not None and content is not None:
            resolver.contents[output] = content
    return found


@shape_function("Loop")
def loop(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Carried values keep their types or the loop is left to the run; scan outputs need the number of iterations."""
    body: Graph = ctx.attr("body")
    carried = [ctx.type(index) for index in range(2, ctx.input_count)]
    if len(body.inputs) != len(carried) + 2 or len(body.outputs) < len(carried) + 1:
        raise ShapeMismatchError(f"the loop body must take and return the {len(carried)} carried values")
    nested = ctx.resolver.child()
    nested.set_type(body.inputs[0], TensorType(DType.INT64, ()))
    nested.set_type(body.inputs[1], TensorType(DType.BOOL, ()))
    nested.contents[body.inputs[1]] = np.array(True)  # a body runs only while the condition holds
    for value, type_ in zip(body.inputs[2:], carried, strict=True):
        nested.set_type(value, type_)
    nested.walk(body)
    found = _output_types(nested, body)[1:]
    declared = _declared(body.outputs)[1:]
    states, scanned = found[: len(carried)], found[len(carried) :]
    if states != carried or any(type_ is None for type_ in scanned):
        raise UnresolvedShapeError(types=_element_types(found, declared))
    ctx.resolver.adopt(nested)
    if not scanned:
        return states
    trips = _trip_count(ctx, nested.content_of(body.outputs[0]), _element_types(found, declared))
    return [*states, *(_stacked(type_, trips, 0) for type_ in scanned)]


def _trip_count(ctx: NodeContext, repeat: Array | None, types: Sequence[ValueType | None]) -> int:
    """How often the body runs; ``repeat`` is the condition it returns, where that is known."""
    condition = ctx.content(1)
    if ctx.has(1) and condition is None:
        raise UnresolvedShapeError(*(i for i in (0, 1) if ctx.has(i) and ctx.content(i) is None), types=types)
    if condition is not None and not bool(condition.reshape(-1)[0]):
        return 0
    if repeat is not None and not bool(repeat.reshape(-1)[0]):
        return min(1, max(0, ctx.ints(0)[0])) if ctx.content(0) is not None else _unless_zero(ctx, types)
    if repeat is None or not ctx.has(0):
        raise UnresolvedShapeError(types=types)
    if ctx.content(0) is None:
        raise UnresolvedShapeError(0, types=types)
    return max(0, ctx.ints(0)[0])


def _unless_zero(ctx: NodeContext, types: Sequence[ValueType | None]) -> int:
    if ctx.has(0):
        raise UnresolvedShapeError(0, types=types)
    return 1


def _stacked(element: ValueType | None, count: int, axis: int) -> ValueType:
    if not isinstance(element, TensorType):
        raise ShapeMismatchError("scan outputs must be tensors")
    shape = element.concrete_shape
    axis = normalize_axis(axis, len(shape) + 1)
    return TensorType(element.dtype, (*shape[:axis], count, *shape[axis:]))


@shape_function("Scan")
def scan(ctx: NodeContext) -> Sequence[ValueType | None]:
    if ctx.opset < 9:
        # the batched form of opset 8: left to the run; its first input may be lengths, so the body tells the types
        old: Graph = ctx.attr("body")
        raise UnresolvedShapeError(types=_element_types([None] * len(old.outputs), _declared(old.outputs)))
    body: Graph = ctx.attr("body")
    scans = ctx.attr("num_scan_inputs")
    states = ctx.input_count - scans
    carried = [ctx.type(index) for index in range(states)]
    if len(body.inputs) != ctx.input_count or len(body.outputs) < states:
        raise ShapeMismatchError(f"the scan body must take {ctx.input_count} values and return the {states} states")
    nested = ctx.resolver.child()
    for value, type_ in zip(body.inputs, carried, strict=False):
        nested.set_type(value, type_)
    axes = ctx.attr("scan_input_axes") or (0,) * scans
    lengths: list[int] = []
    for index in range(scans):
        shape = ctx.shape(states + index)
        axis = normalize_axis(axes[index], len(shape))
        lengths.append(shape[axis])
        element = TensorType(ctx.dtype(states + index), shape[:axis] + shape[axis + 1 :])
        nested.set_type(body.inputs[states + index], element)
    if not lengths or any(length != lengths[0] for length in lengths):
        raise ShapeMismatchError(f"all scanned inputs must have the same length, not {sorted(lengths)}")
    nested.walk(body)
    found = _output_types(nested, body)
    if found[:states] != carried or any(type_ is None for type_ in found):
        raise UnresolvedShapeError(types=_element_types(found, _declared(body.outputs)))
    ctx.resolver.adopt(nested)
    length = lengths[0]
    placed = ctx.attr("scan_output_axes") or (0,) * (len(found) - states)
    return [
        *found[:states],
        *(_stacked(type_, length, axis) for type_, axis in zip(found[states:], placed, strict=True)),
    ]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("Loop")
def check_loop(ctx: NodeContext) -> None:
    expect_one(ctx, 0, "the number of turns")
    require(not ctx.has(0) or ctx.dtype(0) in (DType.INT64, DType.INT32), "the number of turns must be an int64")
    _outputs_of_body(ctx, len(ctx.attr("body").outputs) - 1)


def _outputs_of_body(ctx: NodeContext, found: int) -> None:
    require(ctx.output_count <= found, f"its body gives {max(found, 0)} outputs, the node has {ctx.output_count}")


@agreement("If")
def check_branches(ctx: NodeContext) -> None:
    for name in ("then_branch", "else_branch"):
        _outputs_of_body(ctx, len(ctx.attr(name).outputs))


@agreement("Scan")
def check_scan(ctx: NodeContext) -> None:
    _outputs_of_body(ctx, len(ctx.attr("body").outputs))
    count = ctx.attr("num_scan_inputs", 0)
    if ctx.opset < 9:  # its first input is another one, and there is a batch
        for index in range(1, ctx.input_count):
            scanned = index >= ctx.input_count - count
            least, found = 1 + scanned, len(ctx.shape(index))
            require(found >= least, f"input {index} must have at least {least} axes, the first for the batch")
        return
    require(0 < count <= ctx.input_count, f"num_scan_inputs {count} is not from 1 to {ctx.input_count}")
    for name, most in (
        ("scan_input_directions", count),
        ("scan_output_directions", ctx.output_count - (ctx.input_count - count)),
    ):
        given = ctx.attr(name) or ()
        require(len(given) in (0, most) and set(given) <= {0, 1}, f"{name} {list(given)} must be {most} of 0 and 1")

"""Nested graphs whose steps are among those of the graph around them.

A branch or a body is a program of its own whose inputs and outputs lie in the memory of the program around it.  So no
step computes something of it together with something outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_cpu.shared.checks import concrete
from mace_cpu.shared.parts.buffers import At, Buf, Place
from mace_cpu.shared.parts.steps import Step
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import LOWERINGS, lower

MOST_NODES = 128
"""In the graphs of one node.  More take far longer than what is saved, and a branch may be compiled in vain."""

MOST_WEIGHT_BYTES = 1 << 20
"""Read by the graphs of one node, for the same reason."""

CHECKS: dict[str, Callable[[GraphView, Node, list[int]], str | None]] = {}
"""By operator, why a node with nested graphs is not lowered, given how many nodes and bytes of weights it may have."""


def spliced(program: Program, view: GraphView, sources: Mapping[Value, Buf], targets: Sequence[Buf]) -> list[Step]:
    """The steps of a nested graph, which read and write where ``sources`` and ``targets`` are."""
    inner = lower(view, program.settings, program)
    if inner.values.unsized:
        raise ValueError(f"the shape of a result of '{view.name}' is not known before the run")
    inputs = [sources[value] for value in view.inputs]
    first_dim_word = program.values.dim_words
    program.values.dim_words += inner.values.dim_words

    def moved(at: At) -> At:
        if at.buf.place is Place.INPUT:
            return At(inputs[at.buf.index], at.offset).in_whole()
        if at.buf.place is Place.OUTPUT:
            return At(targets[at.buf.index], at.offset).in_whole()
        if at.buf.place is Place.DIMS:
            return At(at.buf, at.offset + 8 * first_dim_word)
        return at

    for step in inner.steps.emitted:
        step.addresses = [(word, moved(at)) for word, at in step.addresses]
        step.form = None  # nothing around the nested graph is joined with it
    return inner.steps.emitted


def not_truth(view: GraphView, condition: Value) -> str | None:
    """Why a condition may not be one truth value in memory."""
    found = view.tensor_type(condition)
    if found is None or found.dtype is not DType.BOOL or not found.is_concrete:
        return f"the condition '{condition.name}' is not known to be a truth value"
    if any(type(size) is not int or size != 1 for size in found.concrete_shape):
        return f"the condition '{condition.name}' is not known to be one element"
    return None


def not_shared(view: GraphView, value: Value) -> str | None:
    """Why ``value`` cannot lie in the same memory inside and outside of a nested graph."""
    reason = concrete(view, value)
    if reason is not None:
        return reason
    found = view.tensor_type(value)
    if found is None or found.dtype is DType.STRING or found.dtype.is_packed:
        return f"'{value.name}' is not handed into or out of a nested graph here"
    return None


def why_not_here(view: GraphView, node: Node, left: list[int]) -> str | None:
    """Why a node of a nested graph cannot be lowered there."""
    left[0] -= 1
    read = {value: value.constant for value in node.inputs if value is not None and value.constant is not None}
    left[1] -= sum(constant.nbytes for constant in read.values())
    if min(left) < 0:
        limits = f"{MOST_NODES} nodes or {MOST_WEIGHT_BYTES} bytes of weights"
        return f"nested graphs of more than {limits} are compiled when they are run"
    for value in node.outputs:
        reason = concrete(view, value)
        if reason is not None:
            return reason
    if not node.domain and node.op_type in CHECKS:
        return CHECKS[node.op_type](view, node, left)
    lowering = LOWERINGS.find(node.domain, node.op_type)
    if lowering is None:
        return f"the cpu provider has no kernel for {node.qualified_op}"
    return lowering.check(view, node)

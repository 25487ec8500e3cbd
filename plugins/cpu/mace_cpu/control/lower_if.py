"""If: both branches are lowered, and a gate before the steps of each lets them run or passes them over.

A branch is a program of its own whose inputs and outputs lie in the memory of the program around it.  So no step
computes something of a branch together with something outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.tensor import DType
from mace_cpu.shared.checks import concrete
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import At, Buf, Place
from mace_cpu.shared.parts.steps import Step
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import LOWERINGS, lower, lowers

MOST_NODES = 128
"""In the branches of one If.  More take far longer than what is saved, and one branch may be compiled in vain."""

MOST_WEIGHT_BYTES = 1 << 20
"""Read by the branches of one If, for the same reason."""


def check_if(view: GraphView, node: Node) -> str | None:
    """The reason why the core has to run an If and compiles only the branches taken; None if there is none."""
    return _reason(view, node, [MOST_NODES, MOST_WEIGHT_BYTES])


@lowers("If", check=check_if)
def lower_if(program: Program, node: Node) -> None:
    view, values = program.facts.view, program.values
    branches = list(_branches(view, node))
    condition = None if len(branches) == 1 else values.read(need(node.input(0)))
    # what branches read is made ready before any of them: another branch, or later steps, may read it too
    sources = {value: values.read(value) for _, _, branch in branches for value in branch.inputs}
    targets = [values.write(value) for value in node.outputs if value is not None]
    for name, runs_if, branch in branches:
        steps = _steps(program, branch, sources, targets)
        if condition is None:
            program.steps.emitted += steps
        else:
            program.steps.emit_gated(condition, runs_if, steps, f"If ({name})")


def _branches(view: GraphView, node: Node) -> Iterator[tuple[str, bool, GraphView]]:
    """The branches that may be taken: name, the condition for it, and what of it the results need."""
    condition = view.constant(node.input(0))
    for name, runs_if in (("then_branch", True), ("else_branch", False)):
        body = node.attr(name)
        assert isinstance(body, Graph)
        if condition is None or bool(condition.numpy().reshape(-1)[0]) is runs_if:
            pairs = zip(node.outputs, body.outputs, strict=False)
            yield name, runs_if, view.nested(body, [inner for outer, inner in pairs if outer is not None])


def _steps(program: Program, view: GraphView, sources: Mapping[Value, Buf], targets: list[Buf]) -> list[Step]:
    """The steps of a branch, which read and write where ``sources`` and ``targets`` are."""
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
        step.form = None  # nothing around the branch is joined with it
    return inner.steps.emitted


def _reason(view: GraphView, node: Node, left: list[int]) -> str | None:
    """``left``: how many nodes, and how many bytes of weights, branches may have, which is counted down."""
    reason = _not_one_truth_value(view, need(node.input(0)))
    if reason is not None:
        return reason
    for name, _, branch in _branches(view, node):
        for value in (*branch.inputs, *branch.outputs):
            reason = _not_shared(branch, value)
            if reason is not None:
                return f"{name}: {reason}"
        for inner in branch.nodes:
            reason = _not_here(branch, inner, left)
            if reason is not None:
                return f"{name}: node '{inner.name}': {reason}"
    results = (value for value in node.outputs if value is not None)
    return next((reason for value in results if (reason := _not_shared(view, value)) is not None), None)


def _not_one_truth_value(view: GraphView, condition: Value) -> str | None:
    found = view.tensor_type(condition)
    if found is None or found.dtype is not DType.BOOL or not found.is_concrete:
        return f"the condition '{condition.name}' is not known to be a truth value"
    if any(type(size) is not int or size != 1 for size in found.concrete_shape):
        return f"the condition '{condition.name}' is not known to be one element"
    return None


def _not_shared(view: GraphView, value: Value) -> str | None:
    """Why ``value`` cannot lie in the same memory inside and outside of a branch."""
    reason = concrete(view, value)
    if reason is not None:
        return reason
    found = view.tensor_type(value)
    if found is None or found.dtype is DType.STRING or found.dtype.is_packed:
        return f"'{value.name}' is not handed into or out of a branch here"
    return None


def _not_here(view: GraphView, node: Node, left: list[int]) -> str | None:
    """Why a node of a branch cannot be lowered there."""
    left[0] -= 1
    read = {value: value.constant for value in node.inputs if value is not None and value.constant is not None}
    left[1] -= sum(constant.nbytes for constant in read.values())
    if min(left) < 0:
        limits = f"{MOST_NODES} nodes or {MOST_WEIGHT_BYTES} bytes of weights"
        return f"branches of more than {limits} are compiled when they are taken"
    for value in node.outputs:
        reason = concrete(view, value)
        if reason is not None:
            return reason
    if (node.domain, node.op_type) == ("", "If"):
        return _reason(view, node, left)
    lowering = LOWERINGS.find(node.domain, node.op_type)
    if lowering is None:
        return f"the cpu provider has no kernel for {node.qualified_op}"
    return lowering.check(view, node)

"""If: both branches are lowered, and a gate before the steps of each lets them run or passes them over."""

from __future__ import annotations

from collections.abc import Iterator

from mace_core.graph import Graph, GraphView, Node
from mace_cpu.control.nested import (
    CHECKS,
    MOST_NODES,
    MOST_WEIGHT_BYTES,
    not_shared,
    not_truth,
    spliced,
    why_not_here,
)
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


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
        steps = spliced(program, branch, sources, targets)
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


def _reason(view: GraphView, node: Node, left: list[int]) -> str | None:
    """``left``: how many nodes, and how many bytes of weights, branches may have, which is counted down."""
    reason = not_truth(view, need(node.input(0)))
    if reason is not None:
        return reason
    for name, _, branch in _branches(view, node):
        for value in (*branch.inputs, *branch.outputs):
            reason = not_shared(branch, value)
            if reason is not None:
                return f"{name}: {reason}"
        for inner in branch.nodes:
            reason = why_not_here(branch, inner, left)
            if reason is not None:
                return f"{name}: node '{inner.name}': {reason}"
    results = (value for value in node.outputs if value is not None)
    return next((reason for value in results if (reason := not_shared(view, value)) is not None), None)


CHECKS["If"] = _reason

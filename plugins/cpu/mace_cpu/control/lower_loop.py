"""Loop: the steps of the body, which are run again as long as there is a further turn.

As a branch of an If, a body is a program of its own.  A turn reads what is carried where the results of the loop are,
and computes into memory of its own, from which it is copied there before the next one.
"""

from __future__ import annotations

from typing import NamedTuple

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.graph.loops import MOST_ENDLESS_TURNS, ends_by_itself
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import hint
from mace_core.tensor import DType
from mace_cpu.control.nested import CHECKS, MOST_NODES, MOST_WEIGHT_BYTES, not_shared, not_truth, spliced, why_not_here
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

MOST_COPIED_BYTES = 1 << 16
"""After each turn.  The core, which copies nothing, is better at more."""

_KERNELS = "mace_cpu.control.kernels_loop"


class _Parts(NamedTuple):
    """A loop and what of its body the results need.

    Attributes:
        body: a view of that.
        going: what the body computes as the condition for a next turn; None where that is always true.
        states: (input of the node, input of the body, output of the body, output of the node), the last may be None.
        scans: (output of the body, output of the node).
    """

    body: GraphView
    going: Value | None
    states: list[tuple[Value, Value, Value, Value | None]]
    scans: list[tuple[Value, Value]]


def check_loop(view: GraphView, node: Node, left: list[int] | None = None) -> str | None:
    """The reason why the core has to run a loop; None if there is none.

    ``left``: how many nodes, and how many bytes of weights, it may have, which is counted down.
    """
    left = [MOST_NODES, MOST_WEIGHT_BYTES] if left is None else left
    trips, condition = node.input(0), node.input(1)
    if trips is not None and (found := view.tensor_type(trips)) is not None and found.dtype is not DType.INT64:
        return f"the number of turns '{trips.name}' is no int64"
    if condition is not None and (reason := not_truth(view, condition)) is not None:
        return reason
    parts = _parts(view, node)
    if parts is None:
        return "its body ends it after one turn"
    if not ends_by_itself(node.attr("body")):
        known = view.constant(trips)
        if trips is None or (known is not None and int(known.numpy().reshape(-1)[0]) > MOST_ENDLESS_TURNS):
            return "nothing ends it in time"
    body = parts.body
    for value in (*body.inputs, *body.outputs, *(state[0] for state in parts.states)):
        if (reason := not_shared(body, value)) is not None:
            return reason
    for value in (value for value in node.outputs if value is not None):
        if (reason := not_shared(view, value)) is not None:
            return reason
    for inner in body.nodes:
        if (reason := why_not_here(body, inner, left)) is not None:
            return f"node '{inner.name}': {reason}"
    copied = sum(Facts(body, 1).nbytes(value) for value in body.outputs)
    if hint(copied) > MOST_COPIED_BYTES:
        return f"a turn that hands on more than {MOST_COPIED_BYTES} bytes is run without copying them"
    return None


@lowers("Loop", check=check_loop)
def lower_loop(program: Program, node: Node) -> None:
    parts = _parts(program.facts.view, node)
    assert parts is not None, "checked before"
    values, steps, body = program.values, program.steps, parts.body
    inner = Facts(body, program.settings.block)
    given = node.attr("body").inputs
    counter, going = Buf.scratch(8), Buf.scratch(1)
    trips, condition = (None if value is None else values.read(value) for value in (node.input(0), node.input(1)))
    starts = [values.read(state[0]) for state in parts.states]
    read = {given[0]: counter, given[1]: going}
    kept: list[Buf] = []
    for _, taken, _, result in parts.states:
        kept.append(Buf.scratch(inner.nbytes(taken)) if result is None else values.write(result))
        read[taken] = kept[-1]
    sources = {value: read.get(value) or values.read(value) for value in body.inputs}
    targets = {value: Buf.scratch(inner.nbytes(value)) for value in body.outputs}
    sizes = [inner.nbytes(state[1]) for state in parts.states]
    control = {"trips": trips or 0, "counter": counter, "going": going}
    is_endless = not ends_by_itself(node.attr("body"))
    steps.emit(
        numba_source(_KERNELS, "begin_loop"),
        {
            **control,
            "most": MOST_ENDLESS_TURNS if is_endless else (1 << 63) - 1,
            "fault": steps.report(
                f"it would turn {{value}} times: its condition never becomes false, and no run lasts for more than "
                f"{MOST_ENDLESS_TURNS} turns"
            ),
            "condition": condition or 0,
            "count": len(kept),
            "target": kept,
            "source": starts,
            "nbytes": sizes,
        },
        extent=1,
        name="Loop",
    )
    ends = [state[2] for state in parts.states] + [scan[0] for scan in parts.scans]
    gathered = [values.write(scan[1]) for scan in parts.scans]
    widths = [inner.nbytes(scan[0]) for scan in parts.scans]
    turn = spliced(program, body, sources, [targets[value] for value in body.outputs])
    steps.emit(
        numba_source(_KERNELS, "end_turn"),
        {
            **control,
            "condition": 0 if parts.going is None else targets[parts.going],
            "count": len(ends),
            "target": [*kept, *gathered],
            "source": [targets[value] for value in ends],
            "nbytes": [*sizes, *widths],
            "stride": [*(0 for _ in kept), *widths],
        },
        extent=1,
        name="Loop (turn)",
    )
    steps.emit_repeated(going, [*turn, steps.emitted.pop()], "Loop")


def _parts(view: GraphView, node: Node) -> _Parts | None:
    """None where the body says that there is one turn and no more."""
    graph = node.attr("body")
    assert isinstance(graph, Graph)
    carried = len(graph.inputs) - 2
    results = [node.output(i) for i in range(len(graph.outputs) - 1)]
    states = [(need(node.input(2 + i)), graph.inputs[2 + i], graph.outputs[1 + i], results[i]) for i in range(carried)]
    scans = [
        (made, result)
        for made, result in zip(graph.outputs[1 + carried :], results[carried:], strict=True)
        if result is not None
    ]
    condition = view.constant(graph.outputs[0])
    if condition is not None and not condition.numpy().all():
        return None
    wanted = [] if condition is not None else [graph.outputs[0]]
    wanted += [state[2] for state in states] + [scan[0] for scan in scans]
    body = view.nested(graph, list(dict.fromkeys(wanted)))
    return _Parts(body, None if condition is not None else graph.outputs[0], states, scans)


CHECKS["Loop"] = check_loop

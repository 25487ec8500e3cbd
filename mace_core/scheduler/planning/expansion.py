"""The second round of asking: operators that no device claims are tried in equivalent forms.

Many operators are, by the standard, functions of simpler ones; and what is asked for in half precision can be computed
in float32.  Where no device but the reference takes a node, and all nodes of such a form are taken, that form runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from mace_core.errors import DeviceLostError, ModelError
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.operators.bodies import OPSET_OF_BODIES
from mace_core.operators.registry import body_of
from mace_core.provider import Capability
from mace_core.provider.border import reason_of
from mace_core.scheduler.host.core_nodes import runs_in_core
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.emptiness import empty_results
from mace_core.scheduler.planning.placement import ask_capability
from mace_core.scheduler.planning.selection import HOST_PROVIDER
from mace_core.scheduler.planning.stages import Stage, cut_stage, fragment, node_reads
from mace_core.scheduler.planning.widening import widened
from mace_core.tensor import Tensor, ValueType

_log = logging.getLogger("mace")

MAX_DEPTH = 5
"""Bodies within bodies: SoftmaxCrossEntropyLoss -> LogSoftmax -> … is two deep."""

Resolve = Callable[[Graph, Mapping[Value, ValueType], Mapping[Value, Tensor]], Resolution]
Capabilities = dict[str, Capability]


def expand_unclaimed(
    graph: Graph, stage: Stage, pool: DevicePool, resolve: Resolve, *, pinned: Mapping[Node, str]
) -> tuple[Graph, Capabilities]:
    """``graph`` with bodies in the place of nodes that no device claims, and what the devices said of ``stage``.

    The graph is the given one, and the answers are good for its stage, where nothing was replaced.
    """
    answers, left = _ask(stage, pool)
    bodies: dict[Node, list[Node]] = {}
    for node in left:
        if node not in pinned:
            body = _expanded(stage, node, pool, resolve, MAX_DEPTH)
            if body is not None:
                bodies[node] = body
    first = _first_in_order(pool)
    if first is not None and first.name in answers:
        claimed = {node for claim in answers[first.name].claims for node in claim.nodes}
        alone = DevicePool([first])
        for node in stage.nodes:
            if node not in claimed and node not in bodies and node not in pinned and not runs_in_core(node):
                body = _expanded(stage, node, alone, resolve, MAX_DEPTH)
                if body is not None:
                    bodies[node] = body
    if not bodies:
        return graph, answers
    nodes = [inner for node in graph.nodes for inner in bodies.get(node, (node,))]
    expanded = fragment(graph, nodes, graph.inputs, graph.outputs, name=graph.name)
    expanded.opset_imports = _imports(graph)
    return expanded, {}


def _first_in_order(pool: DevicePool) -> SessionDevice | None:
    """The accelerator that the user's order has in front of other devices: what it runs in another form runs there,
    though one behind it would take the node as it is.  None where costs decide: the other may be quicker."""
    devices = [device for device in pool.candidates() if not device.only_pinned]
    if pool.policy.by_cost or len(devices) < 2 or devices[0].device.provider == HOST_PROVIDER:
        return None
    if any(device.is_reference and not device.is_fallback for device in devices):
        return None  # named to compute operators as they are written
    return devices[0]


def _expanded(stage: Stage, node: Node, pool: DevicePool, resolve: Resolve, depth: int) -> list[Node] | None:
    """The nodes that can stand for ``node``, every one of them claimed; None where there are none."""
    from mace_core.scheduler.planning.function_bodies import function_body

    view = _view(stage, [node])
    for form in (body_of, widened, function_body, empty_results):
        body = form(view, node)
        found = None if body is None else _claimed(stage, node, body, pool, resolve, depth)
        if found is not None:
            return found
    return None


def _claimed(
    stage: Stage, node: Node, body: Graph, pool: DevicePool, resolve: Resolve, depth: int
) -> list[Node] | None:
    """The nodes of ``body``, in their turn replaced where nobody claims them; None if some cannot be."""
    body.opset_imports = _imports(stage.graph)
    types = {value: found for value in body.inputs if (found := stage.types.get(value, value.type)) is not None}
    known = {value: stage.known[value] for value in body.inputs if value in stage.known}
    try:
        inner = cut_stage(body, resolve(body, types, known), stage.trace)
    except ModelError as error:
        _log.info("a form of node '%s' (%s) is not used: %s", node.name, node.qualified_op, error)
        return None
    if inner.rest is not None:
        return None
    _, left = _ask(inner, pool)
    replaced: dict[Node, list[Node]] = {}
    for unclaimed in left:
        deeper = _expanded(inner, unclaimed, pool, resolve, depth - 1) if depth > 1 else None
        if deeper is None:
            return None
        replaced[unclaimed] = deeper
    return [part for inner_node in body.nodes for part in replaced.get(inner_node, (inner_node,))]


def _imports(graph: Graph) -> dict[str, int]:
    """The versions that hold for bodies: a graph without nodes of the default domain does not say which."""
    return {"": OPSET_OF_BODIES, **graph.opset_imports}


def _ask(stage: Stage, pool: DevicePool) -> tuple[Capabilities, list[Node]]:
    """What each device but the reference says of the stage, and the nodes none of them claims.

    Devices are asked in order, fallbacks only where something is left.
    """
    answers: Capabilities = {}
    left = [node for node in stage.nodes if not runs_in_core(node)]
    for device in pool.candidates():
        if device.is_reference and not device.is_fallback:
            return answers, []  # the user named it: it runs everything that is left
        if device.is_reference or device.only_pinned or not left or not pool.ready(device):
            continue
        try:
            answer = ask_capability(device, _view(stage, stage.nodes))
        except DeviceLostError as error:
            _log.warning("%s", error)
            pool.lose(device.name, error)
            continue
        except Exception as error:
            _log.info(
                "%s could not say what it runs: %s", device.name, reason_of(error)
            )  # placing asks again, and reports
            continue
        answers[device.name] = answer
        claimed = {node for claim in answer.claims for node in claim.nodes}
        left = [node for node in left if node not in claimed]
    return answers, left


def _view(stage: Stage, nodes: Sequence[Node]) -> GraphView:
    """A view of some nodes of a stage, as placing makes it."""
    made = {value for node in nodes for value in node.outputs if value is not None}
    reads = dict.fromkeys(value for node in nodes for value in node_reads(node))
    inputs = [v for v in reads if v not in made and v.constant is None and v not in stage.known]
    own = set(nodes)
    outside = set(stage.outputs)
    for node in stage.nodes:
        if node not in own:
            outside.update(node_reads(node))
    outputs = [v for node in nodes for v in node.outputs if v is not None and v in outside and v not in stage.known]
    return GraphView(
        stage.graph, nodes, inputs, outputs, stage.types, stage.known, name=stage.graph.name, trace=stage.trace
    )

"""Asking a device what it takes of a model, and finding what takes the place of what it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from mace_core.errors import MaceError, UsageError
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.operators.bodies import OPSET_OF_BODIES
from mace_core.operators.registry import body_of
from mace_core.progress import report
from mace_core.provider.registry import Registry, default_registry
from mace_core.scheduler.host.core_nodes import runs_in_core
from mace_core.scheduler.planning.assumptions import AssumedShapes
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.placement import ask_capability
from mace_core.scheduler.planning.selection import select_devices
from mace_core.scheduler.planning.settling import settled_shapes
from mace_core.scheduler.planning.signatures import types_from_shapes
from mace_core.scheduler.planning.stages import Stage, cut_stage, node_reads
from mace_core.scheduler.planning.widening import widened
from mace_core.scheduler.running.constants import HostConstants
from mace_core.tensor import TensorType
from mace_core.topology.report import Finding, TopologyReport
from mace_core.topology.rule import FEWEST_OPSET, Compute, Rule, rewritten, rules_by_operator
from mace_core.topology.spans import MOST_AXES, shorter, span_of
from mace_core.topology.spans import NAME as SPAN
from mace_core.topology.verify import TOLERANCE, difference

if TYPE_CHECKING:
    from mace_core.frontend.load import Model

_log = logging.getLogger("mace")

_DEPTH = 3
"""Rewrites within rewrites."""

_MOST_NAMES = 40

LATER = "its shapes are known only once the nodes before it have run"


class _Form(NamedTuple):
    """What takes the place of a node."""

    name: str
    nodes: list[Node]
    constants: dict[str, Value]
    error: float
    covers: tuple[Node, ...] = ()  # nodes around it that it takes the place of too


def check_topology(
    model: Model,
    device: str,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    optimize: bool = True,
    verify: bool = True,
    registry: Registry | None = None,
) -> TopologyReport:
    """Find what a device refuses of a model, and what rewrites mend.

    Each node that the device refuses is tried in other forms: those of the rules (`mace_core.topology.rewrites`), the
    function bodies that MACE and the ONNX standard have, and float32 for halves.  A form counts if the device takes
    every node of it, and it computes the same on random inputs, up to rounding.

    Args:
        model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph`` (taken over).
        device: ``provider`` or ``provider:device``; a target that cannot run on this machine too.
        shapes: of the inputs, by name; usual sizes are assumed for dimensions that the model leaves free.
        options: per provider or device, as for `mace_core.Session`.
        optimize: simplify the model first, as a session does.
        verify: run both forms of every rewritten node, and the whole model, on the host.
        registry: where providers are found.

    Raises:
        ModelError: if the model cannot be read.
        UsageError, DeviceNotFoundError, PluginError: for a device, options or names that mean nothing.
        InputError: if the shapes do not fit the model.
    """
    registry = registry or default_registry()
    host = HostConstants(registry)
    try:
        graph, label = _loaded(model, host, optimize=optimize)
        chosen = settled_shapes(graph, shapes or {}, label)
        pool = DevicePool(
            select_devices(
                registry, [device], options=options or {}, strict=True, graph=graph, model=label, for_execution=False
            )
        )
        try:
            asked = pool.candidates()[0]
            if not pool.ready(asked):
                raise UsageError(f"{device} cannot be opened: {pool.refusal(asked)}")
            return _Check(graph, label, asked, chosen, host, verify=verify).run()
        finally:
            pool.release()
    finally:
        host.close()


def _loaded(model: Model, host: Compute, *, optimize: bool) -> tuple[Graph, str]:
    from mace_core.frontend.load import load_model
    from mace_core.optimizer import default_passes
    from mace_core.optimizer import optimize as simplify

    graph = load_model(model)
    if optimize:
        simplify(graph, default_passes(host))
    named = f"model '{graph.name}'" if graph.name else "the model"
    return graph, named if graph.source_path is None else f"'{graph.source_path}'"


@dataclass(slots=True)
class _Answer:
    """What the device says of a stage."""

    stage: Stage
    refused: dict[Node, str]


class _Check:
    def __init__(
        self,
        graph: Graph,
        label: str,
        device: SessionDevice,
        shapes: AssumedShapes,
        compute: Compute,
        *,
        verify: bool,
    ) -> None:
        self._graph = graph
        self._label = label
        self._device = device
        self._shapes = shapes
        self._compute = compute
        self._verify = verify
        self._rules = rules_by_operator()
        self._opsets = {"": OPSET_OF_BODIES, **graph.opset_imports}
        self._users = graph.users()
        self._tried: dict[str, str] = {}

    def run(self) -> TopologyReport:
        first = self._ask(self._graph)
        findings: dict[Node, Finding] = {}
        forms: dict[Node, _Form] = {}
        covered: dict[Node, Node] = {}
        for number, (node, reason) in enumerate(first.refused.items()):
            report(f"looking for other forms of '{node.name}'", number, len(first.refused))
            self._tried = {}
            findings[node] = self._finding(first.stage, node, reason)
            if node in covered:
                continue
            form = None if reason == LATER else self._spanning(first.stage, node, covered)
            if form is None and reason != LATER:
                form = self._form(first.stage, node, _DEPTH)
            if form is None:
                findings[node] = replace(findings[node], tried=dict(self._tried))
                continue
            forms[node] = form
            covered |= dict.fromkeys(form.covers, node)
        for node, middle in covered.items():
            if node is not middle:
                forms.pop(node, None)
        graph, last = self._with(forms), first
        while forms:
            last = self._ask(graph)
            back = [node for node, form in forms.items() if any(each in last.refused for each in form.nodes)]
            if not back:
                break
            for node in back:  # taken by itself, and not beside its neighbors
                reason = next(last.refused[each] for each in forms[node].nodes if each in last.refused)
                findings[node] = replace(findings[node], tried={forms.pop(node).name: reason})
            graph, last = self._with(forms), first
        for node, form in forms.items():
            after = tuple(each.qualified_op for each in form.nodes)
            for each in (node, *(other for other in form.covers if other in findings)):
                findings[each] = replace(findings[each], rule=form.name, after=after, error=form.error)
        is_fixed = bool(forms) and any(not _is_concrete(value) for value in self._graph.inputs)
        error = self._whole_error(graph, first.stage) if forms and self._verify else None
        if is_fixed:
            self._fix(graph)
        return TopologyReport(
            self._label,
            self._device.name,
            ", ".join(f"{n}={'x'.join(map(str, s)) or 'scalar'}" for n, s in self._shapes.shapes.items()),
            self._shapes.note,
            _count(first),
            _count(first) - len(first.refused),
            _count(last),
            _count(last) - len(last.refused),
            list(findings.values()),
            error,
            graph,
            is_fixed,
        )

    # --- asking ---------------------------------------------------------------------------------------------------

    def _ask(self, graph: Graph) -> _Answer:
        from mace_core.operators import resolve

        types = types_from_shapes(graph.inputs, self._shapes.shapes, self._label)
        stage = cut_stage(graph, resolve(graph, types))
        refused = self._refused(stage)
        if stage.rest is not None:
            refused |= dict.fromkeys(stage.rest.nodes, LATER)
        return _Answer(stage, refused)

    def _refused(self, stage: Stage) -> dict[Node, str]:
        """The nodes of a stage that the device does not take, with the reasons."""
        answer = ask_capability(self._device, _view(stage, stage.nodes))
        claimed = {node for claim in answer.claims for node in claim.nodes}
        reasons = {rejection.node: rejection.reason for rejection in answer.rejections}
        return {
            node: reasons.get(node, f"{self._device.name} did not say why")
            for node in stage.nodes
            if node not in claimed and not runs_in_core(node)
        }

    # --- forms ----------------------------------------------------------------------------------------------------

    def _form(self, stage: Stage, node: Node, depth: int) -> _Form | None:
        """The first form that the device takes and that computes the same."""
        view = _view(stage, [node])
        for name, build in self._candidates(view, node):
            body = build()
            if body is None:
                continue
            try:
                form = self._accepted(stage, node, name, body, depth)
            except MaceError as error:
                self._tried[name] = str(error)
                continue
            if form is not None:
                return form
        return None

    def _spanning(self, stage: Stage, node: Node, covered: Mapping[Node, Node]) -> _Form | None:
        """A form of the node with the changes of shape around it, if the device takes that."""
        span = span_of(stage, node, self._users)
        if span is None or any(other in covered for other in span.nodes):
            return None
        for most in MOST_AXES:
            try:
                form = self._accepted(stage, node, SPAN, shorter(stage, span, node, most), 1, span.nodes)
            except MaceError as error:
                self._tried[SPAN] = str(error)
                continue
            if form is not None:
                return form._replace(covers=tuple(n for n in span.nodes if n is not node))
        return None

    def _candidates(self, view: GraphView, node: Node) -> list[tuple[str, Callable[[], Graph | None]]]:
        from mace_core.scheduler.planning.function_bodies import function_body

        def of_rule(rule: Rule) -> Callable[[], Graph | None]:
            return lambda: rewritten(rule, view, node, self._compute)

        found: list[tuple[str, Callable[[], Graph | None]]] = []
        if not node.domain and view.opset() < FEWEST_OPSET:
            self._tried["the rewrites"] = (
                f"they are for opset {FEWEST_OPSET} and newer, and the model has {view.opset()}"
            )
        elif not node.domain:
            found += [(rule.name, of_rule(rule)) for rule in self._rules.get(node.op_type, ())]
        found += [
            ("the operator in terms of others", lambda: body_of(view, node)),
            ("the function body that the standard gives", lambda: function_body(view, node)),
            ("float32 in the place of half precision", lambda: widened(view, node)),
        ]
        return found

    def _accepted(
        self, stage: Stage, node: Node, name: str, body: Graph, depth: int, originals: tuple[Node, ...] = ()
    ) -> _Form | None:
        """The form, if the device takes all of it, some parts in other forms again, and it computes the same.

        ``originals``: what it takes the place of, where that is more than ``node``.
        """
        from mace_core.operators import resolve

        body.opset_imports = self._opsets
        ends = [value for value in (body.inputs if originals else node.inputs) if value is not None]
        types = {value: type for value in ends if (type := stage.types.get(value, value.type)) is not None}
        known = {value: stage.known[value] for value in ends if value in stage.known}
        inner = cut_stage(body, resolve(body, types, known, opset_imports=self._opsets))
        if inner.rest is not None:
            return None
        parts: dict[Node, list[Node]] = {}
        reads = [value for each in body.nodes for value in each.inputs if value is not None]
        constants = {v.name: v for v in reads if v.constant is not None and v not in body.inputs}
        for part, reason in self._refused(inner).items():
            deeper = self._form(inner, part, depth - 1) if depth > 1 else None
            if deeper is None:
                self._tried.setdefault(name, f"{part.qualified_op}: {reason}")
                return None
            parts[part] = deeper.nodes
            constants |= deeper.constants
        nodes = [each for part in body.nodes for each in parts.get(part, (part,))]
        error = 0.0
        if self._verify and (depth == _DEPTH or originals):
            outputs = [value for value in body.outputs if value in {v for each in nodes for v in each.outputs}]
            try:
                before = originals or (node,)
                error = difference(before, nodes, ends, outputs, stage.types, self._opsets, self._compute, stage.known)
            except ValueError as why:
                self._tried[name] = str(why)
                return None
            if not error <= 1:
                self._tried[name] = "it does not compute the same here"
                _log.info("'%s' does not compute what '%s' does (%s times what is allowed)", name, node.name, error)
                return None
        return _Form(name, nodes, constants, error * TOLERANCE)

    # --- the model ------------------------------------------------------------------------------------------------

    def _finding(self, stage: Stage, node: Node, reason: str) -> Finding:
        def typed(values: Sequence[Value | None]) -> str:
            return ", ".join("" if v is None else str(stage.types.get(v, v.type) or "?") for v in values)

        before = f"{node.qualified_op}({typed(node.inputs)}) -> {typed(node.outputs)}"
        origin = self._graph.origin_of(node)
        return Finding(node.name, node.qualified_op, reason, before, "" if origin is None else str(origin))

    def _with(self, forms: Mapping[Node, _Form]) -> Graph:
        """The model with forms in the place of their nodes; shares nodes and values with it."""
        graph = Graph(self._graph.name)
        for name in ("inputs", "outputs", "opset_imports", "metadata", "doc_string", "source_path", "origins"):
            setattr(graph, name, getattr(self._graph, name))
        graph.defaults, graph.computed = self._graph.defaults, self._graph.computed
        graph.initializers = dict(self._graph.initializers)
        gone = {other for form in forms.values() for other in form.covers}
        for node in self._graph.nodes:
            form = forms.get(node)
            if node in gone and form is None:
                continue
            if form is None:
                graph.nodes.append(node)
                _own(node)
                continue
            graph.nodes += form.nodes
            graph.initializers |= form.constants
            for each in form.nodes:
                _own(each)
        graph.opset_imports = {**({"": OPSET_OF_BODIES} if forms else {}), **self._graph.opset_imports}
        return graph

    def _whole_error(self, graph: Graph, stage: Stage) -> float | None:
        """The largest difference of the two models; None where one of them cannot be run so."""
        try:
            found = difference(
                self._graph.nodes,
                graph.nodes,
                self._graph.inputs,
                [value for value in self._graph.outputs if value.producer is not None],
                stage.types,
                self._opsets,
                self._compute,
            )
        except (MaceError, ValueError) as error:
            _log.info("the whole model is not compared: %s", error)
            return None
        return found * TOLERANCE

    def _fix(self, graph: Graph) -> None:
        """Give the inputs the shapes that the forms are for."""
        for value in graph.inputs:
            if isinstance(value.type, TensorType) and value.name in self._shapes.shapes:
                value.type = TensorType(value.type.dtype, self._shapes.shapes[value.name])
        for node in graph.nodes:
            for output in node.outputs:
                if output is not None:
                    output.type = None if output not in graph.outputs else output.type


def _own(node: Node) -> None:
    for value in node.outputs:
        if value is not None:
            value.producer = node


def _is_concrete(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.is_concrete


def _count(answer: _Answer) -> int:
    nodes = [node for node in answer.stage.nodes if not runs_in_core(node)]
    return len(nodes) + (0 if answer.stage.rest is None else len(answer.stage.rest.nodes))


def _view(stage: Stage, nodes: Sequence[Node]) -> GraphView:
    """A view of some nodes of a stage."""
    made = {value for node in nodes for value in node.outputs if value is not None}
    reads = dict.fromkeys(value for node in nodes for value in node_reads(node))
    inputs = [v for v in reads if v not in made and v.constant is None and v not in stage.known]
    own, outside = set(nodes), set(stage.outputs)
    for node in stage.nodes:
        if node not in own:
            outside.update(node_reads(node))
    outputs = [v for node in nodes for v in node.outputs if v is not None and v in outside and v not in stage.known]
    return GraphView(stage.graph, nodes, inputs, outputs, stage.types, stage.known, name=stage.graph.name)


__all__ = ["check_topology"]

"""Steps and a model as one graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mace_core.errors import ModelError, UsageError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Node, Value
from mace_core.graph.copying import copy_graph
from mace_core.processing.step import FEWEST_OPSET, OnnxStep, Step
from mace_core.tensor import TensorType

if TYPE_CHECKING:
    from mace_core.frontend.load import Model

BEFORE, AFTER = "before", "after"
"""Beginnings of the names of nodes that belong to steps."""


@dataclass(frozen=True, slots=True)
class Processed:
    """A model with steps before and after it.

    Attributes:
        graph: all of it.
        without: the model alone.
        steps: what the steps do, for people: ``{"before": […], "after": […]}``, each with plain values.
    """

    graph: Graph
    without: Graph
    steps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def with_steps(model: Model, before: Sequence[Step] = (), after: Sequence[Step] = ()) -> Processed:
    """A model with steps before and after it, as one graph.

    Each step before takes the place of one or more inputs, each step after that of the outputs it reads; all others
    stay.  A step after may read what a step in front of it makes.

    Args:
        model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph`` (taken over).
        before, after: the steps, in order.

    Raises:
        ModelError: if the model or the graph of a step cannot be read.
        UsageError: if a step is not for this model.
    """
    without = load_model(model)
    merging = _Merging(copy_graph(without)[0])
    for number, step in enumerate(before):
        merging.put_before(step, f"{BEFORE}/{number}")
    for number, step in enumerate(after):
        merging.put_after(step, f"{AFTER}/{number}")
    described = {BEFORE: [step.described() for step in before], AFTER: [step.described() for step in after]}
    merging.graph.sort()
    return Processed(merging.graph, without, described)


class _Merging:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def put_before(self, step: Step, prefix: str) -> None:
        """Let a step make inputs."""
        inputs = {value.name: value for value in self.graph.inputs}
        part = self._built(step, self._port(step, inputs, "input"), prefix)
        made = self._paired(step, part.outputs, inputs, "input")
        for own, target in made:
            _check_fits(step, own, target, self.graph)
        replaced = {target for _, target in made}
        taken = self._names() - {value.name for value in replaced}
        for value in part.inputs:
            if value.name in taken:
                raise UsageError(
                    f"a step before the model has an input '{value.name}', which the model has too: rename it"
                )
        for own, target in made:
            self._take_place(part, own, target)
            target.name = f"{prefix}/made/{target.name}"
        self.graph.inputs = [*part.inputs, *(value for value in self.graph.inputs if value not in replaced)]
        self._add(part, first=True)

    def put_after(self, step: Step, prefix: str) -> None:
        """Let a step read outputs."""
        outputs = {value.name: value for value in self.graph.outputs}
        part = self._built(step, self._port(step, outputs, "output"), prefix)
        read = self._paired(step, part.inputs, outputs, "output")
        for own, source in read:
            _check_fits(step, source, own, self.graph)
        gone = {source for _, source in read}
        for own, source in read:
            _replace(part, own, source)
            if source.name in {value.name for value in part.outputs}:
                source.name = f"{prefix}/read/{source.name}"
        taken = self._names()
        for value in part.outputs:
            if value.name in taken:
                raise UsageError(
                    f"a step after the model has an output '{value.name}', which the model has too: rename it"
                )
        self.graph.outputs = [*part.outputs, *(value for value in self.graph.outputs if value not in gone)]
        self._add(part, first=False)

    def _built(self, step: Step, port: Value, prefix: str) -> Graph:
        opset = self.graph.opset_imports.get("", FEWEST_OPSET)
        if not isinstance(step, OnnxStep) and opset < FEWEST_OPSET:
            raise UsageError(
                f"steps are built for models of opset {FEWEST_OPSET} and newer, and this one has {opset}: give them as "
                "graphs of ONNX in the same opset, or export the model again"
            )
        part = step.build(port, self.graph.metadata, opset)
        for domain, version in part.opset_imports.items():
            own = self.graph.opset_imports.setdefault(domain, version)
            if own != version and _uses(part, domain):
                raise ModelError(
                    f"the step {step.described().get('file', '')} has opset {version} of '{domain or 'ai.onnx'}', and "
                    f"the model {own}: export both with the same one"
                )
        kept = {*part.inputs, *part.outputs}
        for value in _values(part):
            if value not in kept:
                value.name = f"{prefix}/{value.name}"
        for node in part.nodes:
            node.name = f"{prefix}/{node.name}"
            node.source = (node.name,)
        part.initializers = {value.name: value for value in part.initializers.values()}
        return part

    def _port(self, step: Step, ends: dict[str, Value], what: str) -> Value:
        """The input or output that a step is for."""
        if step.port:
            if step.port not in ends:
                known = ", ".join(f"'{name}'" for name in ends)
                raise UsageError(f"a step is for the {what} '{step.port}'; the model has {known}")
            return ends[step.port]
        if len(ends) != 1 and not isinstance(step, OnnxStep):
            known = ", ".join(f"'{name}'" for name in ends)
            raise UsageError(f"say which {what} a step is for ({what}=NAME); the model has {known}")
        return next(iter(ends.values()))

    def _paired(self, step: Step, own: Sequence[Value], ends: dict[str, Value], what: str) -> list[tuple[Value, Value]]:
        """The values of a step with those of the model that they are."""
        if not isinstance(step, OnnxStep):
            first = (own[0], self._port(step, ends, what))
            others = [(value, ends[value.name]) for value in own[1:] if value.name in ends] if what == "output" else []
            missing = [value.name for value in own[1:] if value.name not in ends] if what == "output" else []
            if missing:
                known = ", ".join(f"'{name}'" for name in ends)
                raise UsageError(f"a step reads the output '{missing[0]}'; the model has {known}")
            return [first, *others]
        if len(own) == 1 and (step.port or len(ends) == 1):
            return [(own[0], self._port(step, ends, what))]
        pairs = [(value, ends[value.name]) for value in own if value.name in ends]
        if (what == "input" and len(pairs) < len(own)) or not pairs:
            known = ", ".join(f"'{name}'" for name in ends)
            lost = next((value.name for value in own if value.name not in ends), "")
            raise UsageError(f"'{step.path}': '{lost}' is no {what} of the model, which has {known}")
        return pairs

    def _names(self) -> set[str]:
        return {value.name for value in _values(self.graph)}

    def _take_place(self, part: Graph, own: Value, target: Value) -> None:
        """Let ``target`` of the model be made by what makes ``own`` of the step."""
        node = own.producer
        if node is None:  # handed on as it is
            node = Node("Identity", [own], [target], name=f"{BEFORE}/made/{target.name}")
            part.nodes.append(node)
            return
        node.outputs = [target if value is own else value for value in node.outputs]
        target.producer = node
        for each in part.nodes:
            each.inputs = [target if value is own else value for value in each.inputs]

    def _add(self, part: Graph, *, first: bool) -> None:
        self.graph.nodes = [*part.nodes, *self.graph.nodes] if first else [*self.graph.nodes, *part.nodes]
        self.graph.initializers |= part.initializers


def _replace(part: Graph, old: Value, new: Value) -> None:
    from mace_core.optimizer.infra import replace_values

    replace_values(part, {old: new})
    part.outputs = [new if value is old else value for value in part.outputs]


def _uses(part: Graph, domain: str) -> bool:
    return any(node.domain == domain for node in part.nodes)


def _values(graph: Graph) -> Iterator[Value]:
    seen = {*graph.inputs, *graph.outputs, *graph.initializers.values()}
    for node in graph.nodes:
        seen.update(value for value in (*node.inputs, *node.outputs) if value is not None)
        for body in node.subgraphs():
            seen.update(_values(body))
    return iter(seen)


def _check_fits(step: Step, made: Value, taken: Value, graph: Graph) -> None:
    """Whether what one makes is what the other takes, as far as that is known."""
    one, other = made.type, taken.type
    if not isinstance(one, TensorType) or not isinstance(other, TensorType):
        return
    is_same = one.dtype is other.dtype
    if is_same and one.shape is not None and other.shape is not None:
        pairs = zip(one.shape, other.shape, strict=False)
        is_same = len(one.shape) == len(other.shape) and all(
            a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int)
        )
    if not is_same:
        raise UsageError(f"a step does not fit the model: '{made.name}' is {one}, and '{taken.name}' takes {other}")

"""Runs a model on devices and on a reference and compares its outputs, every value on the way, every node by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mace_core.errors import MaceError, UsageError
from mace_core.graph import Graph, Node
from mace_core.graph.kept import with_start
from mace_core.numerics.difference import compare
from mace_core.numerics.findings import Layer, Progress, Validation, described
from mace_core.numerics.noise import NO_FLOOR, noise_floors
from mace_core.numerics.peers import PEERS, check_installed
from mace_core.numerics.quantized import compare_quantized
from mace_core.numerics.subject import Subject
from mace_core.numerics.values import Options, alone, names_of, values_on_device, watched
from mace_core.operators.registry import is_random
from mace_core.provider.registry import Registry
from mace_core.scheduler.planning.preparing import prepare_model

if TYPE_CHECKING:
    from mace_core.frontend.load import Model

DEFAULT_TOLERANCE = 1e-3
"""Largest error allowed, as a part of the range of the value."""


def validate(
    model: Model,
    feeds: Mapping[str, Any],
    *,
    devices: Sequence[str] | None = None,
    options: Options | None = None,
    strict: bool = False,
    pins: Mapping[str, str] | None = None,
    against: str = "reference",
    tolerance: float = DEFAULT_TOLERANCE,
    layers: bool = False,
    isolated: bool = False,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Compare what devices compute with what a reference computes.

    Args:
        model: a path, bytes or an ``onnx.ModelProto`` (a Graph would be changed).
        feeds: as for ``Session.run``.
        devices, options, strict, pins: as for ``Session``; what is looked at.  The last two hold for the run as usual:
            values on the way are computed by graphs that nobody would run, on the same devices.
        against: the device that is believed, or "onnxruntime" or "openvino" where that is installed.
        tolerance: largest error allowed, as a part of the range of the reference's value.
        layers: compare every value, each after all before it ran on ``devices``; the error adds up on the way.  Of a
            quantized model, unless ``isolated``: compare every quantized value with what the reference makes of ours
            before it, in steps of the quantization.  More than one is too many, whatever the tolerance.
        isolated: run every node by itself too, fed with the reference's values: an error is the node's own.
        progress: told what is being done.

    Raises:
        MaceError: as of ``Session`` and its ``run``.
    """
    if isinstance(model, Graph):
        raise UsageError("a model to validate is a path, bytes or an onnx.ModelProto: a Graph would be changed")
    if not tolerance >= 0:
        raise UsageError(f"the tolerance is a number from 0 on, not {tolerance!r}")
    subject = Subject(model, devices, options, strict, pins, registry)
    comparison = _Comparison(subject, feeds, against, tolerance, progress or _silent)
    return comparison.run(layers=layers, isolated=isolated)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Of a subject with the device that is believed."""

    subject: Subject
    feeds: Mapping[str, Any]
    against: str
    tolerance: float
    progress: Progress

    def run(self, *, layers: bool, isolated: bool) -> Validation:
        check_installed(self.against)
        self.progress("running the model as usual", 0, 1)
        usual, placed = self.subject.run_as_usual(self.feeds)
        prepared = prepare_model(self.subject.model, optimize=True, cache=False, mmap=True)
        graph = prepared.graph
        comparison = replace(self, feeds=with_start(graph, self.feeds))
        return comparison._compared(prepared.label, graph, usual, placed, layers=layers, isolated=isolated)

    def _compared(
        self,
        label: str,
        graph: Graph,
        usual: Mapping[str, Any],
        placed: Mapping[str, int],
        *,
        layers: bool,
        isolated: bool,
    ) -> Validation:
        where = ", ".join(f"{device} ({count} nodes)" for device, count in placed.items())
        if layers and not isolated:
            done = Validation(label, where, self.against, self.tolerance, [])
            if compare_quantized(self.subject, self.feeds, usual, self._by_reference, done, self.progress):
                return done
        graph = watched(graph)
        expected, notes = self._expected(graph)
        floors = noise_floors(graph, {**self.feeds, **expected})
        outputs = [
            Layer(
                "",
                "",
                name,
                where,
                described(expected[name]),
                compare(found, expected[name]),
                floor=floors.get(name, NO_FLOOR),
            )
            for name, found in usual.items()
        ]
        done = Validation(label, where, self.against, self.tolerance, outputs, notes=notes)
        if layers or isolated:
            done.layers = self._layers(graph, expected, cumulative=layers)
        if isolated:
            self._isolate(graph, expected, done)
        for layer in done.layers:
            layer.floor = floors.get(layer.output, NO_FLOOR)
        notes += _notes(graph, done, layers=layers, isolated=isolated)
        done.verdict = self._verdict(graph, expected, done)
        return done

    def _by_reference(self, graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
        if self.against in PEERS:
            return PEERS[self.against](graph, feeds)
        return values_on_device(graph, feeds, [self.against], options=None, registry=self.subject.registry)[0]

    def _expected(self, graph: Graph) -> tuple[dict[str, Any], list[str]]:
        self.progress(f"running {self.against}", 0, 1)
        if self.against in PEERS:
            return PEERS[self.against](graph, self.feeds), []
        values, placed = values_on_device(
            graph, self.feeds, [self.against], options=None, registry=self.subject.registry
        )
        name = self.against.partition(":")[0]
        others = [node for node, device in placed.items() if device.partition(":")[0] not in (name, "core")]
        if not others:
            return values, []
        listed = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        return values, [f"{self.against} declined {len(others)} nodes, which ran elsewhere for it too: {listed}"]

    def _layers(self, graph: Graph, expected: Mapping[str, Any], *, cumulative: bool) -> list[Layer]:
        values: Mapping[str, Any] = {}
        placed: Mapping[str, str] = {}
        if cumulative:
            self.progress("running with every value kept", 0, 1)
            values, placed = self.subject.values(graph, self.feeds)
        return [
            Layer(
                node.name,
                node.qualified_op,
                name,
                placed.get(node.name, "planned" if cumulative else ""),
                described(expected[name]),
                compare(values[name], expected[name]) if cumulative else None,
            )
            for node, name in _results(graph)
        ]

    def _isolate(self, graph: Graph, expected: Mapping[str, Any], done: Validation) -> None:
        """Every node by itself."""
        by_node: dict[str, list[Layer]] = {}
        for layer in done.layers:
            by_node.setdefault(layer.node, []).append(layer)
        nodes = {node.name: node for node in graph.nodes}
        for number, (name, found) in enumerate(by_node.items()):
            self.progress(f"running '{name}' by itself", number, len(by_node))
            self._run_alone(graph, nodes[name], expected, found)

    def _run_alone(self, graph: Graph, node: Node, expected: Mapping[str, Any], layers: Sequence[Layer]) -> None:
        try:
            part, feeds = alone(graph, node, {**self.feeds, **expected})
            values, placed = self.subject.values(part, feeds)
        except MaceError as error:
            for layer in layers:
                layer.failure = str(error)
            return
        for layer in layers:
            layer.isolated = compare(values[layer.output], expected[layer.output])
            layer.device = layer.device or ", ".join(dict.fromkeys(placed.values())) or "planned"

    def _verdict(self, graph: Graph, expected: Mapping[str, Any], done: Validation) -> str:
        """One sentence: whether it agrees and, where every value was compared, which node is the first not to."""
        allowed = f"{done.tolerance:g} of the range"
        layer = done.first
        if layer is None:
            wrong = [o for o in done.outputs if done.diverges(o, o.difference)]
            if wrong:
                more = "" if done.layers else "; --layers shows which node is the first"
                if done.layers:
                    more = ", though every value on the way agrees: what the device fuses is wrong"
                return f"output '{wrong[0].output}' differs from {done.against} by more than {allowed}{more}"
            failed = [one for one in done.layers if one.failure]
            if failed:
                return f"node '{failed[0].node}' ({failed[0].op}) could not be run by itself: {failed[0].failure}"
            return f"everything compared agrees with {done.against} within {allowed}"
        text = (
            f"the first value that differs from {done.against} by more than {allowed} is '{layer.output}' of node "
            f"'{layer.node}' ({layer.op}) on {layer.device}"
        )
        if layer.difference is None:
            return f"{text}, fed with the values of {done.against}: the node itself is wrong"
        if layer.isolated is None and not layer.failure:
            node = next(node for node in graph.nodes if node.name == layer.node)
            self._run_alone(graph, node, expected, [one for one in done.layers if one.node == layer.node])
        if layer.failure:
            return f"{text}; by itself it could not be run: {layer.failure}"
        if done.diverges(layer, layer.isolated):
            return f"{text}; it does so too when fed with the values of {done.against}: the node itself is wrong"
        return f"{text}; fed with the values of {done.against} it agrees: the error has built up before it"


def _notes(graph: Graph, done: Validation, *, layers: bool, isolated: bool) -> list[str]:
    """What a reader has to know about the figures: what is split, left out, or noise."""
    notes = []
    if layers:
        notes.append("every value is kept for the figures per layer, so forms that a device fuses are split there")
    skipped = [node.name for node in graph.nodes if is_random(node.domain, node.op_type)] if layers or isolated else []
    if skipped:
        notes.append(f"nodes that draw random numbers are not compared: {', '.join(skipped)}")
    if noisy := done.only_noise():
        worst = max(noisy, key=lambda layer: layer.floor.total)
        notes.append(
            f"{len(noisy)} values differ by more than {done.tolerance:g} of their range, which is tiny, but by no "
            f"more than the roundings of the numbers they are made of (at most {worst.floor.total:.2g}, "
            f"of '{worst.output}'): they count as equal"
        )
    return notes


def _results(graph: Graph) -> Iterator[tuple[Node, str]]:
    """Every value that can be compared, with its node, in the order of the graph."""
    for node in graph.nodes:
        if not is_random(node.domain, node.op_type):
            for name in names_of(node.outputs):
                yield node, name


def _silent(what: str, done: int, total: int) -> None:
    """Nobody wants to know."""


__all__ = ["DEFAULT_TOLERANCE", "Layer", "Progress", "Validation", "validate"]

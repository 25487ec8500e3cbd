"""Compares the layers of a quantized model with a reference's, each by itself, in steps of its quantization.

A number of a quantized layer that lies between two steps may be rounded to either, and layers behind it make more of
that.  So the reference computes every layer from *our* values before it: what is said of a layer says nothing of those
before it, and what a framework fuses over several layers does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mace_core.errors import MaceError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Node, Value
from mace_core.numerics.difference import compare
from mace_core.numerics.findings import Layer, Progress, Validation, described
from mace_core.numerics.peers import Runner
from mace_core.numerics.quantized_layers import Cut, Part, cut_at_quantized_values, describe_layer
from mace_core.numerics.steps import ALLOWED_STEPS, count_steps, has_steps
from mace_core.numerics.subject import Subject
from mace_core.numerics.values import part_of
from mace_core.operators import resolve
from mace_core.scheduler.planning.stages import fragment
from mace_core.tensor import DType, TensorType


def compare_quantized(
    subject: Subject,
    feeds: Mapping[str, Any],
    usual: Mapping[str, Any],
    reference: Runner,
    done: Validation,
    progress: Progress,
) -> bool:
    """Add to ``done`` the outputs and layers of a quantized model, and say what is to be said of them.

    Args:
        usual: the outputs of a usual run.

    Returns:
        False, with nothing done, for a model without quantized values.
    """
    graph = load_model(subject.model)
    given = {name: np.asarray(content) for name, content in feeds.items()}
    cut = _cut(graph, given)
    if not cut.values:
        return False
    progress(f"running {done.against}", 0, len(cut.parts))
    try:
        whole = reference(fragment(graph, graph.nodes, graph.inputs, graph.outputs, name=graph.name), given)
    except MaceError as error:  # what cannot run the whole may run its layers
        done.notes.append(f"{done.against} gave no outputs of the whole model: {error}")
    else:
        done.outputs = [_output(name, found, whole[name], done.devices) for name, found in usual.items()]
    progress("running with every quantized value kept", 0, len(cut.parts))
    values, placed = _values(subject, cut, given)
    done.in_steps = True
    left_out = 0
    for number, part in enumerate(cut.parts):
        named = {value: describe_layer(part, value) for value in part.results}
        progress(f"running '{next(iter(named.values()))[0].name}' by itself", number, len(cut.parts))
        if part.is_random:
            left_out += len(named)
            continue
        expected, failure = _expected(graph, part, {**given, **values}, reference)
        for value, (node, operators) in named.items():
            device = _device(placed, node) or _device(placed, value.producer) or "planned"
            layer = Layer(node.name, operators, value.name, device, described(values[value.name]), failure=failure)
            if not failure:
                _judge(layer, values[value.name], expected[value.name])
            done.layers.append(layer)
    order = {value.name: index for index, value in enumerate(_in_order(graph))}
    done.layers.sort(key=lambda layer: order[layer.output])
    done.notes += _notes(done, cut, left_out)
    done.verdict = _verdict(done)
    return True


def _cut(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Cut:
    fed = {value: feeds[value.name] for value in graph.inputs if value.name in feeds}
    types = {value: TensorType(DType.from_numpy(array.dtype), array.shape) for value, array in fed.items()}
    return cut_at_quantized_values(graph, resolve(graph, types).types)


def _values(subject: Subject, cut: Cut, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Our outputs and quantized values, computed as always but that these are kept; and where each node ran."""
    graph = load_model(subject.model)
    there = {value.name: value for value in _in_order(graph)}
    outputs = dict.fromkeys([*graph.outputs, *(there[value.name] for value in cut.values)])
    return subject.run(fragment(graph, graph.nodes, graph.inputs, outputs, name=graph.name), feeds)


def _output(name: str, found: Any, expected: Any, where: str) -> Layer:
    return Layer("", "", name, where, described(expected), compare(found, expected))


def _device(placed: Mapping[str, str], node: Node | None) -> str:
    """Where a node ran, or the nodes of its body, which have its name before theirs."""
    if node is None:
        return ""
    inner = (device for name, device in placed.items() if name.startswith(f"{node.name}/"))
    return placed.get(node.name) or ", ".join(dict.fromkeys(inner))


def _in_order(graph: Graph) -> list[Value]:
    return [value for node in graph.nodes for value in node.outputs if value is not None]


def _expected(graph: Graph, part: Part, values: Mapping[str, Any], reference: Runner) -> tuple[Mapping[str, Any], str]:
    """What the reference makes of our values, by their names, or why it makes nothing of them."""
    nodes, results = part.separated()
    piece, fed = part_of(graph, nodes, results, values)
    try:
        made = reference(piece, fed)
    except MaceError as error:
        return {}, str(error)
    return {value.name: made[again.name] for value, again in zip(part.results, results, strict=True)}, ""


def _judge(layer: Layer, found: Any, expected: Any) -> None:
    layer.isolated = compare(found, expected)
    alike = all(isinstance(array, np.ndarray) for array in (found, expected)) and found.shape == expected.shape
    if alike and found.dtype == expected.dtype and has_steps(DType.from_numpy(found.dtype)):
        layer.steps = count_steps(found, expected)


def _notes(done: Validation, cut: Cut, left_out: int) -> list[str]:
    notes = [
        f"{done.against} computes each quantized value from those of {done.devices} before it, so errors do not add up "
        "over the layers; the outputs of the whole model show what they add up to, and are not judged"
    ]
    if cut.hidden:
        listed = ", ".join(node.name for node in cut.hidden)
        notes.append(f"quantized values in nested graphs are not compared one by one: {listed}")
    if left_out:
        notes.append(f"{left_out} values behind nodes that draw random numbers are not compared")
    return notes


def _verdict(done: Validation) -> str:
    stepped = [layer.steps for layer in done.layers if layer.steps is not None]
    failed = [layer for layer in done.layers if layer.failure]
    wrong = [layer for layer in done.layers if done.diverges(layer, layer.isolated)]
    allowed = f"{ALLOWED_STEPS} step"
    if wrong:
        worst = max(wrong, key=lambda layer: layer.steps.worst if layer.steps else 0)
        by = f"{worst.steps.worst} steps" if worst.steps else f"{_share(worst)} of its range"
        return (
            f"{len(wrong)} of {len(done.layers)} layers are more than {allowed} off what {done.against} makes of the "
            f"values before them; the worst is '{worst.output}' of node '{worst.node}' ({worst.op}) on {worst.device}, "
            f"off by {by}"
        )
    if failed:
        return (
            f"{len(failed)} of {len(done.layers)} layers could not be compared; the first is '{failed[0].output}' of "
            f"node '{failed[0].node}' ({failed[0].op}): {failed[0].failure}"
        )
    count, off = sum(steps.elements for steps in stepped), sum(steps.off for steps in stepped)
    exact = sum(not steps.off for steps in stepped)
    return (
        f"each of {len(stepped)} quantized values is within {allowed} of what {done.against} makes of the values before"
        f" it; {exact} have the same bits, and {off} of all {count} numbers differ"
    )


def _share(layer: Layer) -> str:
    return "?" if layer.isolated is None else f"{layer.isolated.relative:.2g}"


__all__ = ["compare_quantized"]

"""Looking at a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mace_core.errors import MaceError, ModelError
from mace_core.frontend.exporters.base import EXPORTED_BY
from mace_core.frontend.load import check_file, load_model, model_path, package_of
from mace_core.graph import Graph
from mace_core.graph.constants import constant_tensors
from mace_core.graph.kept import kept_state
from mace_core.graph.signature import Resolution
from mace_core.inspection.facts import Inspection, Severity, ValueFact
from mace_core.inspection.layers import layer_facts
from mace_core.inspection.memory import peak_activation_bytes
from mace_core.inspection.onnx_file import (
    add_deprecated,
    add_file_facts,
    add_missing_data,
    add_proto_counts,
    counted,
    read_proto,
)
from mace_core.inspection.package_file import add_package_facts
from mace_core.inspection.problems import add_problems, all_nodes
from mace_core.inspection.tflite_file import add_tflite_facts

_ORDER = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


class Examined(NamedTuple):
    """A model that was looked at.

    Attributes:
        found: everything found.
        graph: the model; None where it cannot be loaded.
        resolution: types of its values at the shapes that the figures are for; None where no such shapes are known.
    """

    found: Inspection
    graph: Graph | None
    resolution: Resolution | None


def inspect_model(path: str | Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Inspection:
    """Everything that can be told of a model file without running it.

    A model that cannot be loaded is described as far as its file can be read; the reason is among the problems.

    Args:
        path: the model file, of any format that a frontend reads.
        shapes: of inputs with free dimensions; usual sizes are assumed for the others.

    Raises:
        ModelError: if the file cannot be read at all.
        UsageError: if ``shapes`` do not fit the model.
    """
    return examine_model(path, shapes).found


def examine_model(path: str | Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Examined:
    """As `inspect_model`, with the graph that was looked at."""
    path = model_path(path)
    check_file(path)
    found = Inspection(str(path), path.stat().st_size)
    package = package_of(path, cache=False, mmap=True)
    if package is not None:
        add_package_facts(found, package)
    proto = read_proto(path)
    if proto is not None:
        add_file_facts(found, proto)
        add_missing_data(found, proto, path.parent)
        add_deprecated(found, proto)
    if path.suffix.lower() == ".tflite":
        add_tflite_facts(found, path)
    graph: Graph | None = None
    resolution: Resolution | None = None
    try:
        graph = load_model(path)
    except ModelError as error:
        if proto is None:
            raise
        if not any(problem.severity is Severity.ERROR for problem in found.problems):
            found.add(Severity.ERROR, f"the model cannot be loaded: {error}")
        add_proto_counts(found, proto)
    else:
        if proto is None:
            _add_interface(found, graph)
        _mark_state(found, graph)
        _add_graph_facts(found, graph)
        resolution = _add_sizes(found, graph, shapes or {})
        add_problems(found, graph, resolution)
        found.layers = layer_facts(graph, {} if resolution is None else resolution.types)
    found.problems.sort(key=lambda problem: _ORDER.index(problem.severity))
    return Examined(found, graph, resolution)


def _mark_state(found: Inspection, graph: Graph) -> None:
    """Tell inputs and outputs that a session keeps from those of applications."""
    try:
        states = kept_state(graph)
    except ModelError as error:
        found.add(Severity.ERROR, str(error))
        return
    names = {*states, *(state.output for state in states.values())}
    found.inputs = [replace(each, is_state=each.name in names) for each in found.inputs]
    found.outputs = [replace(each, is_state=each.name in names) for each in found.outputs]


def _add_interface(found: Inspection, graph: Graph) -> None:
    """Of a format that is not ONNX, as it was imported."""
    found.opsets = {domain or "ai.onnx": version for domain, version in graph.opset_imports.items()}
    found.inputs = [ValueFact(value.name, str(value.type)) for value in graph.inputs]
    found.outputs = [ValueFact(value.name, str(value.type)) for value in graph.outputs]
    found.inputs += [ValueFact(name, str(type), is_optional=True) for name, type in graph.defaults.items()]
    found.metadata = dict(graph.metadata)
    by = found.metadata.pop(EXPORTED_BY, "")
    told = {"graph": graph.name, "exported by": by, "description": graph.doc_string}
    found.properties |= {key: value for key, value in told.items() if value}


def _add_graph_facts(found: Inspection, graph: Graph) -> None:
    nodes = [node for node in all_nodes(graph) if node.op_type != "Constant" or node.domain]
    found.operators = dict(Counter(node.qualified_op for node in nodes).most_common())
    found.parameters = counted((tensor.dtype, tensor.size) for tensor in constant_tensors(graph))


def _add_sizes(found: Inspection, graph: Graph, given: Mapping[str, Sequence[int]]) -> Resolution | None:
    """Work and memory at the shapes given, or at usual ones; gives the types at those shapes."""
    from mace_core.operators import resolve
    from mace_core.operators.work import graph_macs
    from mace_core.scheduler.planning.assumptions import assumed_shapes
    from mace_core.scheduler.planning.signatures import given_shapes, types_from_shapes

    known = given_shapes(graph.inputs, given, f"'{found.model}'")
    failure: MaceError | None = None
    try:
        for candidate in assumed_shapes(graph.inputs, known):
            try:
                types = types_from_shapes(graph.inputs, candidate.shapes, f"'{found.model}'")
                resolution = resolve(graph, types)
            except MaceError as error:
                failure = failure or error
                continue
            found.shapes, found.assumed = dict(candidate.shapes), candidate.note
            found.macs = sum(graph_macs(graph, resolution.types).values())
            found.peak_activation_bytes = peak_activation_bytes(graph, resolution.types)
            found.unsized = len(resolution.blocked)
            return resolution
    except MaceError as error:  # an input of unknown rank
        failure = error
    if failure is not None:
        text = f"work and memory are not known, for no shapes were found that the model takes: {failure}"
        found.add(Severity.WARNING, text, "give --shape")
    return None

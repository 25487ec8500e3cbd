"""What is wrong or odd in a model that can be loaded."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mace_core.errors import MaceError
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.graph.computed import ComputedTensor
from mace_core.graph.graph import captured_values
from mace_core.graph.signature import Resolution
from mace_core.inspection.facts import Inspection, Severity
from mace_core.operators.processing import DOMAIN as PROCESSING
from mace_core.tensor import DType, Tensor, TensorType

if TYPE_CHECKING:
    from mace_core.scheduler.planning.devices import DevicePool

_log = logging.getLogger("mace")

_STANDARD_DOMAINS = ("", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training")
_NAMES_SHOWN = 5
MOST_BYTES_READ = 1 << 30
"""Weights beyond this are not looked through."""
_FLOATS = (DType.FLOAT32, DType.FLOAT64, DType.FLOAT16)


def add_problems(found: Inspection, graph: Graph, resolution: Resolution | None) -> None:
    """Tell operators that nobody knows, free dimensions, odd element types, numbers that are none, what nothing reads.

    Args:
        resolution: types at the shapes the inspection is for, where they are known.
    """
    _add_unknown_operators(found, graph, resolution)
    _add_free_dimensions(found, graph)
    _add_odd_types(found, graph)
    _add_not_finite(found, graph)
    _add_unused(found, graph)


def _add_unknown_operators(found: Inspection, graph: Graph, resolution: Resolution | None) -> None:
    """Operators outside the standard that neither the core nor a registered function computes, and who would."""
    unknown = [node for node in all_nodes(graph) if not _core_knows(node)]
    if not unknown:
        return
    runners = _who_runs(graph, unknown, resolution)
    counts = Counter(node.qualified_op for node in unknown)
    for operator, count in counts.items():
        nodes = f"{operator} ({count} node{'s' * (count != 1)}{_layer_of(graph, unknown, operator)})"
        able = sorted({name for node in unknown if node.qualified_op == operator for name in runners.get(node, ())})
        if able:
            found.add(Severity.NOTE, f"{nodes} is not a standard operator; {', '.join(able)} runs it")
        else:
            found.add(
                Severity.ERROR,
                f"{nodes} is not an operator that is known here, and no provider that is installed runs it",
                "install the provider or the package of operators that the model was made for, or register one "
                "with mace_core.custom_op",
            )


def _layer_of(graph: Graph, nodes: Sequence[Node], operator: str) -> str:
    """The first node of an operator, with the layer of the author's model that it comes from; "" where none tells."""
    for node in nodes:
        if node.qualified_op == operator and (origin := graph.origin_of(node)) is not None:
            return f", first '{node.name}' of {origin}"
    return ""


def _core_knows(node: Node) -> bool:
    from mace_core.operators.custom.registry import find_custom_op
    from mace_core.operators.registry import operators_with_body

    if node.domain in (*_STANDARD_DOMAINS, PROCESSING) or find_custom_op(node.domain, node.op_type) is not None:
        return True
    return node.op_type in operators_with_body(node.domain)


def _who_runs(graph: Graph, wanted: Sequence[Node], resolution: Resolution | None) -> Mapping[Node, list[str]]:
    """The real devices of this machine that claim each of some nodes; nothing is compiled."""
    from mace_core.provider.registry import default_registry
    from mace_core.scheduler.planning.custom_ops import provide_custom_ops
    from mace_core.scheduler.planning.devices import DevicePool
    from mace_core.scheduler.planning.selection import select_devices

    registry = default_registry()
    provide_custom_ops(graph, registry)
    pool = DevicePool(select_devices(registry, None, options={}, strict=False, graph=graph))
    types = dict(resolution.types) if resolution is not None else {}
    known: dict[Value, Tensor] = dict(resolution.known) if resolution is not None else {}
    view = GraphView(graph, graph.nodes, graph.inputs, graph.outputs, types, known)
    runners: dict[Node, list[str]] = {}
    try:
        for name, claimed in _claims(pool, view):
            for node in wanted:
                if node in claimed:
                    runners.setdefault(node, []).append(name)
    finally:
        pool.release()
    return runners


def _claims(pool: DevicePool, view: GraphView) -> Iterator[tuple[str, set[Node]]]:
    for device in pool.candidates():
        if device.is_reference:
            continue
        try:
            if pool.ready(device):
                backend = device.backend
                answer = device.answer("saying what it runs", functools.partial(backend.capability, view))
                yield device.name, {node for claim in answer.claims for node in claim.nodes}
        except MaceError as error:
            _log.info("%s could not say what it runs: %s", device.name, error)


def _add_free_dimensions(found: Inspection, graph: Graph) -> None:
    free = [
        f"{value.name} {value.type}"
        for value in graph.inputs
        if isinstance(value.type, TensorType) and not value.type.is_concrete
    ]
    if free:
        found.add(
            Severity.NOTE,
            f"free dimensions: {_shown(free)}",
            "every new shape is planned when it first comes; Session.prepare does it ahead",
        )


def _add_odd_types(found: Inspection, graph: Graph) -> None:
    doubles = [count for count in found.parameters if count.dtype == DType.FLOAT64.label]
    if doubles and doubles[0].nbytes * 2 > found.weight_bytes:
        text = f"{doubles[0].elements} of {found.parameter_count} parameters are float64"
        found.add(Severity.WARNING, text, "most devices compute in float32; export the model in float32")
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.type.dtype is DType.FLOAT64:
            found.add(Severity.NOTE, f"the input '{value.name}' is float64, which few devices take")
        if isinstance(value.type, TensorType) and value.type.dtype is DType.STRING:
            found.add(Severity.NOTE, f"the input '{value.name}' is a string, which the core and the reference handle")


def _add_not_finite(found: Inspection, graph: Graph) -> None:
    """Weights that are NaN or infinite: a training that went wrong.  Infinities alone may be meant (masks)."""
    if found.weight_bytes > MOST_BYTES_READ:
        return
    bad: list[str] = []
    for each in (graph, *_bodies(graph)):
        for value in each.initializers.values():
            tensor = value.constant
            if isinstance(tensor, ComputedTensor):  # from constants that are looked at where they stand
                continue
            if tensor is not None and tensor.dtype in _FLOATS and tensor.size:
                missing = int(np.isnan(tensor.numpy()).sum())
                if missing:
                    bad.append(f"'{value.name}' ({missing} of {tensor.size})")
    if bad:
        found.add(Severity.WARNING, f"constants hold NaN: {_shown(bad)}", "results that depend on them are NaN too")


def _bodies(graph: Graph) -> Iterator[Graph]:
    for node in graph.nodes:
        for body in node.subgraphs():
            yield body
            yield from _bodies(body)


def _add_unused(found: Inspection, graph: Graph) -> None:
    read = set(graph.outputs)
    for node in all_nodes(graph):
        read.update(value for value in node.inputs if value is not None)
        read.update(captured_values(node) if node.attributes else ())
        for body in node.subgraphs():
            read.update(body.outputs)
    inputs = [value.name for value in graph.inputs if value not in read]
    if inputs:
        found.add(Severity.WARNING, f"nothing reads the inputs {_shown(inputs)}", "they have to be fed all the same")
    weights = [value for value in graph.initializers.values() if value not in read]
    if weights:
        nbytes = sum(value.constant.nbytes for value in weights if value.constant is not None)
        text = f"nothing reads {len(weights)} of the constants ({nbytes} bytes): {_shown([v.name for v in weights])}"
        found.add(Severity.NOTE, text)
    dead = [node.name for node in graph.nodes if not any(value in read for value in node.outputs)]
    if dead:
        found.add(Severity.NOTE, f"nothing reads what {len(dead)} of the nodes compute: {_shown(dead)}")


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{', '.join(names[:_NAMES_SHOWN])}{more}"


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of all bodies in it."""
    for node in graph.nodes:
        yield node
        for body in node.subgraphs():
            yield from all_nodes(body)

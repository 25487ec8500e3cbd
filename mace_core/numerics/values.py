"""Every value of a graph, as one device or onnxruntime computes it, and single nodes fed with given values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mace_core.errors import UsageError
from mace_core.graph import Graph, Node, Value
from mace_core.provider.registry import Registry
from mace_core.scheduler.planning.stages import fragment, node_reads
from mace_core.session import Session
from mace_core.tensor import DType, TensorType

ONNXRUNTIME = "onnxruntime"

Options = Mapping[str, Mapping[str, object]]


def watched(graph: Graph) -> Graph:
    """``graph`` with every value that its nodes compute among its outputs, so that no provider can hide one."""
    outputs = dict.fromkeys(graph.outputs)
    outputs.update(dict.fromkeys(value for node in graph.nodes for value in node.outputs if value is not None))
    return fragment(graph, graph.nodes, graph.inputs, outputs, name=graph.name)


def alone(graph: Graph, node: Node, values: Mapping[str, Any]) -> tuple[Graph, dict[str, Any]]:
    """The graph of one node, and what to feed it: what it reads, as found in ``values``.

    Types of the values become those of ``values``: the graph must be one that nobody plans with any more.
    """
    reads = [value for value in node_reads(node) if value.constant is None]
    for value in reads:
        _take_type(value, values[value.name])
    outputs = [value for value in node.outputs if value is not None]
    part = fragment(graph, [node], reads, outputs, name=graph.name)
    return part, {value.name: values[value.name] for value in reads}


def _take_type(value: Value, content: Any) -> None:
    if isinstance(content, np.ndarray):
        dtype = DType.STRING if content.dtype.kind in "OSU" else DType.from_numpy(content.dtype)
        value.type = TensorType(dtype, content.shape)


def values_on_device(
    graph: Graph,
    feeds: Mapping[str, Any],
    devices: Sequence[str] | None,
    *,
    options: Options | None,
    registry: Registry | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """All outputs of ``graph`` by name, and the device of each node by its name."""
    with Session(graph, devices=devices, options=options, optimize=False, cache=False, registry=registry) as session:
        results = session.run(feeds)
        placed: dict[str, str] = {}
        for entry in session.explain().nodes:
            if not entry.scope:
                placed.setdefault(entry.node, entry.device)
    return results, placed


def values_by_onnxruntime(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """All outputs of ``graph`` by name, computed by onnxruntime without its optimizations.

    Raises:
        UsageError: where onnxruntime is not installed, or cannot run the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("onnxruntime is not installed: 'pip install onnxruntime' brings it") from None
    from mace_core.frontend.onnx.export import to_onnx

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    names = [value.name for value in graph.outputs]
    try:
        content = to_onnx(graph).SerializeToString()
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        results = session.run(names, dict(feeds))
    except Exception as error:  # onnxruntime raises classes of its own, all derived from Exception alone
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"onnxruntime cannot run this model ({first}): compare with another device") from error
    return dict(zip(names, results, strict=True))


def names_of(values: Iterable[Value | None]) -> list[str]:
    """Names of those that are there."""
    return [value.name for value in values if value is not None]

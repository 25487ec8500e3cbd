"""The reference provider: every node through ``onnx.reference``.  The oracle and the last fallback; never fast.

It is always reported as a fallback and never counted as native.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mace_core.errors import UsageError
from mace_core.graph import AttributeKind, GraphView, Node
from mace_core.provider import (
    ApiVersion,
    Backend,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    DeviceKind,
    ExecutionProvider,
    ProbeResult,
    Rejection,
    ShapeSupport,
)
from mace_core.scheduler.host.calls import HostSubgraph, NodeFunction
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType, MemoryKind
from mace_core.version import VERSION

REFERENCE_NAME = "reference"


class ReferenceProvider(ExecutionProvider):
    """Runs anything ``onnx.reference`` can, one node at a time, on the host."""

    name: ClassVar[str] = REFERENCE_NAME
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 0)

    def probe(self) -> ProbeResult:
        return ProbeResult(devices=(REFERENCE_DEVICE,))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        if options:
            raise UsageError(f"the reference provider has no options; it was given {', '.join(sorted(options))}")
        return ReferenceBackend(device)


REFERENCE_DEVICE = Device(
    provider=REFERENCE_NAME,
    id="0",
    kind=DeviceKind.CPU,
    name="onnx.reference (slow, for fallback and comparison)",
    vendor="mace",
    dtypes=frozenset(DType),
    memory_kinds=(MemoryKind.HOST,),
)


class ReferenceBackend(Backend):
    """The open reference device."""

    shape_support = ShapeSupport.STATIC  # some functions are made for the shapes at hand
    compiles_per_shape = False

    def __init__(self, device: Device = REFERENCE_DEVICE) -> None:
        self.device = device

    def capability(self, view: GraphView) -> Capability:
        """Claims each node for which an implementation or a function body is found; checked, not assumed."""
        claimed: list[Node] = []
        rejections: list[Rejection] = []
        for node in view.nodes:
            reason = _why_not(view, node)
            if reason is None:
                claimed.append(node)
            else:
                rejections.append(Rejection(node, reason))
        return Capability((Claim(tuple(claimed)),) if claimed else (), rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        return [HostSubgraph(view, self.device.qualified_name, _node_function, "onnx.reference") for view in subgraphs]


def _why_not(view: GraphView, node: Node) -> str | None:
    """Why onnx.reference cannot run ``node``; None where it can."""
    if any(attribute.kind in (AttributeKind.GRAPH, AttributeKind.GRAPHS) for attribute in node.attributes.values()):
        return "onnx.reference is given no nested graphs; the core runs control flow itself"
    from mace_core.scheduler.host.reference_legacy import legacy_objection
    from mace_core.scheduler.host.reference_mends import objection

    reason = legacy_objection(node, view.opset()) or objection(node)
    if reason is not None:
        return reason
    try:
        _evaluator(view, node)
    except Exception as error:
        # onnx.reference answers an op it lacks with any of five exception types; the words are what the user needs.
        if node.domain and not node.domain.startswith("ai.onnx"):
            return "onnx.reference has no implementation; mace_core.custom_op registers operators of your own"
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"onnx.reference has no implementation: {first}"
    return None


def _node_function(view: GraphView, node: Node) -> NodeFunction:
    """A call of the evaluator, by position."""
    evaluator = _evaluator(view, node)
    names = [f"o{index}" for index, value in enumerate(node.outputs) if value is not None]

    def call(inputs: Sequence[RuntimeValue]) -> Sequence[RuntimeValue]:
        feeds = {f"i{k}": given for k, (value, given) in enumerate(zip(node.inputs, inputs, strict=True)) if value}
        with np.errstate(all="ignore"):  # a logarithm of zero is the model's business, not a warning's
            results: Sequence[RuntimeValue] = evaluator.run(names, feeds)
        return results

    from mace_core.scheduler.host.reference_mends import mended

    return mended(view, node, call)


def _evaluator(view: GraphView, node: Node) -> Any:
    """An evaluator of the one-node model of ``node``."""
    from onnx.reference import ReferenceEvaluator

    from mace_core.scheduler.host.reference_proto import node_model

    return ReferenceEvaluator(node_model(view, node))


__all__ = ["REFERENCE_DEVICE", "REFERENCE_NAME", "ReferenceBackend", "ReferenceProvider"]

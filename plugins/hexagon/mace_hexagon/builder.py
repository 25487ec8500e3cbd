"""Builds described graphs in a QNN context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mace_hexagon.description import QOp, QTensor
from mace_hexagon.qnn.handles import GraphSettings, QnnContext, QnnGraph
from mace_hexagon.qnn.marshal import Marshal


@dataclass(frozen=True)
class Port:
    """An input or output of a finished graph: what an execution needs to bind memory to it."""

    tensor: QTensor
    number: int


@dataclass(frozen=True)
class BuiltGraph:
    """A finalized graph.

    Attributes:
        inputs, outputs: in the order they were asked for.
        steps: name of a QNN operation -> names of the model's nodes it stands for.
    """

    graph: QnnGraph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def build(
    context: QnnContext,
    name: str,
    ops: Sequence[QOp],
    inputs: Sequence[QTensor],
    outputs: Sequence[QTensor],
    settings: GraphSettings,
) -> BuiltGraph:
    """Create and finalize one graph.

    Raises:
        ProviderError: the class that fits, if the library refuses.
    """
    graph = context.create_graph(name, settings)
    marshal = Marshal()
    numbers: dict[QTensor, int] = {}

    def register(described: QTensor) -> None:
        if described not in numbers:
            tensor = marshal.tensor(described)
            graph.create_tensor(tensor)
            numbers[described] = int(tensor.any.v1.id)

    for tensor in inputs:
        register(tensor)
    for op in ops:
        for tensor in (*op.inputs, *op.outputs):
            register(tensor)
        config = marshal.op(op, numbers)
        for parameter in marshal.param_tensors(config):
            graph.create_tensor(parameter)
        graph.add(config)
    graph.finalize()
    return BuiltGraph(
        graph,
        tuple(Port(tensor, numbers[tensor]) for tensor in inputs),
        tuple(Port(tensor, numbers[tensor]) for tensor in outputs),
        {op.name: op.source for op in ops},
    )

"""What MACE's statistics tell of a layer: stride, padding, filter, dilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mace_core.graph import Graph, Node, Value
from mace_core.report.model_facts import all_nodes, origins
from mace_core.tensor import TensorType, ValueType

_WEIGHT_INPUT = {
    "Conv": 1,
    "ConvTranspose": 1,
    "ConvInteger": 1,
    "DeformConv": 1,
    "FusedConv": 1,
    "QLinearConv": 3,
    "Gemm": 1,
    "FusedGemm": 1,
    "MatMul": 1,
    "FusedMatMul": 1,
    "MatMulInteger": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
    "LSTM": 1,
    "GRU": 1,
    "RNN": 1,
}
"""Which input of an operator is its filter."""

_WINDOWED = frozenset({"Conv", "ConvTranspose", "ConvInteger", "DeformConv", "FusedConv", "QLinearConv"})
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "MaxUnpool"})


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Of one node; a tuple is empty, and a text "", where the operator has no such thing.

    Attributes:
        strides, dilations: along the spatial axes.
        pads: as text: begins of the spatial axes and then ends, or how they follow from the shapes (SAME_UPPER).
        filter: shape of the weights, as the model stores them; of a pool, its window.
        output: shape of the first result; None where it is not known before the run.
    """

    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: str = ""
    filter: tuple[int, ...] = ()
    output: tuple[int, ...] | None = None

    @property
    def is_layer(self) -> bool:
        """Whether it has a filter or a window: what a fused step is described by."""
        return bool(self.filter)


def layer_facts(graph: Graph, types: Mapping[Value, ValueType]) -> dict[str, LayerFacts]:
    """By what steps of a run tell as their source, nested graphs included; of several nodes that with a filter."""
    found: dict[str, LayerFacts] = {}
    for node in all_nodes(graph):
        facts = _facts(node, types)
        for origin in origins(node):
            if facts.is_layer or origin not in found or not found[origin].is_layer:
                found[origin] = facts
    return found


def _facts(node: Node, types: Mapping[Value, ValueType]) -> LayerFacts:
    output = _shape(node.output(0), types)
    if node.op_type in _POOLS:
        window = tuple(node.attr("kernel_shape", ()))
        return LayerFacts(*_steps(node, len(window)), window, output)
    place = _WEIGHT_INPUT.get(node.op_type)
    filter = None if place is None else _shape(node.input(place), types)
    if filter is None:
        return LayerFacts(output=output)
    if node.op_type in _WINDOWED:
        return LayerFacts(*_steps(node, len(filter) - 2), filter, output)
    return LayerFacts(filter=filter, output=output)


def _steps(node: Node, spatial: int) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    ones = (1,) * spatial
    how = node.attr("auto_pad", "NOTSET")
    pads = how if how != "NOTSET" else listed(tuple(node.attr("pads", (0, 0) * spatial)))
    return tuple(node.attr("strides", ones)), tuple(node.attr("dilations", ones)), pads


def listed(numbers: tuple[int, ...]) -> str:
    """As MACE writes them: ``[1,3,224,224]``; "" for none."""
    return f"[{','.join(map(str, numbers))}]" if numbers else ""


def _shape(value: Value | None, types: Mapping[Value, ValueType]) -> tuple[int, ...] | None:
    if value is None:
        return None
    kind = types.get(value, value.type)
    return kind.concrete_shape if isinstance(kind, TensorType) and kind.is_concrete else None

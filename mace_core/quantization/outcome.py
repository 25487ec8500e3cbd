"""What a quantization made of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.graph import Graph, Node
from mace_core.quantization.budget import Budget
from mace_core.quantization.configure import Configuration
from mace_core.quantization.prepare import label_of
from mace_core.quantization.ranges import HistogramObserver
from mace_core.tensor import QuantEncoding

if TYPE_CHECKING:
    from mace_core.quantization.report import Report


@dataclass(slots=True)
class Judged:
    """How a task's metric came out.

    Attributes:
        before, after: of the float and of the quantized model.
        kept: nodes that stay in float for it, the most sensitive first.
        steps: ``(nodes in float, score)`` of every try, in order.
    """

    before: float
    after: float
    kept: list[str]
    steps: list[tuple[int, float]]


@dataclass(slots=True)
class Outcome:
    """A quantized graph and how it came about; nodes and values are known by their names in the float graph.

    Attributes:
        graph: what is written.
        nodes: those that compute in fewer bits, or have weights of fewer.
        floats: why others, which could be expected to, do not.
        samples: of calibration data.
        configuration: what was quantized of the float graph, where activations were.
        encodings: of computed values.
        observers: what was seen of each.
        weights: integers and encoding of the weights of each product.
        notes: what else the user should know.
        judged: how the task's metric came out, where one was given.
        budget: the size that was asked for, where one was.
        sensitivity: ``(node, signal to noise in dB)`` of each product quantized alone, where they were ranked.
        report: figures and warnings for people, where they were asked for.
    """

    graph: Graph
    nodes: list[str] = field(default_factory=list)
    floats: dict[str, str] = field(default_factory=dict)
    samples: int = 0
    configuration: Configuration | None = None
    encodings: dict[str, QuantEncoding] = field(default_factory=dict)
    observers: dict[str, HistogramObserver] = field(default_factory=dict)
    weights: dict[str, tuple[npt.NDArray[Any], QuantEncoding]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    judged: Judged | None = None
    budget: Budget | None = None
    sensitivity: list[tuple[str, float]] = field(default_factory=list)
    report: Report | None = None

    def add_tables(self, tables: Mapping[Node, tuple[npt.NDArray[Any], QuantEncoding]]) -> None:
        """Take in the nodes whose tables were stored as integers."""
        for node, weights in tables.items():
            self.nodes.append(node.name)
            self.floats.pop(node.name, None)
            self.weights[node.name] = weights

    def check_any(self) -> None:
        """
        Raises:
            UsageError: if nothing was quantized.
        """
        if not self.nodes:
            reasons = list(dict.fromkeys(self.floats.values()))
            if any(True for node in self.graph.nodes for _ in node.subgraphs()):
                reasons = ["control flow: its graphs stay in float", *reasons]
            reasons = list(dict.fromkeys(reasons)) or ["it has no operator that multiplies with weights"]
            raise UsageError(f"{label_of(self.graph)} has no node to quantize: {'; '.join(reasons[:3])}")

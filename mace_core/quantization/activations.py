"""Quantizing activations and weights: calibration, encodings, and the graph that says both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.graph.copying import copy_graph
from mace_core.operators.resolver import resolve
from mace_core.quantization.calibrate import Runner, sample_types
from mace_core.quantization.configure import Configuration, configure
from mace_core.quantization.data import CalibrationData
from mace_core.quantization.encodings import dequantize, encoding_for_range
from mace_core.quantization.moments import computed_products, gather_grams, gather_means
from mace_core.quantization.outcome import Outcome
from mace_core.quantization.prepare import inferred_types
from mace_core.quantization.ranges import HistogramObserver, make_observer
from mace_core.quantization.rounding import rounding_progress
from mace_core.quantization.settings import Settings
from mace_core.quantization.tables import store_tables
from mace_core.quantization.weights.gram import Gram
from mace_core.quantization.weights.products import Product, bias_shift, product_of, round_product
from mace_core.quantization.write_qdq import WeightRule, write_qdq
from mace_core.tensor import QuantEncoding, ValueType


class Calibrated:
    """A float graph and what calibration found out about it: quantized as often as is asked for, never changed.

    Attributes:
        graph: in float.
        types: of its values for the first sample, as far as they are known.
        observers: by the name of the value.
        samples: how many there were.
    """

    def __init__(
        self,
        graph: Graph,
        data: CalibrationData,
        settings: Settings,
        runner: Runner,
        excluded: Mapping[Node, str],
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """
        Args:
            ranges: of values, by their names; those of the others are found on the data.

        Raises:
            UsageError: if there is nothing to quantize.
            InputError: if the data do not fit, or a value is not finite.
        """
        self.graph = graph
        self.settings = settings
        self.excluded = dict(excluded)
        _, first = next(iter(data))
        resolution = resolve(graph, sample_types(graph, first))
        self.types: dict[Value, ValueType] = {**inferred_types(graph), **resolution.types}
        self._shape_values = set(resolution.known)
        configuration = self.configure({})
        Outcome(
            graph, [node.name for node in configuration.nodes], {n.name: r for n, r in configuration.floats.items()}
        ).check_any()
        self._given = dict(ranges or {})
        unknown = [value for value in configuration.values if value.name not in self._given]
        self.observers: dict[str, HistogramObserver] = {
            value.name: make_observer(
                settings.algorithm, value.name, settings.activation_grid, percentile=settings.percentile
            )
            for value in unknown
        }
        self.samples = runner.observe(graph, unknown, data, self._watch, types=self.types) if unknown else 0
        self._rounded: dict[str, tuple[npt.NDArray[Any], QuantEncoding]] = {}
        self._means: dict[str, npt.NDArray[Any]] = {}
        products = computed_products(configuration.nodes)
        self._products = len(products)
        if settings.rounding != "nearest":
            gather_grams(graph, products, data, runner, self._round, types=self.types)
        elif settings.corrects_bias:
            self._means = gather_means(graph, products, data, runner, types=self.types)

    def _round(self, product: Product, gram: Gram) -> None:
        name = product.node.name
        self._rounded[name] = round_product(
            product,
            gram,
            self.settings.weight_grid,
            rounding=self.settings.rounding,
            is_per_channel=self.settings.is_per_channel,
            is_centered=self.settings.corrects_bias,
            tell=rounding_progress(len(self._rounded), self._products),
        )
        if self.settings.corrects_bias:
            self._means[name] = gram.means()

    def _shift(self, node: Node, integers: npt.NDArray[Any], encoding: QuantEncoding) -> npt.NDArray[Any] | None:
        """What rounding the weights of a node moves its results by in the mean, to be added to its bias."""
        product = product_of(node)
        if product is None or node.name not in self._means:
            return None
        return bias_shift(product, self._means[node.name], dequantize(integers, encoding))

    def configure(self, more: Mapping[Node, str]) -> Configuration:
        """What is quantized if ``more`` nodes stay in float, each with the reason."""
        return configure(self.graph, self.types, excluded={**self.excluded, **more}, shape_values=self._shape_values)

    def quantize(self, floats: Mapping[str, str] | None = None) -> Outcome:
        """The quantized graph.

        Args:
            floats: names of nodes that stay in float beside those excluded, each with the reason.
        """
        by_name = {node.name: node for node in self.graph.nodes}
        configuration = self.configure({by_name[name]: reason for name, reason in (floats or {}).items()})
        encodings = self.encodings(configuration)
        graph, values = copy_graph(self.graph)
        copied = _moved(configuration, graph, values)
        written = write_qdq(
            copied,
            {values[value]: encoding for value, encoding in encodings.items()},
            WeightRule(self.settings.weight_grid, self.settings.is_per_channel),
            {node: self._rounded[node.name] for node in copied.nodes if node.name in self._rounded},
            self._shift if self._means else None,
        )
        found = Outcome(
            graph,
            [node.name for node in configuration.nodes],
            {node.name: reason for node, reason in configuration.floats.items()},
            self.samples,
            configuration,
            {value.name: encoding for value, encoding in encodings.items()},
            self.observers,
            {node.name: weights for node, weights in written.weights.items()},
        )
        spared = {*(node.name for node in self.excluded), *(floats or {})}
        found.add_tables(
            store_tables(graph, self.settings.weight_grid, [node for node in graph.nodes if node.name in spared])
        )
        return found

    def encodings(self, configuration: Configuration) -> dict[Value, QuantEncoding]:
        """The encoding of each value: of the widest range among those that share it."""
        encodings: dict[Value, QuantEncoding] = {}
        for group in configuration.groups().values():
            ranges = [self._range(configuration, value) for value in group]
            low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
            encodings |= dict.fromkeys(group, encoding_for_range(low, high, self.settings.activation_grid))
        return encodings

    def _range(self, configuration: Configuration, value: Value) -> tuple[float, float]:
        if (fixed := configuration.fixed.get(value)) is not None:
            return fixed
        if (given := self._given.get(value.name)) is not None:
            return given
        low, high = self.observers[value.name].range()
        return float(low), float(high)

    def _watch(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, array in values.items():
            self.observers[name].update(array)


def _moved(configuration: Configuration, graph: Graph, values: Mapping[Value, Value]) -> Configuration:
    """A configuration of ``graph``, a copy of the one that it was made for."""
    nodes = {node.name: node for node in graph.nodes}
    return Configuration(
        graph,
        [nodes[node.name] for node in configuration.nodes],
        {nodes[node.name]: reason for node, reason in configuration.floats.items()},
        {values[value]: values[leader] for value, leader in configuration.values.items()},
        {nodes[one.name]: nodes[other.name] for one, other in configuration.activations.items()},
        {nodes[one.name]: nodes[other.name] for one, other in configuration.biases.items()},
        {values[value]: fixed for value, fixed in configuration.fixed.items()},
    )

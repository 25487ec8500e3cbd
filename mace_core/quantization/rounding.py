"""Rounding that looks at data, for weights stored in few bits; and equalization, which comes before all rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.operators.resolver import resolve
from mace_core.progress import report
from mace_core.quantization.calibrate import Runner, sample_types
from mace_core.quantization.data import CalibrationData
from mace_core.quantization.equalization import equalize, find_pairs
from mace_core.quantization.grids import Grid
from mace_core.quantization.moments import computed_products, gather_grams
from mace_core.quantization.prepare import inferred_types
from mace_core.quantization.settings import Settings
from mace_core.quantization.weight_only import Round, block_of, nearest, reason_against
from mace_core.quantization.weights.adaround import Tell
from mace_core.quantization.weights.gram import Gram
from mace_core.quantization.weights.products import Product, round_product
from mace_core.tensor import QuantEncoding, ValueType

Array: TypeAlias = npt.NDArray[Any]


def compensated_rounding(
    graph: Graph, data: CalibrationData, settings: Settings, runner: Runner, excluded: Mapping[Node, str]
) -> Round:
    """A rounding of the weights of a graph's products that makes up for its errors on the data.

    Raises:
        InputError: if the data do not fit, or an input is not finite.
    """
    nodes = [node for node in graph.nodes if reason_against(node, excluded) is None]
    found: dict[str, tuple[Array, QuantEncoding]] = {}

    products = computed_products(nodes)

    def use(product: Product, gram: Gram) -> None:
        block = block_of(product.inputs, settings.block)
        integers, encoding = round_product(
            product,
            gram,
            settings.weight_grid,
            rounding=settings.rounding,
            is_per_channel=settings.is_per_channel or settings.block > 0,
            block_size=block,
            tell=rounding_progress(len(found), len(products)),
        )
        found[product.node.name] = _by_inputs(product, integers, encoding)

    gather_grams(graph, products, data, runner, use, types=types_for(graph, data))

    def rounded(node: Node, weights: Array, grid: Grid, axis: int | None, block: int) -> tuple[Array, QuantEncoding]:
        return found.get(node.name) or nearest(node, weights, grid, axis, block)

    return rounded


def rounding_progress(number: int, products: int) -> Tell:
    """What hears how far the rounding of one product is, and reports how far that of all is."""

    def tell(done: int, steps: int) -> None:
        report("rounding weights", number * steps + done, products * steps)

    return tell


def equalize_layers(graph: Graph, data: CalibrationData, runner: Runner) -> int:
    """Equalize the layers of a graph in place; returns how many were scaled.

    Raises:
        InputError: if the data do not fit.
    """
    clipped = [pair.clipped for pair in find_pairs(graph) if pair.clipped is not None]
    largest: dict[str, Array] = {}

    def watch(values: Mapping[str, Array]) -> None:
        for name, array in values.items():
            most = array.max(axis=tuple(axis for axis in range(array.ndim) if axis != 1))
            largest[name] = np.maximum(largest[name], most) if name in largest else most

    if clipped:
        runner.observe(graph, clipped, data, watch, types=types_for(graph, data), what="looking at channels")
    return len(equalize(graph, {value: largest[value.name] for value in clipped if value.name in largest}))


def types_for(graph: Graph, data: CalibrationData) -> dict[Value, ValueType]:
    """The types of a graph's values for the first sample, as far as they are known."""
    _, first = next(iter(data))
    return {**inferred_types(graph), **resolve(graph, sample_types(graph, first)).types}


def _by_inputs(product: Product, integers: Array, encoding: QuantEncoding) -> tuple[Array, QuantEncoding]:
    """Integers and encoding in the form (inputs, results)."""
    if product.channel_axis == 1:
        return integers, encoding
    has_matrix = encoding.scale.ndim == 2
    scale = np.ascontiguousarray(encoding.scale.T) if has_matrix else encoding.scale
    zero = np.ascontiguousarray(encoding.zero_point.T) if has_matrix else encoding.zero_point
    axis = None if encoding.axis is None else 1 - encoding.axis
    turned = QuantEncoding(encoding.dtype, scale, zero, axis, encoding.block_size)
    return np.ascontiguousarray(integers.T), turned

"""Moments of the inputs of a graph's products, gathered in as many passes over the data as memory asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.host.blas import blas_threads
from mace_core.quantization.calibrate import Runner
from mace_core.quantization.data import CalibrationData
from mace_core.quantization.weights.gram import Gram, in_passes
from mace_core.quantization.weights.products import Product, product_of
from mace_core.tensor import ValueType

Array: TypeAlias = npt.NDArray[Any]


class Means:
    """The mean input of one product.

    Attributes:
        sums: (groups, inputs) float64.
        rows: how many inputs were seen.
    """

    def __init__(self, product: Product) -> None:
        self.sums: Array = np.zeros((product.groups, product.inputs))
        self.rows = 0

    def update(self, rows: Array) -> None:
        """Take in inputs, (groups, any, inputs)."""
        self.sums += rows.sum(axis=1, dtype=np.float64)
        self.rows += rows.shape[1]

    def means(self) -> Array:
        """(groups, inputs); zeros where none was seen."""
        return np.asarray(self.sums / max(self.rows, 1))


def computed_products(nodes: Iterable[Node]) -> list[Product]:
    """The products among ``nodes`` that multiply constant weights with what is computed."""
    found = (product_of(node) for node in nodes)
    return [product for product in found if product is not None and _input(product).constant is None]


def gather_means(
    graph: Graph,
    products: Sequence[Product],
    data: CalibrationData,
    runner: Runner,
    *,
    types: Mapping[Value, ValueType],
) -> dict[str, Array]:
    """The mean inputs, (groups, inputs), by the names of the products' nodes.

    Raises:
        InputError: if the data do not fit, or an input is not finite.
    """
    found = {product.node.name: Means(product) for product in products}
    _watch_inputs(graph, products, data, runner, types, lambda product, rows: found[product.node.name].update(rows))
    return {name: means.means() for name, means in found.items()}


def gather_grams(
    graph: Graph,
    products: Sequence[Product],
    data: CalibrationData,
    runner: Runner,
    use: Callable[[Product, Gram], None],
    *,
    types: Mapping[Value, ValueType],
) -> None:
    """Hand each product to ``use``, with the Gram matrices of its inputs, which are dropped then.

    Raises:
        InputError: if the data do not fit, or an input is not finite.
    """
    passes = list(in_passes(products))
    for number, chosen in enumerate(passes):
        grams = {product.node.name: product.gram() for product in chosen}
        what = f", part {number + 1} of {len(passes)}" if len(passes) > 1 else ""
        with blas_threads(max(product.inputs for product in chosen)):
            _watch_inputs(graph, chosen, data, runner, types, _updating(grams), what)
        for product in chosen:
            with blas_threads(product.inputs):
                use(product, grams.pop(product.node.name))


def _updating(grams: Mapping[str, Gram]) -> Callable[[Product, Array], None]:
    return lambda product, rows: grams[product.node.name].update(rows)


def _watch_inputs(
    graph: Graph,
    products: Sequence[Product],
    data: CalibrationData,
    runner: Runner,
    types: Mapping[Value, ValueType],
    see: Callable[[Product, Array], None],
    part: str = "",
) -> None:
    readers: dict[str, list[Product]] = {}
    for product in products:
        readers.setdefault(_input(product).name, []).append(product)

    def watch(values: Mapping[str, Array]) -> None:
        for name, array in values.items():
            for product in readers[name]:
                see(product, product.rows(array))

    inputs = [_input(product) for product in products]
    runner.observe(graph, inputs, data, watch, types=types, what=f"looking at inputs{part}")


def _input(product: Product) -> Value:
    x = product.node.inputs[0]
    assert x is not None
    return x

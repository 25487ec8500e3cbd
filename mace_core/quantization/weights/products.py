"""The products of a graph as matrices of weights and rows of inputs.

Conv, Gemm and MatMul with constant weights, seen alike: ``result = matrix @ row`` for each group, with matrices of
(results, inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node
from mace_core.quantization.grids import Grid
from mace_core.quantization.weights.adaround import Tell, adaround_groups
from mace_core.quantization.weights.gptq import gptq
from mace_core.quantization.weights.gram import POSITIONS, Gram, rows_read
from mace_core.quantization.weights.nearest import Rounded, searched_encoding
from mace_core.tensor import DType, QuantEncoding

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Product:
    """A node that multiplies with constant weights.

    Attributes:
        node: Conv, Gemm (``transA`` 0) or MatMul (weights of two dimensions).
        weights: as stored, float32.
        groups, results, inputs: the matrices are (groups, results, inputs).
    """

    node: Node
    weights: Array
    groups: int
    results: int
    inputs: int

    @property
    def channel_axis(self) -> int:
        """The axis of the stored weights along which results lie."""
        if self.node.op_type == "Conv":
            return 0
        return 0 if self.node.attr("transB", 0) else 1

    @property
    def gram_bytes(self) -> int:
        return 8 * self.groups * self.inputs**2

    def matrices(self, array: Array) -> Array:
        """An array in the form of the weights as (groups, results, inputs)."""
        if self.channel_axis == 1:
            array = array.T
        return array.reshape(self.groups, self.results, self.inputs)

    def stored(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        if self.channel_axis == 1:
            return np.ascontiguousarray(matrices[0].T)
        return matrices.reshape(self.weights.shape)

    def rows(self, x: Array, positions: int = POSITIONS) -> Array:
        """What the node multiplies its weights with when it reads ``x``: (groups, rows, inputs).

        Args:
            positions: of a convolution: the most places of one image that are looked at.
        """
        return rows_read(self.node, self.weights.shape[2:], self.groups, x, positions)

    def gram(self) -> Gram:
        """An empty one for the inputs of this product."""
        return Gram(self.node.name, self.groups, self.inputs)


def product_of(node: Node) -> Product | None:
    """A node as a product with constant float32 weights, or None where it is none."""
    value = node.input(1)
    if node.domain or value is None or value.constant is None or value.constant.dtype is not DType.FLOAT32:
        return None
    shape = value.constant.shape
    weights = value.constant.numpy()
    if node.op_type == "Conv" and len(shape) > 2:
        groups = int(node.attr("group", 1))
        return Product(node, weights, groups, shape[0] // groups, int(np.prod(shape[1:])))
    if (node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attr("transA", 0))) and len(shape) == 2:
        results, inputs = shape if node.attr("transB", 0) else shape[::-1]
        return Product(node, weights, 1, results, inputs)
    return None


def round_product(
    product: Product,
    gram: Gram,
    grid: Grid,
    *,
    rounding: str = "gptq",
    is_per_channel: bool = True,
    block_size: int = 0,
    is_centered: bool = False,
    tell: Tell | None = None,
) -> tuple[Array, QuantEncoding]:
    """The weights of a product as integers, chosen for the least error of its results.

    Args:
        product, gram: a node, and what was seen of its inputs.
        grid: of the weights.
        rounding: "gptq" or "adaround".
        is_per_channel: one scale for each result; else one for all.
        block_size: inputs that share a scale, for one group; 0 for no blocks.
        is_centered: a bias will make up for the mean error (`bias_shift`), so that the rest alone counts.
        tell: is told of progress.

    Returns:
        Integers of the grid's type in the form of the stored weights, and their encoding.
    """
    matrices = product.matrices(product.weights)
    moments = gram.centered() if is_centered else gram.matrices
    if not is_per_channel:
        encoding = searched_encoding(matrices, grid)
        found = _rounded(matrices, moments, grid, rounding, 0, encoding, tell)
        return product.stored(np.stack([one.steps for one in found])).astype(grid.dtype.numpy), encoding
    found = _rounded(matrices, moments, grid, rounding, block_size, None, tell)
    integers = product.stored(np.stack([one.steps for one in found])).astype(grid.dtype.numpy)
    scale = np.concatenate([one.encoding.scale for one in found])
    zero = np.concatenate([one.encoding.zero_point for one in found])
    if not block_size:
        return integers, QuantEncoding(grid.dtype, scale, zero, product.channel_axis)
    if product.channel_axis == 1:
        scale, zero = np.ascontiguousarray(scale.T), np.ascontiguousarray(zero.T)
    return integers, QuantEncoding(grid.dtype, scale, zero, 1 - product.channel_axis, block_size)


def _rounded(
    matrices: Array,
    moments: Array,
    grid: Grid,
    rounding: str,
    block_size: int,
    encoding: QuantEncoding | None,
    tell: Tell | None,
) -> list[Rounded]:
    """Each group's weights; ``encoding`` is that of all groups, if one is given."""
    if rounding == "adaround":
        encodings = None if encoding is None else [encoding] * len(matrices)
        return adaround_groups(matrices, moments, grid, block_size=block_size, encodings=encodings, tell=tell)
    found = []
    for number, (matrix, moment) in enumerate(zip(matrices, moments, strict=True)):
        if tell is not None:
            tell(number, len(matrices))
        found.append(gptq(matrix, moment, grid, block_size=block_size, encoding=encoding))
    return found


def bias_shift(product: Product, means: Array, decoded: Array) -> Array:
    """What to add to the bias of a product so that rounding of its weights moves no mean of a result: (channels,).

    Source: Nagel et al., "Data-free quantization through weight equalization and bias correction" (2019), with means of
    inputs that were seen in place of those that batch normalization tells.

    Args:
        means: of the inputs, (groups, inputs), as `Gram.means` tells them.
        decoded: the weights that are left after rounding, in their stored form.
    """
    change = product.matrices(product.weights.astype(np.float64)) - product.matrices(decoded.astype(np.float64))
    return np.asarray(np.einsum("grk,gk->gr", change, means)).reshape(-1)

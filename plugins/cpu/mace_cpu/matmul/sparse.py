"""Known right operands of which panels leave out steps that meet zeros only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mace_core.symbolic import is_symbolic
from mace_cpu.matmul.product import Product
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.tiles.arguments import MOST_KEPT
from mace_cpu.shared.tiles.choose import ChannelSplit
from mace_cpu.shared.tiles.kept import KeptSteps, has_many_zeros, used_by_tiles

Floats = npt.NDArray[np.float32]

MORE_WIDTHS = (2, 1)
"""Narrower panels than products use otherwise: fewer columns have more steps in common that they can leave out."""


def dense_right(product: Product, right: Floats, matrices: int) -> Floats:
    """A known right operand as (matrices, steps, columns)."""
    if product.transposed_right:
        return right.reshape(matrices, product.columns, product.steps).transpose(0, 2, 1)
    return right.reshape(matrices, product.steps, product.columns)


def product_shares(product: Product, right: Floats | Buf, lanes: int, widths: Sequence[int]) -> dict[int, float]:
    """How much of the steps is left, by the vectors of a panel; only panels that leave out enough to be worth it.

    Args:
        widths: vectors of panels that are used for dense operands.
    """
    if isinstance(right, Buf) or product.left_lie().transposed or is_symbolic(product.columns):
        return {}
    if not has_many_zeros(right):
        return {}
    found = {}
    for vectors in dict.fromkeys((*widths, *MORE_WIDTHS)):
        whole = ChannelSplit(0, -(-product.columns // (vectors * lanes)), vectors)
        share = kept_steps(product, right, whole, lanes).share
        if share <= MOST_KEPT:
            found[vectors] = share
    return found


def kept_steps(product: Product, right: Floats, split: ChannelSplit, lanes: int) -> KeptSteps:
    """Which steps the panels of a split need, as [matrix][panel][step]."""
    columns = split.blocks * lanes
    dense = dense_right(product, right, math.prod(product.right))
    part = dense[:, :, split.first * lanes :][:, :, : split.tiles * columns]
    return KeptSteps.of(np.stack([used_by_tiles(matrix.T, columns) for matrix in part]))

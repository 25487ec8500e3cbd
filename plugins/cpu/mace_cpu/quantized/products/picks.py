"""Known right operands of bytes of which each column has a 2:4 pattern of its own.

Of each eight steps, four bytes of a column have weights, two of each four: they make one quad, beside which a byte says
where they are, two bits for each.  So of eight bytes five are read, which pays where products wait for weights.  Each
lane takes its four bytes of the input by a permutation (AVX512-VBMI).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.native.target import Target
from mace_core.symbolic import is_symbolic
from mace_cpu.matmul.product import Product
from mace_cpu.quantized.products.arguments import BLOCK_ROWS, BLOCK_STEPS
from mace_cpu.quantized.products.choose import Panels
from mace_cpu.shared.quads import QUAD, QuadUnit, aligned_bytes

FAR_BYTES = 1 << 20
"""Larger weights come from beyond the second level cache."""

MOST_ROWS_FAR, MOST_ROWS_NEAR = 4, 2
"""With more rows of the left operand the dense product is as fast."""

GROUP, PICKS = 4, 2


@dataclass(frozen=True, slots=True)
class PickedPanels(Panels):
    """Panels of blocks: for 32 steps, one word of places and four quads of each column."""

    def quads(self, steps: int) -> int:
        """Words of a column."""
        return steps // BLOCK_STEPS * BLOCK_ROWS


def choose_picked_panels(
    target: Target, dense: Panels, product: Product, matrices: npt.NDArray[Any]
) -> PickedPanels | None:
    """Such panels, where a right operand has such patterns and they pay.

    Args:
        matrices: (any, steps, columns), signed, without zero points.
    """
    if dense.unit is not QuadUnit.VNNI or not target.has("avx512vbmi") or target.vector_bits != 512:
        return None
    if any(is_symbolic(size) for size in (product.rows, product.steps, product.columns)):
        return None
    most = MOST_ROWS_FAR if matrices.nbytes > FAR_BYTES else MOST_ROWS_NEAR
    if product.rows > most or product.steps % BLOCK_STEPS or not product.steps:
        return None
    groups = (matrices != 0).reshape(len(matrices), -1, GROUP, product.columns)
    if (groups.sum(axis=2, dtype=np.int8) > PICKS).any():
        return None
    return PickedPanels(dense.unit, dense.vectors, dense.width)


def pack_picked(matrices: npt.NDArray[Any], width: int) -> npt.NDArray[np.int8]:
    """(any, steps, columns) as [matrix][panel][block][row of the block][column][4]; the first row has the places."""
    count, steps, columns = matrices.shape
    panels, blocks = -(-columns // width), steps // BLOCK_STEPS
    full = np.zeros((count, steps, panels * width), np.int8)
    full[..., :columns] = matrices
    groups = full.reshape(count, -1, GROUP, panels * width)
    order = np.sort(np.argsort(groups == 0, axis=2, kind="stable")[:, :, :PICKS], axis=2)
    weights = np.take_along_axis(groups, order, axis=2).reshape(count, blocks, QUAD, QUAD, panels, width)
    bits = order.astype(np.uint8).reshape(weights.shape) << (2 * np.arange(QUAD, dtype=np.uint8)).reshape(-1, 1, 1)
    packed = aligned_bytes((count, panels, blocks, BLOCK_ROWS, width, QUAD))
    places = np.bitwise_or.reduce(bits, axis=3)  # (count, blocks, quad of the block, panels, width)
    packed[:, :, :, 0] = places.transpose(0, 3, 1, 4, 2).view(np.int8)
    packed[:, :, :, 1:] = weights.transpose(0, 4, 1, 2, 5, 3)
    return packed

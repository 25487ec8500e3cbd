"""Known right operands of bytes of which panels leave out what meets zeros only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.native.target import Target
from mace_core.symbolic import hint, is_symbolic
from mace_cpu.matmul.product import Product
from mace_cpu.quantized.convolution.choose import tile_cost
from mace_cpu.quantized.products.choose import Panels
from mace_cpu.shared.quads import QUAD, QuadUnit, aligned_bytes
from mace_cpu.shared.tiles.choose import fitting_rows, has_many_registers
from mace_cpu.shared.tiles.kept_bytes import GATHER_CYCLES, KeptBytes, kept_bytes, window_bytes

Bytes = npt.NDArray[np.int8]

VECTORS = (4, 2, 1)
"""Of a panel, to choose from."""

MOST_SUMS = 24, 8
"""Vectors of sums that stay in 32 registers or in 16."""

BYTES_PER_CYCLE = 12
"""Of weights that are read once, from far."""


@dataclass(frozen=True, slots=True)
class SparsePanels(Panels):
    """Panels that hold only what is kept.

    Attributes:
        kept: [matrix][panel].
    """

    kept: KeptBytes = field(kw_only=True)

    def rows(self, target: Target, rows: int) -> int:
        """The height of the tile."""
        return fitting_rows(rows, MOST_SUMS[not has_many_registers(target)] // self.vectors, self.vectors)


def choose_sparse_panels(
    target: Target, dense: Panels, product: Product, matrices: npt.NDArray[Any]
) -> SparsePanels | None:
    """The panels that are multiplied fastest; None where that is no faster than by ``dense`` ones.

    Args:
        matrices: (any, steps, columns), signed, without zero points.
    """
    window = 0 if is_symbolic(product.steps) else window_bytes(target, product.steps)
    if not window or dense.unit is not QuadUnit.of(target) or is_symbolic(product.columns):
        return None
    found, least = None, _cost(target, dense, product, product.steps)
    for vectors in VECTORS:
        width = vectors * dense.width // dense.vectors
        if dense.width % width:  # numbers of columns fill whole dense panels
            continue
        kept = kept_bytes(np.any(_panels(matrices, width), axis=-1), window)
        if kept is None:
            continue
        candidate = SparsePanels(dense.unit, vectors, width, kept=kept)
        cost = _cost(target, candidate, product, kept.count, kept.gathers)
        if cost < least:
            found, least = candidate, cost
    return found


def _cost(target: Target, panels: Panels, product: Product, steps: int, gathers: int = 0) -> float:
    """Cycles of one product over so many bytes of each row."""
    height, rows = panels.rows(target, product.rows), hint(product.rows)
    count = -(-product.columns // panels.width)
    cost = tile_cost(target, panels.unit, (height, panels.vectors), rows, product.columns, -(-steps // QUAD))
    cost += count * (-(-rows // height) * height) * gathers * GATHER_CYCLES
    return cost if rows > height else max(cost, steps * count * panels.width / BYTES_PER_CYCLE)


def pack_kept_panels(matrices: npt.NDArray[Any], width: int, kept: KeptBytes) -> Bytes:
    """What is kept of (any, steps, columns), as [matrix][panel][quad][column][4]."""
    rows = kept.of_rows(_panels(matrices, width))
    quads = rows.reshape(*rows.shape[:-2], -1, QUAD, width).swapaxes(-1, -2)
    packed = aligned_bytes(quads.shape)
    packed[...] = quads
    return packed


def _panels(matrices: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """(any, steps, columns) as [matrix][panel][step][column of the panel]."""
    count, steps, columns = matrices.shape
    panels = -(-columns // width)
    full = np.zeros((count, steps, panels * width), matrices.dtype)
    full[..., :columns] = matrices
    return full.reshape(count, steps, panels, width).transpose(0, 2, 1, 3)

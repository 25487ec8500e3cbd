"""Known right operands of which each column has a 2:4 pattern of its own: at most two of each four steps have weights.

A column's two weights of a group are packed with two bits each that say which of the four steps they meet.  Rows of the
left operand are few: then the time goes into reading weights, of which there are 17 words where there were 32.  With
more rows every multiplication needs a permutation of its own, which takes as long as the multiplications saved.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mace_core.native.target import Target
from mace_core.symbolic import is_symbolic
from mace_cpu.matmul.arguments import BLOCK_GROUPS, BLOCK_WORDS, GROUP, PICKS
from mace_cpu.matmul.product import Product
from mace_cpu.matmul.sparse import dense_right
from mace_cpu.shared.parts.buffers import Buf, aligned_empty
from mace_cpu.shared.tiles.choose import has_many_registers
from mace_cpu.shared.tiles.kept import has_many_zeros

Floats = npt.NDArray[np.float32]

MOST_ROWS, MOST_ROWS_OF_FEW_REGISTERS = 12, 2
"""With more rows of the left operand the dense product is as fast."""


def vectors_of(target: Target, columns: int) -> int:
    """Vectors of a panel."""
    lanes = target.vector_bits // 32
    return min(4 if has_many_registers(target) else 2, -(-columns // lanes))


def is_two_of_four(target: Target, product: Product, right: Floats | Buf) -> bool:
    """Whether a right operand has such patterns, and multiplying only what they keep pays."""
    if isinstance(right, Buf) or not target.has("avx2") or product.left_lie().transposed:
        return False
    if is_symbolic(product.rows) or is_symbolic(product.columns) or product.steps % GROUP or not product.steps:
        return False
    most = MOST_ROWS if has_many_registers(target) else MOST_ROWS_OF_FEW_REGISTERS
    if product.rows > most or not has_many_zeros(right):
        return False
    dense = dense_right(product, right, math.prod(product.right))
    groups = (dense != 0).reshape(len(dense), -1, GROUP, product.columns)
    return bool((groups.sum(axis=2, dtype=np.int8) <= PICKS).all())


def panel_words(steps: int) -> int:
    """Of one column of a panel."""
    return -(-steps // (GROUP * BLOCK_GROUPS)) * BLOCK_WORDS


def pack_picks(product: Product, right: Floats, width: int) -> Floats:
    """The right operand as [matrix][panel][block][row of the block][column].

    The first row of a block holds the indices as integers, the first weight's lowest; the others are weights.
    """
    matrices = math.prod(product.right)
    dense = dense_right(product, right, matrices)
    panels, blocks = -(-product.columns // width), -(-product.steps // (GROUP * BLOCK_GROUPS))
    full = np.zeros((matrices, blocks * BLOCK_GROUPS, GROUP, panels * width), np.float32)
    full.reshape(matrices, -1, panels * width)[:, : product.steps, : product.columns] = dense
    order = np.sort(np.argsort(full == 0, axis=2, kind="stable")[:, :, :PICKS], axis=2)
    weights = np.take_along_axis(full, order, axis=2).reshape(matrices, blocks, -1, panels, width)
    bits = order.astype(np.uint32).reshape(matrices, blocks, -1, panels, width)
    places = (2 * np.arange(BLOCK_GROUPS * PICKS, dtype=np.uint32)).reshape(1, 1, -1, 1, 1)
    indices = np.bitwise_or.reduce(bits << places, axis=2, keepdims=True)
    packed = aligned_empty((matrices, panels, blocks, BLOCK_WORDS, width))
    packed[:, :, :, :1] = indices.view(np.float32).transpose(0, 3, 1, 2, 4)
    packed[:, :, :, 1:] = weights.transpose(0, 3, 1, 2, 4)
    return packed

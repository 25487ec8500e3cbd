"""Products in 16-bit floats: two steps, a pair, pass for one step of float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mace_core.graph import Value
from mace_cpu.matmul.lower_packed import emit_product
from mace_cpu.matmul.product import Product
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.pairs import Floats, pair_weights
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import LEAST_PAIRED


def takes_pair_rows(program: Program, product: Product) -> bool:
    """Whether a product with a known right operand is computed in 16-bit floats."""
    return program.settings.pair_unit is not None and not product.transposed_left and product.steps >= LEAST_PAIRED


def emit_product_in_pairs(
    program: Program,
    product: Product,
    left: Value,
    right: Floats,
    bias: Floats,
    epilogue: Epilogue,
    tensors: Sequence[Buf],
    result: Value,
) -> None:
    """Emit ``result = epilogue(left @ right + bias)`` in 16-bit floats; ``right`` is (any, steps, columns)."""
    unit = program.settings.pair_unit
    assert unit is not None
    source = program.values.read(left, Layout.PAIR_ROWS)
    steps = -(-product.steps // (2 * program.settings.block)) * program.settings.block
    if product.transposed_right:
        dense, axis = right.reshape(-1, product.columns, product.steps), 2
    else:
        dense, axis = right.reshape(-1, product.steps, product.columns), 1
    missing = [(0, 2 * steps - product.steps if i == axis else 0) for i in range(3)]
    words = pair_weights(np.pad(dense, missing), axis, unit)
    target = program.values.write(result)
    pairs = replace(product, steps=steps)
    emit_product(program, pairs, source, words, bias, epilogue, tensors, target, unit=unit)

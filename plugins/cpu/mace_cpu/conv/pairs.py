"""What is computed in bfloat16 if that is the precision, and weights as pairs of bfloat16.

A pair fills a word of 32 bits, so two channels (or steps of a product) pass for one channel of float32 wherever nothing
but places matters: packing, tiles, addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.conv.choose import LEAST_CHANNELS, takes_pairs
from mace_cpu.conv.depthwise.lower import Result, fits_depthwise
from mace_cpu.conv.direct.lower import Floats, Pairs, emit_direct
from mace_cpu.conv.geometry import Geometry, conv_geometry
from mace_cpu.matmul.packed import Product, emit_product
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.program import Program


def why_float32(program: Program, geometry: Geometry) -> str:
    """Why a convolution stays float32 though the precision is bfloat16; "" where it does not."""
    if program.settings.bfloat16 is None or takes_pairs(program, geometry):
        return ""
    if fits_depthwise(geometry):
        return "float32: depthwise"
    if min(geometry.group_in, geometry.group_out) < LEAST_CHANNELS:
        return f"float32: fewer than {LEAST_CHANNELS} channels"
    return "float32: the bfloat16 kernel does not cover it"


def write_forms(program: Program, geometry: Geometry, result: Value) -> Result:
    """Memory for the result of a convolution in the forms in which it will be read."""
    forms = {_form_read(program, node, result) for node in program.facts.view.users(result)}
    if program.settings.bfloat16 is None or geometry.out_channels % program.settings.block or Layout.PAIRS not in forms:
        # (spare lanes would have to be cleared)
        return Result(program.values.write(result, Layout.BLOCKED))
    narrow = program.values.write(result, Layout.PAIRS)
    is_enough = forms == {Layout.PAIRS} and not program.facts.view.is_output(result)
    return Result(None if is_enough else program.values.write(result, Layout.BLOCKED), narrow)


def _form_read(program: Program, node: Node, value: Value) -> Layout:
    """In which layout a node that is not lowered yet will read ``value``: a guess, whose mistakes cost only time."""
    if node.domain or program.settings.bfloat16 is None:
        return Layout.BLOCKED
    if node.op_type == "Add":
        return Layout.PAIRS if _is_residual(program, node, value) else Layout.BLOCKED
    geometry = _known_convolution(program, node)
    if geometry is None or node.inputs[0] is not value:
        return Layout.BLOCKED
    if fits_depthwise(geometry):
        return Layout.PAIRS if geometry.group_out == 1 else Layout.BLOCKED
    return Layout.PAIRS if takes_pairs(program, geometry) else Layout.BLOCKED


def _is_residual(program: Program, node: Node, value: Value) -> bool:
    """Whether the addition of ``value`` will be part of a convolution in bfloat16 that is not lowered yet."""
    others = [x for x in node.inputs if x is not None and x is not value]
    if len(others) != 1 or program.facts.shape(others[0]) != program.facts.shape(value):
        return False
    makers = [maker for maker in program.facts.view.nodes if others[0] in maker.outputs]
    if len(makers) != 1 or program.fusion.is_done(makers[0]) or program.fusion.sole_user(others[0]) is not node:
        return False
    geometry = _known_convolution(program, makers[0])
    return geometry is not None and takes_pairs(program, geometry)


def _known_convolution(program: Program, node: Node) -> Geometry | None:
    """The sizes of a node that is a float32 Conv with known weights over up to two axes."""
    if node.op_type != "Conv" or node.domain:
        return None
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None and w is not None and y is not None
    bias = node.input(2)
    is_known = program.facts.constant_of(w) is not None and (
        bias is None or program.facts.constant_of(bias) is not None
    )
    if (
        not is_known
        or program.facts.dtype(y) is not DType.FLOAT32
        or not program.facts.size(y)
        or len(program.facts.shape(x)) > 4
    ):
        return None
    return conv_geometry(node, program.facts.shape(x), program.facts.shape(w), program.facts.shape(y))


def emit_in_pairs(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, result: Value
) -> None:
    """Emit a convolution of constant weights (O, C / groups, kernel) in bfloat16."""
    assert program.settings.bfloat16 is not None
    forms = write_forms(program, geometry, result)
    target = forms.floats or forms.pairs
    assert target is not None
    emit_direct(
        program,
        pair_geometry(geometry),
        x,
        pair_weights(weights, axis=1),
        bias,
        epilogue,
        target,
        pairs=Pairs(program.settings.bfloat16, forms.stores, forms.pairs),
    )


def takes_pair_rows(program: Program, product: Product) -> bool:
    """Whether a product with a known right operand is computed in bfloat16."""
    return program.settings.bfloat16 is not None and not product.transposed_left and product.steps >= LEAST_CHANNELS


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
    """Emit ``result = epilogue(left @ right + bias)`` in bfloat16; ``right`` is (any, steps, columns)."""
    source = program.values.read(left, Layout.PAIR_ROWS)
    steps = -(-product.steps // (2 * program.settings.block)) * program.settings.block
    if product.transposed_right:
        dense, axis = right.reshape(-1, product.columns, product.steps), 2
    else:
        dense, axis = right.reshape(-1, product.steps, product.columns), 1
    missing = [(0, 2 * steps - product.steps if i == axis else 0) for i in range(3)]
    words = pair_weights(np.pad(dense, missing), axis)
    target = program.values.write(result)
    pairs = replace(product, steps=steps)
    emit_product(program, pairs, source, words, bias, epilogue, tensors, target, unit=program.settings.bfloat16)


def pair_geometry(geometry: Geometry) -> Geometry:
    """The same convolution with pairs of channels in the place of channels."""
    return replace(geometry, in_channels=geometry.groups * -(-geometry.group_in // 2))


def pair_weights(weights: Floats, axis: int) -> Floats:
    """Pairs of neighbors along ``axis``, rounded, as words that pass for float32; an odd one out pairs with zero."""
    halves = np.moveaxis(rounded(weights), axis, -1)
    if halves.shape[-1] % 2:
        halves = np.concatenate([halves, np.zeros((*halves.shape[:-1], 1), np.uint16)], axis=-1)
    words = np.ascontiguousarray(halves).view("<u4").view(np.float32)
    return np.moveaxis(words, -1, axis)


def rounded(values: Floats) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 to each float32, of two as near the even one; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet, upper).astype(np.uint16)

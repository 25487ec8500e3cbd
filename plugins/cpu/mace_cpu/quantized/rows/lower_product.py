"""RowProduct: known weights times rows of bytes, of which each has its own zero point and size of a step."""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_same
from mace_core.tensor import DType, Tensor, TensorType
from mace_cpu.quantized.convolution.scaling import scaling_of_rows
from mace_cpu.quantized.float_ops import show_channels_last
from mace_cpu.quantized.products.emit import Factors, Finish, emit_bytes_product
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.floats_last import ROWS
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index, allowed in enumerate(({DType.UINT8}, {DType.INT8}, {DType.UINT8}, FLOAT32)):
        reason = reason or dtype_in(view, node.input(index), frozenset(allowed))
    if reason is not None:
        return reason
    x, weights = (view.shape(need(node.input(index))) for index in (0, 1))
    if any(is_same(size, 0) for size in (*x, *weights)) or len(x) < 2:
        return "there is nothing to multiply"
    return None


@lowers("RowProduct", check=_check, domain=ROWS)
def lower_row_product(program: Program, node: Node) -> None:
    facts, values = program.facts, program.values
    x, size, result = need(node.input(0)), need(node.input(3)), need(node.output(0))
    weights = facts.constant_of(need(node.input(1)))
    assert weights is not None
    is_image = weights.ndim == 4
    units, depth = weights.shape[:2] if is_image else weights.shape[::-1]
    axis = 1 if is_image else len(facts.shape(result)) - 1
    rows = math.prod(facts.shape(x)) // depth
    left = Value(f"{x.name}.rows", TensorType(DType.UINT8, (rows, depth)))
    values.alias(left, values.read(x, Layout.CHANNELS_LAST if is_image else Layout.PLAIN))
    right = need(node.input(1))
    if is_image:
        right = Value(f"{right.name}.matrix", constant=Tensor.from_numpy(weights.reshape(units, depth)))
    scaling = scaling_of_rows(program, node, size, units, axis)
    zeros = Buf.scratch(4 * rows)
    program.steps.emit(
        numba_source("mace_cpu.quantized.rows.kernels", "row_zeros"),
        {"source": values.read(need(node.input(2))), "target": zeros, "count": rows},
        extent=1,
        work=rows,
        name="RowZeros",
    )
    epilogue, final = Epilogue(), scaling.result
    if scaling.is_float:

        def takes(other: Value) -> bool:
            return not is_image or values.shown_channels_last(other) is not None

        epilogue, final = match_epilogue(program, final, channel_axis=axis, takes=takes)
    tensors = [_tensor(program, tensor, is_image=is_image) for tensor in epilogue.tensors]
    target = Buf.scratch(4 * facts.size(final)) if is_image else values.write(final)
    kind = "float32" if scaling.is_float else "int32"
    finish = Finish(
        Requantization(kind, float_bias=scaling.bias is not None, step=scaling.order),
        target,
        scales=np.asarray(scaling.scales),
        float_bias=scaling.bias,
        words=[0, 0, 0, *([] if scaling.step is None else [scaling.step])],
        epilogue=Epilogue(epilogue.ops, epilogue.channels),
        tensors=tensors,
        row_zeros=zeros,
    )
    emit_bytes_product(program, Factors(left, right, None, None, transposed=is_image), finish)
    if is_image:
        show_channels_last(program, node, final, target)


def _tensor(program: Program, value: Value, *, is_image: bool) -> Buf:
    if not is_image:
        return program.values.read(value)
    found = program.values.shown_channels_last(value)
    assert found is not None
    return found

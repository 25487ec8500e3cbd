"""Gemm and MatMul."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.operators import broadcast
from mace_core.symbolic import hint
from mace_core.tensor import DType
from mace_cpu.matmul.lower_packed import KERNELS, Floats, emit_product, uniform
from mace_cpu.matmul.lower_pairs import emit_product_in_pairs, takes_pair_rows
from mace_cpu.matmul.product import Product
from mace_cpu.matmul.views import lie_of
from mace_cpu.shared.checks import inputs_in
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

FEWEST_ROWS = 8
"""A stack of smaller matrices is not worth reading matrix by matrix."""

_numbers = inputs_in(
    {
        DType.FLOAT32,
        DType.FLOAT64,
        DType.INT32,
        DType.INT64,
        DType.UINT32,
        DType.UINT64,
    }
)


def _check_gemm(view: GraphView, node: Node) -> str | None:
    reason = _numbers(view, node)
    if reason is None and node.outputs[0] is not None:
        kind = view.tensor_type(node.outputs[0])
        factors = (node.attr("alpha", 1.0), node.attr("beta", 1.0))
        if kind is not None and kind.dtype.is_integer and factors != (1.0, 1.0):
            return "Gemm of integers with alpha or beta other than 1 is not supported"
    return reason


@lowers("MatMul", check=_numbers)
def matmul(program: Program, node: Node) -> None:
    """numpy.matmul: stacks of matrices with broadcasting, vectors as rows or columns."""
    left, right, result = node.inputs[0], node.inputs[1], node.outputs[0]
    assert left is not None and right is not None and result is not None
    product = matmul_product(program.facts.shape(left), program.facts.shape(right))
    if not program.facts.size(result):
        program.values.write(result)
        return
    if program.facts.dtype(result) is not DType.FLOAT32:
        _emit_plain(
            program,
            product,
            program.values.read(left),
            program.values.read(right),
            program.values.write(result),
            result,
        )
        return
    known = program.facts.constant_of(right)
    if known is None or not takes_pair_rows(program, product):
        product = _where_it_lies(program, product, left, right)
    epilogue, final = Epilogue(), result
    if len(program.facts.shape(left)) > 1 and len(program.facts.shape(right)) > 1:
        epilogue, final = match_epilogue(program, result, channel_axis=-1)
    _emit_float(program, product, left, right, known, Epilogue(), [], epilogue, final)


@lowers("Gemm", check=_check_gemm)
def gemm(program: Program, node: Node) -> None:
    """alpha * A @ B + beta * C, A and B transposed if asked, C broadcast."""
    left, right, result = node.inputs[0], node.inputs[1], node.outputs[0]
    addend = node.input(2)
    assert left is not None and right is not None and result is not None
    rows, columns = program.facts.shape(result)
    a = program.facts.shape(left)
    product = Product(
        rows,
        a[0] if node.attr("transA", 0) else a[1],
        columns,
        transposed_left=bool(node.attr("transA", 0)),
        transposed_right=bool(node.attr("transB", 0)),
    )
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    if beta == 0:
        addend = None
    if not program.facts.size(result):
        program.values.write(result)
        return
    if program.facts.dtype(result) is not DType.FLOAT32:
        _emit_plain(
            program,
            product,
            program.values.read(left),
            program.values.read(right),
            program.values.write(result),
            result,
            alpha,
            beta,
            addend,
        )
        return
    ops: list[EpilogueOp] = []
    channels: list[Floats] = []
    tensors: list[Buf] = []
    known = program.facts.constant_of(right)
    if alpha != 1 and known is not None:
        known = known * np.float32(alpha)
    elif alpha != 1:
        ops.append(EpilogueOp("mul", "channel"))
        channels.append(uniform(alpha, columns))
    if addend is not None:
        added = program.facts.constant_of(addend)
        if added is not None and (added.ndim < 2 or added.shape[0] == 1):
            ops.append(EpilogueOp("add", "channel"))
            scaled = added.reshape(-1) * np.float32(beta)
            channels.append(scaled if scaled.size == columns else uniform(float(scaled[0]), columns))
        else:
            ops.append(EpilogueOp("add", "tensor"))
            tensors.append(_scaled_addend(program, addend, beta, rows, columns))
    # operations on the result come after these, so their tensors come after them, too
    epilogue, final = match_epilogue(program, result, channel_axis=-1)
    _emit_float(program, product, left, right, known, Epilogue(tuple(ops), tuple(channels)), tensors, epilogue, final)


def _emit_float(
    program: Program,
    product: Product,
    left: Value,
    right: Value,
    known: Floats | None,
    first: Epilogue,
    first_tensors: Sequence[Buf],
    then: Epilogue,
    final: Value,
) -> None:
    """float32: fold what can be folded into known right operands, then the generated kernel."""
    epilogue = Epilogue(first.ops + then.ops, first.channels + then.channels)
    tensors = [*first_tensors, *(program.values.read(t) for t in then.tensors)]
    bias = uniform(0, product.columns)
    if known is not None:
        scale, bias, epilogue = epilogue.split_affine(product.columns)
        if (scale != 1).any():
            known = known * (scale[:, None] if product.transposed_right else scale)
    if known is not None and takes_pair_rows(program, product):
        emit_product_in_pairs(program, product, left, known, bias, epilogue, tensors, final)
        return
    source = program.values.read(left) if product.left_at is None else program.values.strided(left).buf
    packed: Floats | Buf
    if known is not None:
        packed = known
    else:
        packed = program.values.read(right) if product.right_at is None else program.values.strided(right).buf
    target = program.values.write(final)
    if product.steps == 0:
        # an empty sum: the left operand is never touched, the right one has no panels
        packed = np.zeros((1, 0, product.columns), np.float32)
        product = replace(product, right=(), right_at=None)
    emit_product(program, product, source, packed, bias, epilogue, tensors, target)


def _where_it_lies(program: Program, product: Product, left: Value, right: Value) -> Product:
    """The same product of matrices read where they lie, if operands were only shown so far and can be read so."""
    if program.values.is_shown(left) and len(program.facts.shape(left)) > 1 and product.steps:
        strided = program.values.strided(left)
        rows = strided.reshaped((product.rows, product.steps)) if product.count == 1 else None
        lie = lie_of(strided if rows is None else rows)
        if lie is not None:
            stack, count = lie.starts.shape, lie.starts.count
            if count != math.prod(product.left) and hint(count) * FEWEST_ROWS <= hint(product.rows):
                # one right matrix for a stack that does not lie as rows of a single matrix
                product = replace(product, rows=product.rows // count, stack=stack, left=stack)
            if count == math.prod(product.left):
                product = replace(product, left_at=lie)
    if program.values.is_shown(right) and len(program.facts.shape(right)) > 1:
        lie = lie_of(program.values.strided(right))
        if lie is not None:
            product = replace(product, right_at=lie)
    return product


def _scaled_addend(program: Program, addend: Value, beta: float, rows: int, columns: int) -> Buf:
    """beta * C as a dense (rows, columns) buffer."""
    source = program.values.read(addend)
    shape = program.facts.shape(addend)
    if beta == 1 and len(shape) == 2 and shape == (rows, columns):
        return source
    row_stride, column_stride = broadcast_strides(shape, columns)
    target = Buf.scratch(4 * rows * columns)
    program.steps.emit(
        numba_source(KERNELS, "scaled_rows"),
        {
            "source": source,
            "target": target,
            "beta": float(beta),
            "columns": columns,
            "row_stride": row_stride,
            "column_stride": column_stride,
        },
        extent=rows,
        work=rows * columns,
        name="GemmAddend",
    )
    return target


def broadcast_strides(shape: Sequence[int], columns: int) -> tuple[int, int]:
    """Row and column strides through an operand of this shape that broadcasts to a matrix of ``columns`` columns."""
    two = (1,) * (2 - len(shape)) + tuple(shape)
    return (two[1] if two[0] > 1 else 0), (1 if two[1] > 1 else 0)


def _emit_plain(
    program: Program,
    product: Product,
    left: Buf,
    right: Buf,
    target: Buf,
    result: Value,
    alpha: float = 1.0,
    beta: float = 1.0,
    addend: Value | None = None,
) -> None:
    """Any element type, through the plain kernel."""
    added: Buf | int = 0 if addend is None else program.values.read(addend)
    addend_row, addend_column = (
        (0, 0) if addend is None else broadcast_strides(program.facts.shape(addend), product.columns)
    )
    program.steps.emit(
        numba_source(KERNELS, "product", dtype=program.facts.dtype(result).label),
        {
            "left": left,
            "right": right,
            "out": target,
            "addend": added,
            "left_offsets": program.offsets(product.left_lie().starts.broadcast(product.stack)),
            "right_offsets": program.offsets(product.right_lie().starts.broadcast(product.stack)),
            "rows": product.rows,
            "steps": product.steps,
            "columns": product.columns,
            "left_row": 1 if product.transposed_left else product.steps,
            "left_step": product.rows if product.transposed_left else 1,
            "right_step": 1 if product.transposed_right else product.columns,
            "right_column": product.steps if product.transposed_right else 1,
            "addend_row": addend_row,
            "addend_column": addend_column,
            "alpha": float(alpha),
            "beta": float(beta),
        },
        extent=product.count * product.rows,
        work=product.macs,
    )


def matmul_product(left: Sequence[int], right: Sequence[int]) -> Product:
    """The products that numpy.matmul of these shapes consists of."""
    a = (1, *left) if len(left) == 1 else tuple(left)
    b = (*right, 1) if len(right) == 1 else tuple(right)
    rows, steps, columns = a[-2], a[-1], b[-1]
    if math.prod(b[:-2]) == 1:
        # one right matrix for all: the left ones are rows of a single one
        return Product(math.prod(a[:-2]) * rows, steps, columns)
    return Product(rows, steps, columns, broadcast(a[:-2], b[:-2]), a[:-2], b[:-2])

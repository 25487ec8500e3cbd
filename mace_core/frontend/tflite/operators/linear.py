"""Products of matrices."""

from __future__ import annotations

from mace_core.frontend.tflite import hybrid
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import bias, image
from mace_core.frontend.tflite.registry import converter
from mace_core.tensor import DType


@converter("FULLY_CONNECTED", options="FullyConnectedOptions")
def fully_connected(op: Operation) -> None:
    """Rows of as many elements as the weights (units, elements) have, whatever the shape of the input."""
    if op.option("WeightsFormat"):
        raise op.unsupported("has shuffled weights")
    _, depth = image(op, 1, 2)
    shape, x = op.shape(0), op.real(0)
    keeps = op.option("KeepNumDims") and len(shape) != 2
    if not keeps and (len(shape) != 2 or shape[1] != depth):
        if depth is None:
            raise op.unsupported("has weights of unknown size")
        x = op.emit("Reshape", [x, op.number([-1, depth])])
    is_hybrid = hybrid.is_hybrid(op)
    if is_hybrid and (op.tensor(1).quantization.block_size or op.dtype(1) is DType.INT2):  # type: ignore[union-attr]
        x, is_hybrid = hybrid.real_rows(op, x, (-1,)), False
    if is_hybrid:
        y = hybrid.product(op, x, bias(op, 2))
    elif keeps:
        y = op.emit("MatMul", [x, op.weights(1, (1, 0))])
        if op.has(2):
            y = op.emit("Add", [y, *bias(op, 2)])
    else:
        y = op.emit("Gemm", [x, op.weights(1, None), *bias(op, 2)], {"transB": 1})
    op.finish(op.activated(y, op.option("FusedActivationFunction")))


@converter("BATCH_MATMUL", options="BatchMatMulOptions")
def batch_matmul(op: Operation) -> None:
    sides = []
    for index, option in enumerate(("AdjX", "AdjY")):
        rank = op.rank(index)
        turned = (*range(rank - 2), rank - 1, rank - 2) if op.option(option) else None
        sides.append(op.weights(index, turned))
    if hybrid.is_hybrid(op):
        sides[0] = hybrid.real_rows(op, sides[0], (-1,))
    op.finish(op.emit("MatMul", sides))

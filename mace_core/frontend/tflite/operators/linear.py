"""Products of matrices."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import bias, image
from mace_core.frontend.tflite.registry import converter


@converter("FULLY_CONNECTED", options="FullyConnectedOptions")
def fully_connected(op: Operation) -> None:
    """Rows of as many elements as the weights (units, elements) have, whatever the shape of the input."""
    if op.option("WeightsFormat"):
        raise op.unsupported("has shuffled weights")
    _, depth = image(op, 1, 2)
    shape, x = op.shape(0), op.real(0)
    if op.option("KeepNumDims") and len(shape) != 2:
        y = op.emit("MatMul", [x, op.weights(1, (1, 0))])
        if op.has(2):
            y = op.emit("Add", [y, *bias(op, 2)])
    else:
        if len(shape) != 2 or shape[1] != depth:
            if depth is None:
                raise op.unsupported("has weights of unknown size")
            x = op.emit("Reshape", [x, op.number([-1, depth])])
        y = op.emit("Gemm", [x, op.weights(1, None), *bias(op, 2)], {"transB": 1})
    op.finish(op.activated(y, op.option("FusedActivationFunction")))


@converter("BATCH_MATMUL", options="BatchMatMulOptions")
def batch_matmul(op: Operation) -> None:
    sides = []
    for index, option in enumerate(("AdjX", "AdjY")):
        rank = op.rank(index)
        turned = (*range(rank - 2), rank - 1, rank - 2) if op.option(option) else None
        sides.append(op.weights(index, turned))
    op.finish(op.emit("MatMul", sides))

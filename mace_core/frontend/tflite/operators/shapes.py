"""Other shapes for the same elements.  Quantized numbers are moved as they are."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.types import PARTS
from mace_core.tensor import DType
from mace_core.tensor.types import MAX_RANK


@converter("RESHAPE", options="ReshapeOptions")
def reshape(op: Operation) -> None:
    """The shape is an input, an option in old files, or that of the output."""
    x = op.stored(0)
    if op.has(1) and op.tensor(1).type == 2 and op.rank(1) == 1:
        shape = op.sizes(1)
    else:
        sizes = op.option_list("NewShape") or [-1 if size is None else size for size in op.result_shape()]
        shape = op.number(sizes)
    if op.dtype(0) in PARTS:
        shape = op.joined([shape, op.size(2)])
    op.keep(op.emit("Reshape", [x, shape], {"allowzero": 1}))


@converter("SQUEEZE", options="SqueezeOptions")
def squeeze(op: Operation) -> None:
    """The axes are listed, or all that are 1."""
    axes = op.option_list("SqueezeDims")
    if not axes:
        axes = [axis for axis, size in enumerate(op.shape(0)) if size == 1]
    rank = op.rank(0)  # of complex numbers there is one axis more, behind the others
    op.keep(op.emit("Squeeze", [op.stored(0), op.number(sorted({op.axis(axis, rank) for axis in axes}))]))


@converter("EXPAND_DIMS")
def expand(op: Operation) -> None:
    (axis,) = op.whole(1, "the axis")
    op.keep(op.emit("Unsqueeze", [op.stored(0), op.number([op.axis(axis, op.rank(0) + 1)])]))


@converter("TRANSPOSE")
def transpose(op: Operation) -> None:
    order = [op.axis(axis, op.rank(0)) for axis in op.whole(1, "the order of the axes")]
    if sorted(order) != list(range(op.rank(0))):
        raise op.error(f"has the order {order} for {op.rank(0)} axes")
    if op.dtype(0) in PARTS:
        order.append(len(order))
    op.keep(op.emit("Transpose", [op.stored(0)], {"perm": order}))


@converter("SHAPE", options="ShapeOptions")
def shape(op: Operation) -> None:
    sizes = op.emit("Shape", [op.stored(0)])
    op.keep(sizes if op.result_dtype() is DType.INT64 else op.cast(sizes, op.result_dtype()))


@converter("RANK")
def rank(op: Operation) -> None:
    op.keep(op.emit("Identity", [op.number(op.rank(0), op.result_dtype().numpy)]))


@converter("BROADCAST_TO")
def broadcast(op: Operation) -> None:
    op.keep(op.emit("Expand", [op.stored(0), op.sizes(1)]))


@converter("BROADCAST_ARGS")
def broadcast_shapes(op: Operation) -> None:
    """The shape of two shapes broadcast against each other."""
    one, other = op.shape(0)[0], op.shape(1)[0]
    if one is None or other is None or max(one, other) > MAX_RANK:
        raise op.unsupported("broadcasts shapes of unknown rank")
    length = max(one, other)
    padded = []
    for index, size in enumerate((one, other)):
        value = op.stored(index)
        if size < length:
            ones = op.number([1] * (length - size), op.dtype(index).numpy)
            value = op.emit("Concat", [ones, value], {"axis": 0})
        padded.append(value)
    is_one = op.emit("Equal", [padded[0], op.number(1, op.dtype(0).numpy)])
    op.keep(op.emit("Where", [is_one, padded[1], padded[0]]))


@converter("TILE")
def tile(op: Operation) -> None:
    op.keep(op.emit("Tile", [op.stored(0), op.sizes(1)]))


@converter("FILL")
def fill(op: Operation) -> None:
    op.keep(op.emit("Expand", [op.stored(1), op.sizes(0)]))


@converter("RANGE", options="RangeOptions")
def numbers(op: Operation) -> None:
    op.keep(op.emit("Range", [op.stored(index) for index in range(3)]))


@converter("CAST", options="CastOptions")
def cast(op: Operation) -> None:
    """Complex numbers lose their imaginary part, real ones get one of 0."""
    x, given, wanted = op.stored(0), op.dtype(0), op.result_dtype()
    if given in PARTS:
        if wanted in PARTS:
            op.keep(op.cast(x, PARTS[wanted]))
            return
        x = op.emit("Gather", [x, op.number(0)], {"axis": -1})
        given = PARTS[given]
    if wanted in PARTS:
        real = op.emit("Unsqueeze", [op.cast(x, PARTS[wanted]), op.number([-1])])
        op.keep(op.emit("Concat", [real, op.emit("Sub", [real, real])], {"axis": -1}))
        return
    op.keep(op.cast(x, wanted))

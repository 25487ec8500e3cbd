"""Putting tensors together, and taking them apart."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter


@converter("CONCATENATION", options="ConcatenationOptions")
def concatenation(op: Operation) -> None:
    """Parts that are quantized as the result is are moved as they are.  LiteRT applies no activation here."""
    axis, parts = op.axis(op.option("Axis"), len(op.result_shape())), range(op.count)
    if all(op.is_alike(op.tensor(part), op.result()) for part in parts):
        op.keep(op.emit("Concat", [op.stored(part) for part in parts], {"axis": axis}))
        return
    op.finish(op.emit("Concat", [op.real(part) for part in parts], {"axis": axis}))


@converter("PACK", options="PackOptions")
def pack(op: Operation) -> None:
    axis = op.axis(op.option("Axis"), len(op.result_shape()))
    move = all(op.is_alike(op.tensor(part), op.result()) for part in range(op.count))
    parts = [op.stored(part) if move else op.real(part) for part in range(op.count)]
    places = op.number([axis])
    joined = op.emit("Concat", [op.emit("Unsqueeze", [part, places]) for part in parts], {"axis": axis})
    if move:
        op.keep(joined)
    else:
        op.finish(joined)


@converter("UNPACK", options="UnpackOptions")
def unpack(op: Operation) -> None:
    count, axis = len(op.file.outputs), op.axis(op.option("Axis"), op.rank(0))
    x = op.stored(0)
    for index in range(count):
        if op.file.outputs[index] >= 0:
            op.keep(op.emit("Gather", [x, op.number(index)], {"axis": axis}), index)


@converter("SPLIT", options="SplitOptions")
def split(op: Operation) -> None:
    """Equal parts; the axis is the first input."""
    (axis,) = op.whole(0, "the axis")
    count = len(op.file.outputs)
    axis = op.axis(axis, op.rank(1))
    for index, part in enumerate(op.several("Split", [op.stored(1)], count, {"axis": axis, "num_outputs": count})):
        op.keep(part, index)


@converter("SPLIT_V", options="SplitVOptions")
def split_sizes(op: Operation) -> None:
    (axis,) = op.whole(2, "the axis")
    axis, sizes = op.axis(axis, op.rank(0)), op.constant(1)
    if sizes is None:
        lengths = op.sizes(1)
    else:
        lengths = op.number(_settled(op, [int(size) for size in sizes.reshape(-1)], op.shape(0)[axis]))
    for index, part in enumerate(op.several("Split", [op.stored(0), lengths], len(op.file.outputs), {"axis": axis})):
        op.keep(part, index)


def _settled(op: Operation, sizes: list[int], whole: object) -> list[int]:
    """Sizes with the one that is -1 replaced by what is left."""
    if -1 not in sizes:
        return sizes
    if not isinstance(whole, int) or sizes.count(-1) > 1:
        raise op.unsupported(f"splits {whole} into {sizes}")
    return [whole - sum(sizes) - 1 if size == -1 else size for size in sizes]

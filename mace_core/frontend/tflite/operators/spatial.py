"""Elements moved between channels, batches and places of an image."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import image
from mace_core.frontend.tflite.registry import converter


@converter("DEPTH_TO_SPACE", options="DepthToSpaceOptions")
@converter("SPACE_TO_DEPTH", options="SpaceToDepthOptions")
def blocks(op: Operation) -> None:
    """In both, channels that were neighbors in depth first go to one place."""
    image(op, 0)
    kind = "DepthToSpace" if op.file.builtin == "DEPTH_TO_SPACE" else "SpaceToDepth"
    size = op.option("BlockSize")
    if size < 1:
        raise op.error(f"has blocks of {size}")
    op.keep(op.to_channels_last(op.emit(kind, [op.to_channels_first(op.stored(0))], {"blocksize": size})))


@converter("SPACE_TO_BATCH_ND")
def space_to_batch(op: Operation) -> None:
    """(N, S..., C), padded, to (blocks * N, S / block..., C)."""
    block, pads = op.whole(1, "the block shape"), op.whole(2, "the padding")
    axes, rank = len(block), op.rank(0)
    _check(op, block, pads)
    before, after = pads[::2], pads[1::2]
    x = op.stored(0)
    if any(pads):
        rest = [0] * (rank - axes - 1)
        zero = op.tensor(0).quantization
        padding = int(zero.zero_point[0]) if zero is not None and op.is_quantized(op.tensor(0)) else 0
        x = op.emit("Pad", [x, op.number([0, *before, *rest, 0, *after, *rest]), op.number(padding, op.dtype(0).numpy)])
    sizes = op.dims(x, rank)
    split = [sizes[0]]
    for size, factor in zip(sizes[1 : axes + 1], block, strict=True):
        split += [op.quotient(size, factor), op.size(factor)]
    x = op.emit("Reshape", [x, op.joined([*split, *sizes[axes + 1 :]])])
    inner = [2 * axis + 2 for axis in range(axes)]
    outer = [2 * axis + 1 for axis in range(axes)]
    x = op.emit("Transpose", [x], {"perm": [*inner, 0, *outer, *range(2 * axes + 1, rank + axes)]})
    whole = [op.size(-1), *(op.quotient(size, factor) for size, factor in zip(sizes[1 : axes + 1], block, strict=True))]
    op.keep(op.emit("Reshape", [x, op.joined([*whole, *sizes[axes + 1 :]])]))


@converter("BATCH_TO_SPACE_ND")
def batch_to_space(op: Operation) -> None:
    """(blocks * N, S..., C) to (N, S * block..., C), then cropped."""
    block, crops = op.whole(1, "the block shape"), op.whole(2, "the crops")
    axes, rank = len(block), op.rank(0)
    _check(op, block, crops)
    x = op.stored(0)
    sizes = op.dims(x, rank)
    x = op.emit("Reshape", [x, op.joined([*(op.size(factor) for factor in block), op.size(-1), *sizes[1:]])])
    mixed: list[int] = []
    for axis in range(axes):
        mixed += [axes + 1 + axis, axis]
    x = op.emit("Transpose", [x], {"perm": [axes, *mixed, *range(2 * axes + 1, rank + axes)]})
    whole = [op.product(size, factor) for size, factor in zip(sizes[1 : axes + 1], block, strict=True)]
    x = op.emit("Reshape", [x, op.joined([op.size(-1), *whole, *sizes[axes + 1 :]])])
    if any(crops):
        ends = [-after if after else (1 << 31) - 1 for after in crops[1::2]]
        x = op.emit("Slice", [x, op.number(crops[::2]), op.number(ends), op.number(list(range(1, axes + 1)))])
    op.keep(x)


def _check(op: Operation, block: list[int], edges: list[int]) -> None:
    if not block or min(block) < 1 or len(edges) != 2 * len(block) or min(edges) < 0 or len(block) >= op.rank(0):
        raise op.error(f"has blocks {block} and edges {edges} for {op.rank(0)} axes")


@converter("DILATE")
def dilate(op: Operation) -> None:
    """Elements apart, with a value between them: each is the first of a part of its own, and the last part is cut."""
    steps, shape = op.whole(1, "the dilations"), op.shape(0)
    sizes = [int(size) for size in shape if size is not None]
    if len(sizes) < len(shape):
        raise op.unsupported("has sizes that may change")
    if len(steps) != len(sizes) or min(steps, default=1) < 1:
        raise op.error(f"has dilations {steps} of {len(sizes)} axes")
    if not sizes or 0 in sizes:
        op.keep(op.stored(0))
        return
    apart = op.emit("Reshape", [op.stored(0), op.number([number for size in sizes for number in (size, 1)])])
    more = [number for step in steps for number in (0, step - 1)]
    value = op.emit("Reshape", [op.stored(2), op.number([])])
    padded = op.emit("Pad", [apart, op.number([0] * len(more) + more), value])
    whole = op.emit("Reshape", [padded, op.number([size * step for size, step in zip(sizes, steps, strict=True)])])
    ends = [(size - 1) * step + 1 for size, step in zip(sizes, steps, strict=True)]
    axes = list(range(len(sizes)))
    op.keep(op.emit("Slice", [whole, op.number([0] * len(sizes)), op.number(ends), op.number(axes)]))

"""Agreement of data with indices, updates, lengths and lists of sizes."""

from __future__ import annotations

from mace_core.graph.shapes.agreement import Rule, agreement, expect, expect_one, expect_rank, require
from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError
from mace_core.tensor import DType


def _singles(**named: int) -> Rule:
    """A rule: these inputs, by what they are, are single elements."""

    def rule(ctx: NodeContext) -> None:
        for what, index in named.items():
            expect_one(ctx, index, f"the {what}")

    return rule


def _lists(*indices: int) -> Rule:
    """A rule: these inputs are lists."""

    def rule(ctx: NodeContext) -> None:
        for index in indices:
            if ctx.has(index):
                expect_rank(ctx, index, 1, f"input {index}, a list,")

    return rule


agreement("ConstantOfShape")(_lists(0))
agreement("Expand", "CenterCropPad", "Tile", "Reshape", "Pad")(_lists(1))
agreement("Slice")(_lists(1, 2, 3, 4))
agreement("CumSum", "CumProd")(_singles(axis=1))
agreement("Range")(_singles(start=0, limit=1, step=2))
agreement("Clip")(_singles(minimum=1, maximum=2))
agreement("Dropout")(_singles(ratio=1, mode=2))


@agreement("EyeLike")
def eye_like(ctx: NodeContext) -> None:
    expect_rank(ctx, 0, 2, "the data")


@agreement("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(ctx: NodeContext) -> None:
    scores = ctx.shape(0)
    require(len(scores) >= 2, "the scores (N, C, …) must have at least 2 axes")
    expect(ctx, 1, scores[:1] + scores[2:], what="the classes, one for each place,")
    expect(ctx, 2, scores[1:2], what="the weights, one for each class,")


@agreement("MelWeightMatrix")
def mel_weights(ctx: NodeContext) -> None:
    for index in range(ctx.input_count):
        expect_one(ctx, index, f"input {index}")


def _within(inner: Ints, outer: Ints, axis: int) -> bool:
    """Whether ``inner`` lies in ``outer`` on every axis but ``axis``."""
    axis %= max(len(outer), 1)
    return all(i == axis or a <= b for i, (a, b) in enumerate(zip(inner, outer, strict=True)))


@agreement("GatherElements")
def gather_elements(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis", 0)
    require(
        len(data) != len(indices) or _within(indices, data, axis),
        f"indices {list(indices)} reach beyond data {list(data)} on an axis other than {axis}",
    )


@agreement("ScatterElements", "Scatter")
def scatter_elements(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis", 0)
    expect(ctx, 2, indices, what="the updates, one for each index,")
    require(
        len(data) == len(indices) and _within(indices, data, axis),
        f"indices {list(indices)} must have the axes of data {list(data)} and lie in it on all but axis {axis}",
    )


@agreement("ScatterND")
def scatter_nd(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    require(
        len(indices) > 0 and indices[-1] <= len(data),
        f"indices {list(indices)} name more axes than the data {list(data)} has",
    )
    expect(ctx, 2, indices[:-1] + data[indices[-1] :], what="the updates")


@agreement("GatherND")
def gather_nd(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    leading = ctx.attr("batch_dims", 0)
    require(
        0 <= leading < max(len(data), 1) and leading < max(len(indices), 1) and data[:leading] == indices[:leading],
        f"data {list(data)} and indices {list(indices)} must begin with the same {leading} batch dimensions",
    )


@agreement("TensorScatter")
def tensor_scatter(ctx: NodeContext) -> None:
    cache, update = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis", -2)
    require(
        len(cache) > 1 and -len(cache) <= axis < len(cache) and axis % len(cache) != 0,
        f"axis {axis} must name an axis of the cache {list(cache)} behind the first",
    )
    axis %= len(cache)
    require(
        len(update) == len(cache)
        and all(a == b if i != axis else a <= b for i, (a, b) in enumerate(zip(update, cache, strict=True))),
        f"the update {list(update)} must be as the cache {list(cache)} is, on axis {axis} not longer",
    )
    expect(ctx, 2, (cache[0],), what="the write indices, one for each batch,")


@agreement("OneHot")
def one_hot(ctx: NodeContext) -> None:
    expect_one(ctx, 1, "the depth")
    expect(ctx, 2, (2,), what="the pair of off and on values")


@agreement("Compress")
def compress(ctx: NodeContext) -> None:
    expect_rank(ctx, 1, 1, "the condition")


@agreement("ReverseSequence")
def reverse_sequence(ctx: NodeContext) -> None:
    data = ctx.shape(0)
    require(len(data) >= 2, "the data must have at least 2 axes")
    time, batch = ctx.attr("time_axis", 0), ctx.attr("batch_axis", 1)
    require({time, batch} == {0, 1}, f"time_axis {time} and batch_axis {batch} must be 0 and 1 or 1 and 0")
    expect(ctx, 1, (data[batch],), what="the lengths, one for each sequence,")


@agreement("NonMaxSuppression")
def non_max_suppression(ctx: NodeContext) -> None:
    boxes, scores = expect_rank(ctx, 0, 3, "the boxes"), expect_rank(ctx, 1, 3, "the scores")
    require(
        boxes[2] == 4 and scores[0] == boxes[0] and scores[2] == boxes[1],
        f"boxes {list(boxes)} must be (batches, boxes, 4) and scores {list(scores)} (batches, classes, boxes)",
    )
    for index, what in ((2, "the largest number of boxes"), (3, "the overlap"), (4, "the score")):
        expect_one(ctx, index, what)


@agreement("Trilu")
def trilu(ctx: NodeContext) -> None:
    require(len(ctx.shape(0)) >= 2, "the data must have at least 2 axes")
    expect_one(ctx, 1, "the diagonal")


@agreement("Einsum")
def einsum(ctx: NodeContext) -> None:
    equation = str(ctx.attr("equation", "")).replace(" ", "")
    sizes: dict[str, int] = {}
    for index, part in enumerate(equation.partition("->")[0].split(",")[: ctx.input_count]):
        shape = ctx.shape(index)
        before, _, after = part.partition("...")
        if len(before) + len(after) > len(shape):
            raise ShapeMismatchError(f"'{part}' does not fit {list(shape)}")
        named = [*zip(before, shape, strict=False), *zip(reversed(after), reversed(shape), strict=False)]
        for letter, size in named:
            if part.count(letter) > 1 and any(other != size for same, other in named if same == letter):
                raise ShapeMismatchError(f"'{letter}' in '{part}' cannot be two sizes of {list(shape)}")
            known = sizes.setdefault(letter, size)
            if known != size and 1 not in (known, size):
                raise ShapeMismatchError(f"index '{letter}' has sizes {known} and {size}")
            sizes[letter] = size if known == 1 else known


@agreement("Loop")
def loop(ctx: NodeContext) -> None:
    expect_one(ctx, 0, "the number of turns")
    require(not ctx.has(0) or ctx.dtype(0) in (DType.INT64, DType.INT32), "the number of turns must be an int64")
    _outputs_of_body(ctx, len(ctx.attr("body").outputs) - 1)


def _outputs_of_body(ctx: NodeContext, found: int) -> None:
    require(ctx.output_count <= found, f"its body gives {max(found, 0)} outputs, the node has {ctx.output_count}")


@agreement("If")
def branches(ctx: NodeContext) -> None:
    for name in ("then_branch", "else_branch"):
        _outputs_of_body(ctx, len(ctx.attr(name).outputs))


@agreement("Scan")
def scan(ctx: NodeContext) -> None:
    _outputs_of_body(ctx, len(ctx.attr("body").outputs))
    count = ctx.attr("num_scan_inputs", 0)
    if ctx.opset < 9:  # its first input is another one, and there is a batch
        for index in range(1, ctx.input_count):
            scanned = index >= ctx.input_count - count
            least, found = 1 + scanned, len(ctx.shape(index))
            require(found >= least, f"input {index} must have at least {least} axes, the first for the batch")
        return
    require(0 < count <= ctx.input_count, f"num_scan_inputs {count} is not from 1 to {ctx.input_count}")
    for name, most in (
        ("scan_input_directions", count),
        ("scan_output_directions", ctx.output_count - (ctx.input_count - count)),
    ):
        given = ctx.attr(name) or ()
        require(len(given) in (0, most) and set(given) <= {0, 1}, f"{name} {list(given)} must be {most} of 0 and 1")


@agreement("Resize")
def resize(ctx: NodeContext) -> None:
    rank, axes = len(ctx.shape(0)), ctx.attr("axes") or ()
    require(len({axis % max(rank, 1) for axis in axes}) == len(axes), f"axes {list(axes)} name one axis twice")
    policy = ctx.attr("keep_aspect_ratio_policy", "stretch")
    require(policy in ("stretch", "not_larger", "not_smaller"), f"there is no keep_aspect_ratio_policy '{policy}'")

"""Rearrangement, sampling and distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import axis, count, one_of
from mace_core.operators.bodies import BodyBuilder, given, kept, made
from mace_core.operators.checks import expect_one
from mace_core.operators.context import NodeContext, ShapeMismatchError, normalize_axis, same_as_first
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.pieces import shaped, turned
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.operators.standard.indexing import gather_nd
from mace_core.operators.standard.sampling import grid_sample
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("DepthToSpace", domain=DOMAIN, rules={"mode": one_of("DCR", "CRD")})
attribute_rules(
    "GridSample", domain=DOMAIN, rules={"mode": one_of("bilinear", "nearest", "bicubic", "linear", "cubic")}
)
attribute_rules("Pad", domain=DOMAIN, rules={"mode": one_of("constant", "reflect", "edge", "wrap")})
attribute_rules("UnfoldTensor", domain=DOMAIN, rules={"size": count(required=True), "step": count(), "dim": axis()})


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("Trilu", domain=DOMAIN)(same_as_first)


shape_function("GatherND", domain=DOMAIN)(gather_nd)

shape_function("GridSample", domain=DOMAIN)(grid_sample)


@shape_function("Pad", domain=DOMAIN)
def contrib_pad(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, pads = ctx.shape(0), ctx.ints(1)
    rank = len(shape)
    if len(pads) != 2 * rank:
        raise ShapeMismatchError(f"{len(pads)} pads do not fit {rank} axes")
    return [TensorType(ctx.dtype(0), tuple(shape[i] + pads[i] + pads[rank + i] for i in range(rank)))]


@shape_function("ExpandDims", domain=DOMAIN)
def expand_dims(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape = list(ctx.shape(0))
    shape.insert(normalize_axis(ctx.ints(1)[0], len(shape) + 1), 1)
    return [TensorType(ctx.dtype(0), tuple(shape))]


@shape_function("CDist", domain=DOMAIN)
def distances(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), (ctx.shape(0)[0], ctx.shape(1)[0]))]


@shape_function("UnfoldTensor", domain=DOMAIN)
def unfold(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Windows along one axis; a new last axis holds the elements of each."""
    shape, size, step = list(ctx.shape(0)), ctx.attr("size"), ctx.attr("step", 1)
    axis = normalize_axis(ctx.attr("dim", -1), len(shape))
    if size > shape[axis]:
        raise ShapeMismatchError(f"a window of {size} does not fit axis {axis} of {shape[axis]}")
    shape[axis] = (shape[axis] - size) // step + 1
    return [TensorType(ctx.dtype(0), (*shape, size))]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("ExpandDims", domain=DOMAIN)
def check_one_new_axis(ctx: NodeContext) -> None:
    expect_one(ctx, 1, "the axis")


# --- bodies -----------------------------------------------------------------------------------------------------------

PAD_HAS_INPUTS_SINCE = 11


@body("ExpandDims", domain=DOMAIN)
def build_expand_dims(b: BodyBuilder, node: Node) -> bool:
    shaped(b, given(node, 0), b.view.shape(made(node)), into=made(node))
    return True


@body("Pad", domain=DOMAIN)
def build_pad(b: BodyBuilder, node: Node) -> bool:
    """Its pads may be (1, 2 rank)."""
    if b.opset < PAD_HAS_INPUTS_SINCE:
        return False
    pads = shaped(b, given(node, 1), (2 * len(b.view.shape(given(node, 0))),))
    b.op("Pad", [given(node, 0), pads, node.input(2)], kept(node), into=made(node))
    return True


@body("GridSample", domain=DOMAIN)
def build_grid_sample(b: BodyBuilder, node: Node) -> bool:
    """The standard took it over, and renamed two modes in opset 20."""
    attributes = kept(node)
    names = {"bilinear": "linear", "bicubic": "cubic"} if b.opset >= 20 else {}
    mode = node.attr("mode", "bilinear")
    b.op("GridSample", node.inputs, {**attributes, "mode": names.get(mode, mode)}, into=made(node))
    return True


@body("CDist", domain=DOMAIN)
def build_distances(b: BodyBuilder, node: Node) -> bool:
    """Between rows: the squares of either, less twice their product."""
    metric = node.attr("metric", "sqeuclidean")
    first, second = given(node, 0), given(node, 1)
    rows, others = b.view.shape(first)[0], b.view.shape(second)[0]
    ones = b.op("Expand", [b.scalar_like(1.0, first), b.constant([b.view.shape(first)[1], 1], np.int64)])
    squares = [
        shaped(b, b.op("MatMul", [b.op("Mul", [side, side]), ones]), shape)
        for side, shape in ((first, (rows, 1)), (second, (1, others)))
    ]
    product = b.op("MatMul", [first, turned(b, second, (1, 0))])
    total = b.op("Sub", [b.op("Add", squares), b.op("Mul", [product, b.scalar_like(2.0, first)])])
    if metric == "sqeuclidean":
        b.op("Max", [total, b.scalar_like(0.0, first)], into=made(node))
    elif metric == "euclidean":
        b.op("Sqrt", [b.op("Max", [total, b.scalar_like(0.0, first)])], into=made(node))
    else:
        return False
    return True


@body("UnfoldTensor", domain=DOMAIN)
def build_unfold(b: BodyBuilder, node: Node) -> bool:
    """Gather gives (..., windows, size, ...); the elements of a window go last."""
    data, size, step = given(node, 0), node.attr("size"), node.attr("step", 1)
    rank = len(b.view.shape(data))
    axis = node.attr("dim", -1) % rank
    first = np.arange(0, b.view.shape(data)[axis] - size + 1, step)
    windows = b.op("Gather", [data, b.constant(first[:, None] + np.arange(size))], {"axis": axis})
    turned(b, windows, [i for i in range(rank + 1) if i != axis + 1] + [axis + 1], into=made(node))
    return True

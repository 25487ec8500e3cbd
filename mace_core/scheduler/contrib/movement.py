"""Operators that move data, and distances."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node
from mace_core.scheduler.contrib.pieces import shaped, turned
from mace_core.scheduler.contrib.registry import body, given, kept, made
from mace_core.scheduler.rewriting import BodyBuilder

PAD_HAS_INPUTS_SINCE = 11


@body("ExpandDims")
def _expand_dims(b: BodyBuilder, node: Node) -> bool:
    shaped(b, given(node, 0), b.view.shape(made(node)), into=made(node))
    return True


@body("Pad")
def _pad(b: BodyBuilder, node: Node) -> bool:
    """Its pads may be (1, 2 rank)."""
    if b.opset < PAD_HAS_INPUTS_SINCE:
        return False
    pads = shaped(b, given(node, 1), (2 * len(b.view.shape(given(node, 0))),))
    b.op("Pad", [given(node, 0), pads, node.input(2)], kept(node), into=made(node))
    return True


@body("GridSample")
def _grid_sample(b: BodyBuilder, node: Node) -> bool:
    """The standard took it over, and renamed two modes in opset 20."""
    attributes = kept(node)
    names = {"bilinear": "linear", "bicubic": "cubic"} if b.opset >= 20 else {}
    mode = node.attr("mode", "bilinear")
    b.op("GridSample", node.inputs, {**attributes, "mode": names.get(mode, mode)}, into=made(node))
    return True


@body("CDist")
def _distances(b: BodyBuilder, node: Node) -> bool:
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

"""TreeEnsembleRegressor and TreeEnsemble, as far as they add up or choose from what leaves say.

Transforms, labels of classes and other element types are the work of their bodies, which come back to these.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.operators.ml.forest import LEAF, MODES, Forest, base_values, named_forest, numbered_forest
from mace_core.tensor import DType
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers
from mace_cpu.trees.arguments import BLOCK, MISSING

ML = "ai.onnx.ml"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})
MEMBER = 6
"""The number of the mode that the newer form alone has; its forest asks for one member after the other."""

FUNCTIONS = ("AVERAGE", "SUM", "MIN", "MAX")
"""By their numbers in TreeEnsemble."""

Array = npt.NDArray[np.generic]


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)
    if reason is not None:
        return reason
    shape, targets = view.shape(need(node.input(0))), int(node.attr("n_targets", 1))
    if len(shape) != 2:
        return "the kernel takes rows of features"
    has_names = node.op_type == "TreeEnsembleRegressor"
    asked = node.attr("nodes_featureids") or ()
    if not asked:
        return "there are no trees"
    if has_names:
        modes = [_text(mode) for mode in node.attr("nodes_modes") or ()]
        unknown = {*modes} - {*MODES[:MEMBER], LEAF}
        if unknown:
            return f"there is no kernel for nodes of mode '{min(unknown)}'"
        asked = [feature for feature, mode in zip(asked, modes, strict=False) if mode != LEAF]
    if any(not 0 <= feature < shape[1] for feature in asked):
        return f"the trees ask for features that rows of {shape[1]} do not have"
    transform = node.attr("post_transform", "NONE" if has_names else 0)
    if transform not in ("NONE", 0) and (targets > 1 or transform in ("PROBIT", 4)):
        return "the kernel does not transform scores"
    if has_names:
        if targets > 1 and base_values(node).size:
            return "the kernel starts from base values of one target only"
        if str(node.attr("aggregate_function", "SUM")) not in FUNCTIONS:
            return f"there is no aggregate function '{node.attr('aggregate_function')}'"
    found = view.tensor_type(need(node.input(0)))
    splits = node.attr("nodes_values_as_tensor" if has_names else "nodes_splits")
    if found is not None and splits is not None and splits.dtype is DType.FLOAT64 and found.dtype is DType.FLOAT32:
        return "the kernel compares features of one float type"
    return None


def _text(mode: str | bytes) -> str:
    return mode.decode() if isinstance(mode, bytes) else mode


class Tables(NamedTuple):
    """What the kernel reads of a forest; see there."""

    nodes: npt.NDArray[np.int32]
    splits: Array
    targets_of: npt.NDArray[np.int32]
    weights: Array


def tables(forest: Forest, dtype: np.dtype[np.generic]) -> Tables:
    """Nodes in the order of the forest, and the weights of leaves one after the other."""
    is_leaf = np.asarray([mode == LEAF for mode in forest.modes])
    places, targets = np.nonzero(forest.has & is_leaf[:, None])
    ends = np.searchsorted(places, np.arange(is_leaf.size + 1))
    kinds = np.asarray([0 if mode == LEAF else MODES.index(mode) for mode in forest.modes])
    nodes = np.empty((is_leaf.size, 4), np.int32)
    nodes[:, 0] = np.where(is_leaf, -1, forest.features)
    nodes[:, 1] = kinds + MISSING * forest.missing
    nodes[:, 2] = np.where(is_leaf, ends[:-1], forest.yes)
    nodes[:, 3] = np.where(is_leaf, ends[1:], forest.no)
    wide = np.float64 if forest.weights.dtype == np.float64 else np.float32
    weights = forest.weights[places, targets].astype(wide)
    return Tables(nodes, forest.splits.astype(dtype), targets.astype(np.int32), weights)


def _comparison(forest: Forest) -> str:
    modes = {mode for mode in forest.modes if mode != LEAF}
    if modes <= {"BRANCH_LEQ"}:
        return "at_most"
    return "less" if modes == {"BRANCH_LT"} else "any"


@lowers("TreeEnsembleRegressor", "TreeEnsemble", check=_check, domain=ML)
def lower_trees(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    rows, features = program.facts.shape(source)
    count = int(node.attr("n_targets", 1))
    if node.op_type == "TreeEnsembleRegressor":
        forest, base = named_forest(node, "target", count), base_values(node)
        reduction = str(node.attr("aggregate_function", "SUM"))
    else:
        forest, base = numbered_forest(node, count), np.zeros(0)
        reduction = FUNCTIONS[int(node.attr("aggregate_function", 1))]
    dtype = program.facts.dtype(source)
    found = tables(forest, dtype.numpy)
    starts = np.zeros(count, found.weights.dtype)
    if base.size == count:
        starts[:] = base
    work = rows * len(forest.roots) * (forest.depth + 1) * 8
    chunks = program.steps.chunks(rows, work)
    program.steps.emit(
        numba_source(
            "mace_cpu.trees.kernels",
            "tree_scores",
            dtype=dtype.label,
            weight=DType.from_numpy(found.weights.dtype).label,
            result=program.facts.dtype(target).label,
            comparison=_comparison(forest),
            missing="tracked" if forest.missing.any() else "not",
            reduction=reduction,
        ),
        {
            "x": program.values.read(source),
            "y": program.values.write(target),
            "nodes": program.constants.put(found.nodes),
            "splits": program.constants.put(found.splits),
            "roots": program.constants.put(forest.roots.astype(np.int32)),
            "targets_of": program.constants.put(found.targets_of),
            "weights": program.constants.put(found.weights),
            "starts": program.constants.put(starts),
            "sums": Buf.scratch(found.weights.dtype.itemsize * BLOCK * count * chunks),
            "features": features,
            "targets": count,
            "trees": len(forest.roots),
            "depth": forest.depth,
        },
        extent=rows,
        work=work,
        chunks=chunks,
    )

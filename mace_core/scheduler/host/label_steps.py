"""Steps that no device has memory for, handled by the core: texts for labels, and maps from labels to scores.

This is native: no onnx.reference is involved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import Node
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType

ML = "ai.onnx.ml"


class LabelStep(ControlFlow):
    """A ZipMap, or a Gather from a list of texts."""

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        self._check(context)
        given = [self._argument(index, values) for index in range(len(self.node.inputs))]
        step = _zip_map if self.node.op_type == "ZipMap" else _pick_texts
        return self._only_used([step(self.node, given)])


def is_label_step(node: Node) -> bool:
    """Whether the core handles this node itself, by what it is."""
    if node.domain == ML:
        return node.op_type == "ZipMap"
    if node.domain or node.op_type != "Gather":
        return False
    texts = getattr(node.input(0), "constant", None)
    return texts is not None and texts.dtype is DType.STRING and len(texts.shape) == 1


def _zip_map(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    """A map from labels to scores for every row (N, C); a list of scores is one row."""
    labels = node.attr("classlabels_strings") or node.attr("classlabels_int64s") or ()
    keys = [label.decode() if isinstance(label, bytes) else label for label in labels]
    scores = np.atleast_2d(given[0])
    if scores.ndim != 2 or scores.shape[1] != len(keys):
        raise _error(node, f"scores {list(given[0].shape)} do not fit its {len(keys)} labels")
    return [dict(zip(keys, row, strict=True)) for row in scores.tolist()]


def _pick_texts(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    texts, indices = given
    if indices.size and not -len(texts) <= indices.min() <= indices.max() < len(texts):
        raise _error(node, f"indices from {indices.min()} to {indices.max()} are outside its {len(texts)} texts")
    return np.asarray(texts, object)[indices]


def _error(node: Node, problem: str) -> ModelError:
    return ModelError(f"node '{node.name}' ({node.qualified_op}): {problem}")

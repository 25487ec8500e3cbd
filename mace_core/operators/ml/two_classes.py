"""Tree ensembles of two classes, whose labels and scores onnxruntime makes by rules of their own.

The standard says nothing of them; these are the rules of ``TreeAggregatorClassifier`` in onnxruntime, its oddities with
base values and with labels other than 0 and 1 included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.ml.forest import Forest, base_values
from mace_core.operators.ml.scores import transformed
from mace_core.operators.pieces import cast, joined, shaped
from mace_core.tensor import DType


@dataclass(frozen=True, slots=True)
class TwoScores:
    """What the leaves say.

    Attributes:
        scores: the sums, (N, 2).
        rows: N.
        says_first, says: whether any leaf says something of the first and second class, for all rows or for each,
            (N, 1).
    """

    scores: Value
    rows: int
    says_first: bool | Value
    says: bool | Value


def two_classes(b: BodyBuilder, node: Node, forest: Forest, found: TwoScores, labels: Value) -> bool:
    """Append the outputs; False for forms that onnxruntime leaves undefined."""
    kind, base = str(node.attr("post_transform", "NONE")), base_values(node)
    is_single = len(set(node.attr("class_ids"))) == 1
    says = found.says
    may_lack = says is not True and base.size != 2
    if base.size > 2 or (may_lack and (kind == "PROBIT" or (base.size == 1 and not is_single))):
        return False
    first, second = _from_base(b, found, base, forest)
    decides = _either(b, says, second, first)
    is_share = is_single and bool((forest.weights >= 0).all())
    if node.output(0) is not None:
        bound = b.constant(0.5 if is_share else 0.0, forest.weights.dtype)
        place = shaped(b, cast(b, b.op("Greater", [decides, bound]), DType.INT64), (-1,))
        has_texts = bool(node.attr("classlabels_strings"))
        if is_single or has_texts:
            b.op("Gather", [labels, place], {"axis": 0}, into=node.output(0))
        else:
            b.op("Identity", [place], into=node.output(0))  # 0 and 1, whatever the labels
    if node.output(1) is not None:
        if base.size:  # a class of which no leaf says anything is written as 0, whatever its base value
            nothing = b.constant(np.zeros((found.rows, 1), forest.weights.dtype))
            first, second = _either(b, found.says_first, first, nothing), _either(b, says, second, nothing)
        first, second = (cast(b, side, DType.FLOAT32) for side in (first, second))
        pair = transformed(b, joined(b, [first, second], 1), kind) if says is not False or not may_lack else first
        alone = _alone(b, first, kind, is_share=is_share) if may_lack else pair
        result = _either(b, says if may_lack else True, pair, alone)
        b.op("Identity", [result], into=node.output(1))
    return True


def _from_base(b: BodyBuilder, found: TwoScores, base: np.ndarray, forest: Forest) -> tuple[Value, Value]:
    """The scores of either class, (N, 1) each, with the base values; the first of two is used only where nothing is
    said of the second class, the score of which is not used where something is."""
    first, second = (b.op("Gather", [found.scores, b.constant([i], np.int64)], {"axis": 1}) for i in (0, 1))
    starts = [b.constant(number, forest.weights.dtype) for number in base]
    if len(starts) == 1:
        return b.op("Add", [first, starts[0]]), second
    if not starts:
        return first, second
    turned = b.op("Add", [first, starts[1]])
    sums = b.op("Add", [first, starts[0]]), b.op("Add", [second, starts[1]])
    return _either(b, found.says, b.op("Neg", [turned]), sums[0]), _either(b, found.says, turned, sums[1])


def _either(b: BodyBuilder, condition: bool | Value, yes: Value, no: Value) -> Value:
    if isinstance(condition, bool):
        return yes if condition else no
    return b.op("Where", [condition, yes, no])


def _alone(b: BodyBuilder, score: Value, kind: str, *, is_share: bool) -> Value:
    """Two scores of one: a share and the rest to one, or a score and its opposite."""
    if kind == "LOGISTIC":
        pair = joined(b, [b.op("Neg", [score]), score], 1)
        return b.op("Sigmoid", [pair])
    other = b.op("Sub", [b.constant(1, np.float32), score]) if is_share else b.op("Neg", [score])
    return joined(b, [other, score], 1)

"""Losses."""

from __future__ import annotations

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.checks import expect, require
from mace_core.operators.context import NodeContext
from mace_core.operators.registry import agreement

attribute_rules(
    "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", rules={"reduction": one_of("none", "sum", "mean")}
)


@agreement("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def check_loss(ctx: NodeContext) -> None:
    scores = ctx.shape(0)
    require(len(scores) >= 2, "the scores (N, C, …) must have at least 2 axes")
    expect(ctx, 1, scores[:1] + scores[2:], what="the classes, one for each place,")
    expect(ctx, 2, scores[1:2], what="the weights, one for each class,")

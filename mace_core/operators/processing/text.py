"""Texts out of class numbers."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import number
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext
from mace_core.operators.processing import DOMAIN
from mace_core.operators.registry import agreement, shape_function
from mace_core.tensor import DType, TensorType, ValueType

attribute_rules("CtcText", domain=DOMAIN, rules={"blank": number(0, 1 << 30)})


@shape_function("CtcText", domain=DOMAIN)
def ctc_text(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Class numbers (N, T) and the text of each class (C): texts (N)."""
    return [TensorType(DType.STRING, ctx.shape(0)[:1])]


@agreement("CtcText", domain=DOMAIN)
def numbers_and_texts(ctx: NodeContext) -> None:
    require(ctx.dtype(0) in (DType.INT64, DType.INT32), "its class numbers are int32 or int64")
    require(ctx.dtype(1) is DType.STRING, "its classes are texts")
    require(len(ctx.shape(0)) == 2 and len(ctx.shape(1)) == 1, "it takes class numbers (N, T) and texts (C)")

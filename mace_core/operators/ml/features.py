"""What operators of this domain share: their features and labels."""

from __future__ import annotations

from collections.abc import Callable

from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext
from mace_core.operators.ml import DOMAIN
from mace_core.operators.registry import ShapeFunction, shape_function
from mace_core.tensor import DType


def ml_shape_function(*op_types: str) -> Callable[[ShapeFunction], ShapeFunction]:
    return shape_function(*op_types, domain=DOMAIN, dtypes=lambda ctx: [None] * ctx.output_count)


def length_of(ctx: NodeContext, name: str) -> int:
    """The number of elements of a list attribute."""
    return len(ctx.attr(name) or ())


def rows_and_features(ctx: NodeContext) -> tuple[int, int]:
    """Rows and features of input 0; a list of features is one row."""
    shape = ctx.shape(0)
    require(len(shape) in (1, 2), f"the features must be (rows, features), not {list(shape)}")
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def label_dtype(ctx: NodeContext) -> DType:
    return DType.STRING if ctx.attr("classlabels_strings") else DType.INT64

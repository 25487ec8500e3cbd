"""Texts and n-grams."""

from __future__ import annotations

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import check_length
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.context import NodeContext, ShapeMismatchError
from mace_core.operators.registry import rank_check

attribute_rules("TfIdfVectorizer", rules={"mode": one_of("TF", "IDF", "TFIDF")})


@rank_check("TfIdfVectorizer")
def check_grams(ctx: NodeContext) -> None:
    shortest, longest = ctx.attr("min_gram_length", 1), ctx.attr("max_gram_length", 1)
    if shortest > longest:
        raise ShapeMismatchError(f"min_gram_length {shortest} is more than max_gram_length {longest}")
    if ctx.attr("pool_strings") and ctx.attr("pool_int64s"):
        raise ShapeMismatchError("pool_strings and pool_int64s are both given, of which one must be left out")
    check_length(ctx, "weights", len(ctx.attr("ngram_indexes") or ()))

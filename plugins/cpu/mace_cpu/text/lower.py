"""TfIdfVectorizer over token numbers."""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

TOKENS = frozenset({DType.INT32, DType.INT64})


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), TOKENS)
    if reason is None and node.attr("mode") not in ("TF", "IDF", "TFIDF"):
        return f"there is no mode '{node.attr('mode')}'"
    return reason


@lowers("TfIdfVectorizer", check=_check)
def lower_tf_idf(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    shape = program.facts.shape(source)
    pool = [int(token) for token in node.attr("pool_int64s", ())]
    starts = [int(start) for start in node.attr("ngram_counts")]
    places = [int(place) for place in node.attr("ngram_indexes")]
    entries: list[tuple[int, int]] = []  # (first token, size) of each gram
    for size, (begin, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), start=1):
        entries += [(first, size) for first in range(begin, end, size)]
    table = [(first, size, place) for (first, size), place in zip(entries, places, strict=False)]
    mode = node.attr("mode")
    given = node.attr("weights")
    weights = np.array(given, np.float32) if given is not None and mode != "TF" else None
    program.steps.emit(
        numba_source("mace_cpu.text.kernels", "count_ngrams", dtype=program.facts.dtype(source).label),
        {
            "tokens": program.values.read(source),
            "target": program.values.write(target),
            "pool": program.constants.put(np.array(pool or [0], np.int64)),
            "table": program.constants.put(np.array(table or [(0, 0, 0)], np.int64)),
            "weights": 0 if weights is None else program.constants.put(weights),
            "length": shape[-1] if shape else 1,
            "results": program.facts.shape(target)[-1],
            "grams": len(table),
            "longest_skip": int(node.attr("max_skip_count")),
            "shortest": int(node.attr("min_gram_length")),
            "longest": int(node.attr("max_gram_length")),
            "counts": int(mode != "IDF"),
        },
        extent=math.prod(program.facts.shape(target)[:-1]),
        work=program.facts.size(source) * len(table),
    )

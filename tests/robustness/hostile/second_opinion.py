"""The process that asks onnxruntime what a model that ran gives, and compares: told a path, it answers one line.

onnxruntime may well die of such a model; that is not a finding about us.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hostile.worker import RESULTS, given_feeds, main

RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)


def compare(path: str) -> dict[str, Any]:
    """ "agrees", "differs" or "refuses"."""
    from mace_testing.fuzzing.judges import ask_onnxruntime

    model = onnx.load(path)
    feeds = given_feeds(path) or {}
    try:
        expected = ask_onnxruntime(model, feeds)
    except Exception as error:
        return {"outcome": "refuses", "message": str(error)[:300]}
    found = pickle.loads(Path(path).with_name(RESULTS).read_bytes())
    node = model.graph.node[0]
    if node.op_type == "TopK" and any(given.name == "sorted" and not given.i for given in node.attribute):
        axis = next((given.i for given in node.attribute if given.name == "axis"), -1)
        found, expected = _in_order(found, axis), _in_order(expected, axis)
    random = any(node.op_type in RANDOM for node in model.graph.node)
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        text = _differ(mine, theirs, random=random)
        if text:
            return {"outcome": "differs", "message": f"output {index}: {text}"}
    return {"outcome": "agrees", "message": ""}


def _in_order(results: Sequence[Any], axis: int) -> list[Any]:
    """What a TopK found, in the order of its values, and of the indices among equal ones: any order is right."""
    arrays = [np.asarray(array) for array in results]
    order = np.lexsort(arrays[::-1], axis)
    return [np.take_along_axis(array, order, axis) for array in arrays]


def _differ(mine: Any, theirs: Any, *, random: bool) -> str:
    from mace_testing.fuzzing.verdict import difference

    if isinstance(mine, list) or isinstance(theirs, list):
        return _differ_in_lists(mine, theirs, random=random)
    if mine is None or theirs is None or isinstance(mine, dict):
        return "" if str(mine) == str(theirs) else f"is {mine!r:.200}, should be {theirs!r:.200}"
    first, second = np.asarray(mine), np.asarray(theirs)
    if first.dtype.kind in "OSU" and second.dtype.kind in "OSU":
        same = first.shape == second.shape and [str(i) for i in first.flat] == [str(i) for i in second.flat]
        return "" if same else "the texts differ"
    if random:
        same = first.shape == second.shape and first.dtype == second.dtype
        return "" if same else f"is {first.dtype}{first.shape}, should be {second.dtype}{second.shape}"
    return difference(first, second, 1e-4, 1 if first.dtype.itemsize == 1 else 0)


def _differ_in_lists(mine: Any, theirs: Any, *, random: bool) -> str:
    if not isinstance(mine, Sequence) or not isinstance(theirs, Sequence) or len(mine) != len(theirs):
        return "the lists differ"
    return next((text for a, b in zip(mine, theirs, strict=True) if (text := _differ(a, b, random=random))), "")


if __name__ == "__main__":
    main(compare)

"""How much of a difference is rounding alone, judged by the numbers that a value is made of.

The range of a value says nothing of the roundings before it: the difference of two numbers near 1000 is tiny, and the
roundings of the 1000s are all in it.  So each value gets a floor, and a difference below it means nothing.  It is the
larger of two, both chosen low, so that no fault of a node hides behind them:

- `ROUNDINGS` steps of the element type at the largest number that the node computes, that it adds up, or that its
  factors make;
- what the floors of the node's inputs become: as they are in a sum, times the other factor in a product (but no larger
  than in proportion to the numbers), elsewhere in the proportion in which the node makes numbers larger or smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mace_core.graph import Graph, Node, Value

ROUNDINGS = 8
"""Of one node, for whatever order it computes in; long sums round more, and that counts as a difference."""

_PRODUCTS = frozenset({"Mul", "MatMul", "Gemm", "Conv", "ConvTranspose"})
_SUMS = frozenset({"Add", "Sub", "Sum", "Mean", "ReduceMean", "ReduceSum", "GlobalAveragePool", "AveragePool"})

_STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
"""Distance from 1 to the next number, of the element types that have a floor."""


class Floor(NamedTuple):
    """Differences that mean nothing: of a node fed with the believed values, and after everything before it."""

    own: float
    total: float


NO_FLOOR = Floor(0.0, 0.0)


def noise_floors(graph: Graph, values: Mapping[str, Any]) -> dict[str, Floor]:
    """The floors of every floating-point value that ``graph`` computes, by name.

    Args:
        values: what is fed to the graph, and what it computes in a run that is believed.
    """
    sizes: dict[Value, float] = {}
    floors: dict[Value, Floor] = {}

    def size(value: Value) -> float:
        if value not in sizes:
            sizes[value] = _largest(value.constant.numpy() if value.constant is not None else values.get(value.name))
        return sizes[value]

    for node in graph.nodes:
        reads = [value for value in node.inputs if value is not None]
        read_sizes = [size(value) for value in reads]
        for value in node.outputs:
            step = _STEPS.get(str(getattr(values.get(value.name), "dtype", ""))) if value is not None else None
            if value is None or step is None:
                continue
            own = ROUNDINGS * step * _largest_made(node, read_sizes, size(value))
            gains = [_gain(node, read_sizes, index, size(value)) for index in range(len(reads))]
            passed_on = [floors.get(read, NO_FLOOR).total * gain for read, gain in zip(reads, gains, strict=True)]
            floors[value] = Floor(own, max(own, *passed_on, 0.0))
    return {value.name: floor for value, floor in floors.items()}


def _largest_made(node: Node, reads: Sequence[float], result: float) -> float:
    """The largest number that a node is sure to round."""
    if node.op_type in _SUMS:
        return max(result, *reads, 0.0)
    if node.op_type in _PRODUCTS and len(reads) > 1:
        return max(result, reads[0] * reads[1])
    return result


def _gain(node: Node, reads: Sequence[float], index: int, result: float) -> float:
    """How much larger an error of input ``index`` is in the result, at the least."""
    if node.op_type in _SUMS:
        return 1.0
    if node.op_type in _PRODUCTS and len(reads) > 1:
        in_proportion = result / reads[index] if reads[index] else 0.0
        return min(reads[1 - index], in_proportion) if index < 2 else 1.0
    largest = max(reads)
    return min(result / largest, 1.0) if largest else 0.0


def _largest(content: Any) -> float:
    """The largest finite magnitude in an array of numbers; 0 of anything else."""
    if not isinstance(content, np.ndarray) or content.dtype.kind in "OSUbc" or not content.size:
        return 0.0
    numbers = content if content.dtype.kind in "iuf" else content.astype(np.float32)
    magnitudes = np.abs(numbers.astype(np.float64, copy=False))
    return float(magnitudes.max(where=np.isfinite(magnitudes), initial=0.0))

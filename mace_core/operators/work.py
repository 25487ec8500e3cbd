"""How much a node computes, bounded while planning: what a stranger's file asks for is known before it is begun."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from mace_core.errors import UsageError
from mace_core.graph.graph import Node, Value
from mace_core.operators.macs import node_macs
from mace_core.tensor import TensorType, ValueType

WORK_LIMIT_VARIABLE = "MACE_WORK_LIMIT"
DEFAULT_WORK_LIMIT = 10**14
"""About half an hour of a fast processor for one node: attention of 32 heads of 128 over 100,000 tokens takes less."""

_POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})


def work_limit() -> int:
    """Elementary operations that one node may take: multiply-accumulates, or elements that are written or looked at.

    Raises:
        UsageError: if the environment variable is not a positive number.
    """
    given = os.environ.get(WORK_LIMIT_VARIABLE, "").strip()
    if not given:
        return DEFAULT_WORK_LIMIT
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not limit >= 1:
        raise UsageError(f"{WORK_LIMIT_VARIABLE} must be a positive number of operations, such as 1e12, not '{given}'")
    return int(limit) if math.isfinite(limit) else 1 << 200


def node_work(node: Node, types: Mapping[Value, ValueType]) -> int:
    """An estimate from shapes alone, in elementary operations; what is not known counts as nothing."""
    sizes = [_elements(types.get(value, value.type)) for value in node.outputs if value is not None]
    work = max([*sizes, node_macs(node, lambda value: types.get(value, value.type)) or 0])
    if node.domain not in ("", "com.microsoft"):
        return work
    if node.op_type in _POOLS and sizes:
        return max(work, sizes[0] * _window(node, types))
    if node.op_type == "Einsum":
        return max(work, _einsum(node, types))
    if node.op_type == "Attention" and not node.domain:
        return max(work, _attention(node, types))
    return work


def _shape(node: Node, index: int, types: Mapping[Value, ValueType]) -> tuple[int, ...] | None:
    value = node.input(index)
    found = None if value is None else types.get(value, value.type)
    return found.concrete_shape if isinstance(found, TensorType) and found.is_concrete else None


def _elements(found: ValueType | None) -> int:
    """Asked for every value of a graph, so written for speed."""
    if not isinstance(found, TensorType) or found.shape is None:
        return 0
    total = 1
    for size in found.shape:
        if not isinstance(size, int):
            return 0
        total *= size
    return total


def _window(node: Node, types: Mapping[Value, ValueType]) -> int:
    """Taps that a window can have in the data."""
    data = _shape(node, 0, types) or ()
    return math.prod(min(taps, size) for taps, size in zip(node.attr("kernel_shape", ()), data[2:], strict=False))


def _einsum(node: Node, types: Mapping[Value, ValueType]) -> int:
    """One operation for each combination of indices."""
    sizes: dict[str, int] = {}
    shared = 1
    terms = str(node.attr("equation", "")).replace(" ", "").partition("->")[0].split(",")
    for index, term in enumerate(terms):
        before, dots, after = term.partition("...")
        shape = _shape(node, index, types)
        if shape is None:
            return 0
        for letter, size in [
            *zip(before, shape, strict=False),
            *zip(reversed(after), reversed(shape), strict=False),
        ]:
            sizes[letter] = max(sizes.get(letter, 1), size)
        if dots:
            shared = max(shared, math.prod(shape[len(before) : len(shape) - len(after)]))
    return shared * math.prod(sizes.values())


def _attention(node: Node, types: Mapping[Value, ValueType]) -> int:
    """Queries (batch, heads, rows, size) or (batch, rows, heads * size) against keys, and scores against values."""
    query, key, value, past = (_shape(node, index, types) for index in (0, 1, 2, 4))
    if query is None or key is None or value is None:
        return 0
    rows = math.prod(query[:-2]) * query[-2] * query[-1]
    columns = key[-2] + (past[2] if past is not None and len(past) == 4 else 0)
    return 2 * rows * columns

"""When two results agree, in words where they do not."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node

Array: TypeAlias = npt.NDArray[Any]

HALF_PRECISION = 4e-3
"""What results of float16 may differ by whatever a declaration says: some units in the last place."""

IMPRECISE = 1e-4
"""A tolerance above this is that of a device that computes in half precision."""


MIXED_FACTOR = 4
"""Tolerance of a graph of many nodes over that of one."""


def difference(found: Array, expected: Array, tolerance: float, *, steps: int = 0) -> str:
    """How ``found`` differs from ``expected``; "" where it agrees.

    Types and shapes are the same, whole numbers equal (or at most ``steps`` apart), and so are NaN and infinities;
    floats are within ``tolerance`` of the largest expected magnitude.
    """
    if found.dtype != expected.dtype:
        return f"expected {expected.dtype}, got {found.dtype}"
    if found.shape != expected.shape:
        return f"expected shape {list(expected.shape)}, got {list(found.shape)}"
    if found.dtype.kind in "iu" and steps:
        apart = np.abs(found.astype(np.int64) - expected.astype(np.int64))
        wrong = apart > steps
    elif found.dtype.kind != "f":
        wrong = found != expected
    else:
        finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
        scale = max(float(finite.max()) if finite.size else 1.0, 1e-6)
        share = max(tolerance, HALF_PRECISION) if found.dtype.itemsize == 2 and tolerance else tolerance
        wrong = ~np.isclose(
            found.astype(np.float64), expected.astype(np.float64), rtol=0, atol=share * scale, equal_nan=True
        )
    if not wrong.any():
        return ""
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} elements differ, the first at {list(place)}: "
        f"expected {expected[place]}, got {found[place]}"
    )


def assert_agrees(found: Array, expected: Array, tolerance: float, what: str) -> None:
    """Same type and shape, integers and NaN equal, floats within ``tolerance`` of the largest expected magnitude."""
    apart = difference(found, expected, tolerance)
    assert not apart, f"{what}: {apart}"


def is_sentence(reason: str) -> bool:
    """Whether a reason says something: several words."""
    return len(reason.split()) >= 3


def is_convex(graph: Graph, nodes: set[Node]) -> bool:
    """Whether no path leaves ``nodes`` and comes back."""
    tainted: set[Node] = set()
    for node in graph.nodes:
        producers = {value.producer for value in node.inputs if value is not None and value.producer is not None}
        if node in nodes:
            if producers & tainted:
                return False
        elif producers & (nodes | tainted):
            tainted.add(node)
    return True

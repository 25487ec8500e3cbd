"""A binary heap of indices, for the kernels that need what comes first, again and again."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import helper


def heap_of(before: Any) -> tuple[Any, Any]:
    """How to keep a heap of indices whose root comes before all others.

    Args:
        before: ``(items, a, b)``: whether item a comes before item b.

    Returns:
        ``rise(heap, at, items)``, which moves an entry up to where it belongs, and ``sink(heap, at, size, items)``,
        which moves it down.
    """

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def rise(heap: Any, at: Any, items: Any) -> None:
        while at > 0 and before(items, heap[at], heap[(at - 1) // 2]):
            above = (at - 1) // 2
            heap[at], heap[above] = heap[above], heap[at]
            at = above

    @helper
    def sink(heap: Any, at: Any, size: Any, items: Any) -> None:
        while True:
            child = 2 * at + 1
            if child >= size:
                return
            if child + 1 < size and before(items, heap[child + 1], heap[child]):
                child += 1
            if not before(items, heap[child], heap[at]):
                return
            heap[at], heap[child] = heap[child], heap[at]
            at = child

    return rise, sink

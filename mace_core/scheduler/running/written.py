"""Which memory of callers is being written: two runs at a time must not write the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.host.fork_safe import fork_safe_lock

Span = tuple[int, int]
"""The first byte and the one behind the last."""


def span_of(array: npt.NDArray[Any]) -> Span:
    """The memory between an array's first and last byte."""
    first = last = int(array.ctypes.data)
    if not array.size:
        return first, first
    for size, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            first += (size - 1) * stride
        else:
            last += (size - 1) * stride
    return first, last + array.itemsize


def meet(a: Span, b: Span) -> bool:
    """Whether two spans have a byte in common."""
    return a[0] < b[1] and b[0] < a[1]


class Writing:
    """Arrays that one run writes, from the moment it is asked for until it is over."""

    __slots__ = ("_held",)

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], spans: Mapping[str, Span], model: str) -> None:
        """
        Args:
            arrays, spans: by the name of the output.
            model: how messages call the model.

        Raises:
            UsageError: if another run is to write some of that memory.
        """
        with _lock:
            for name, array in arrays.items() if _taken else ():
                span = spans[name]
                for other, taken in _taken.values():
                    if meet(span, other) and np.shares_memory(array, taken):
                        raise UsageError(
                            f"{model}: the array for output '{name}' is being written by a run that is not over; "
                            "give each run in flight arrays of its own"
                        )
            self._held = [(id(self), at) for at in range(len(arrays))]
            for key, (name, array) in zip(self._held, arrays.items(), strict=True):
                _taken[key] = spans[name], array

    def end(self) -> None:
        """Others may write the arrays.  Idempotent."""
        with _lock:
            while self._held:
                _taken.pop(self._held.pop(), None)


_taken: dict[tuple[int, int], tuple[Span, npt.NDArray[Any]]] = {}
_lock = fork_safe_lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_taken.clear)  # the runs are the parent's

"""Values that grow in place: the part in use of a buffer that has room for more entries along an axis.

To all Python code such a value is a numpy array with gaps between its rows.  Only plans that were made for it look at
the room behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Value
from mace_core.host.memory import require_host_memory
from mace_core.tensor import DType, TensorType


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """A feed of a graph and the output that is its next content: the same with more entries along an axis.

    Attributes:
        source: what is fed.
        output: position of the output among those of the graph.
        axis: along which it grows; None where it is written over.
    """

    source: Value
    output: int
    axis: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Growing:
    """What of a graph may grow in place.

    Attributes:
        pairs: feeds, which are a `GrowingArray` each, and outputs.
        capacity: a feed that nobody reads.  Its only size is the number of entries that there is room for, so that
            the capacity is a size of the signature like all others.
    """

    pairs: tuple[Growth, ...]
    capacity: Value


def with_room(graph: Graph, growths: Sequence[tuple[Value, str, int | None]]) -> tuple[Graph, Growing]:
    """``graph`` with one more input, the capacity, and what may grow in it.

    Args:
        growths: inputs, names of the outputs that feed them next, and axes.
    """
    capacity = Value("capacity", TensorType(DType.INT8, ("capacity",)))
    names = [value.name for value in graph.outputs]
    pairs = tuple(Growth(source, names.index(output), axis) for source, output, axis in growths)
    wider = copy(graph)
    wider.inputs = [*graph.inputs, capacity]
    return wider, Growing(pairs, capacity)


class Room:
    """Memory for a tensor of up to ``capacity`` entries along ``axis``; without an axis, for one of its shape."""

    __slots__ = ("_bytes", "_strides", "address", "axis", "capacity", "dtype")

    def __init__(self, shape: Sequence[int], axis: int | None, capacity: int, dtype: np.dtype[Any]) -> None:
        """``shape``: of a tensor; its size along ``axis`` does not matter."""
        whole = [capacity if index == axis else size for index, size in enumerate(shape)]
        self.axis, self.capacity, self.dtype = axis, capacity, dtype
        nbytes = math.prod(whole) * dtype.itemsize
        require_host_memory(nbytes)
        self._bytes = np.empty(max(nbytes, 1), np.uint8)
        self._strides = tuple(math.prod(whole[i + 1 :]) * dtype.itemsize for i in range(len(whole)))
        self.address = int(self._bytes.ctypes.data)

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return self._bytes.nbytes

    def holds(self, shape: Sequence[int], axis: int | None, capacity: int) -> bool:
        """Whether it is the room for a tensor of this shape."""
        whole = [capacity if index == self.axis else size for index, size in enumerate(shape)]
        strides = tuple(math.prod(whole[i + 1 :]) * self.dtype.itemsize for i in range(len(whole)))
        nbytes = math.prod(whole) * self.dtype.itemsize
        return (axis, capacity) == (self.axis, self.capacity) and strides == self._strides and nbytes <= self.nbytes

    def part(self, shape: tuple[int, ...]) -> GrowingArray:
        """The first entries, as an array of this shape."""
        found = GrowingArray(shape, self.dtype, self._bytes, 0, self._strides)
        found.room = self
        return found


class GrowingArray(np.ndarray[Any, Any]):
    """The part in use of a `Room`; views and copies of it are none.

    Attributes:
        room: the memory; None for what numpy made of such an array.
    """

    room: Room | None = None


def has_room(value: object, axis: int | None, capacity: int) -> bool:
    """Whether a value lies where it can grow as planned."""
    room = value.room if type(value) is GrowingArray else None
    return room is not None and room.axis == axis and (axis is None or room.capacity == capacity)


def growing_copy(array: npt.NDArray[Any], axis: int | None, capacity: int) -> GrowingArray:
    """A copy that can grow."""
    found = Room(array.shape, axis, capacity, array.dtype).part(array.shape)
    found[...] = array
    return found

"""Values that are parts or permutations of others, not copied until somebody wants them dense."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mace_core.symbolic import is_same

if TYPE_CHECKING:
    from mace_core.graph import Node
    from mace_cpu.shared.parts.buffers import Buf


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where each of a grid of things starts: ``start`` and ``index[i] * strides[i]``, for each index in order."""

    start: int
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    @staticmethod
    def of_dense(shape: Sequence[int], size: int) -> Offsets:
        """Of things of ``size`` elements that lie one after another."""
        strides = [size * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return Offsets(0, tuple(shape), tuple(strides))

    @property
    def count(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    def broadcast(self, shape: Sequence[int]) -> Offsets:
        """Which of them each one of a larger grid is."""
        if self.count == 1:
            return Offsets(self.start, tuple(shape), (0,) * len(shape))
        missing = len(shape) - len(self.shape)
        strides = [0 if size == 1 else stride for size, stride in zip(self.shape, self.strides, strict=True)]
        return Offsets(self.start, tuple(shape), (*[0] * missing, *strides))

    def runs(self) -> list[tuple[int, int]]:
        """(count, stride) of the fewest axes that go through them in the same order."""
        return _runs(self.shape, self.strides)

    def __iter__(self) -> Iterator[int]:
        found = [self.start]
        for size, stride in zip(self.shape, self.strides, strict=True):
            found = [start + index * stride for start in found for index in range(size)]
        return iter(found)


def _runs(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if is_same(size, 1):
            continue
        if runs and is_same(runs[-1][1], size * stride):
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    return runs


@dataclass(frozen=True, slots=True)
class Strided:
    """Where the elements of a value lie.

    Attributes:
        buf: the memory.
        offset: of the first element, in elements.
        shape: of the value.
        strides: elements from neighbor to neighbor along each axis; may be negative.
        nodes: whose work it is to copy them; empty where they are dense.
    """

    buf: Buf
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    nodes: tuple[Node, ...] = ()

    @property
    def is_dense(self) -> bool:
        """Whether the elements are one piece of memory, in order."""
        runs = self._runs()
        return not runs or (len(runs) == 1 and is_same(runs[0][1], 1))

    def by(self, node: Node) -> Strided:
        """The same, as the result of one more node."""
        return replace(self, nodes=(*self.nodes, node))

    def permuted(self, order: Sequence[int]) -> Strided:
        """Its axes in another order, as numpy.transpose has it."""
        shape, strides = tuple(self.shape[axis] for axis in order), tuple(self.strides[axis] for axis in order)
        return replace(self, shape=shape, strides=strides)

    def part(self, axis: int, start: int, step: int, size: int) -> Strided:
        """``size`` entries along an axis, from ``start`` on every ``step``-th."""
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = size, self.strides[axis] * step
        offset = self.offset + start * self.strides[axis]
        return replace(self, offset=offset, shape=tuple(shape), strides=tuple(strides))

    def with_axis(self, axis: int, outer: int, inner: int) -> Strided:
        """One axis as two, of ``outer`` times ``inner`` entries."""
        shape, strides = list(self.shape), list(self.strides)
        step = strides[axis]
        shape[axis : axis + 1], strides[axis : axis + 1] = [outer, inner], [step * inner, step]
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def repeated(self, shape: Sequence[int]) -> Strided:
        """Broadcast to a shape, as numpy.broadcast_to has it."""
        missing = len(shape) - len(self.shape)
        own = zip(self.shape, self.strides, shape[missing:], strict=True)
        strides = [stride if size == wanted else 0 for size, stride, wanted in own]
        return replace(self, shape=tuple(shape), strides=(*[0] * missing, *strides))

    def picked(self, axis: int, index: int) -> Strided:
        """One entry along an axis, which vanishes."""
        shape, strides = list(self.shape), list(self.strides)
        del shape[axis], strides[axis]
        offset = self.offset + index * self.strides[axis]
        return replace(self, offset=offset, shape=tuple(shape), strides=tuple(strides))

    def reshaped(self, shape: Sequence[int]) -> Strided | None:
        """The same elements in the same order under another shape; None where no strides can say that."""
        if math.prod(self.shape) == 0:
            return None
        runs = self._runs()
        strides = [0] * len(shape)
        size, stride = runs.pop() if runs else (1, 1)
        for axis in range(len(shape) - 1, -1, -1):
            if shape[axis] == 1:
                continue
            if size == 1:
                size, stride = runs.pop()
            if size % shape[axis]:
                return None
            strides[axis] = stride
            size //= shape[axis]
            stride *= shape[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def _runs(self) -> list[tuple[int, int]]:
        """(elements, stride) of the fewest axes that walk the elements in the same order."""
        return _runs(self.shape, self.strides)


@dataclass(frozen=True, slots=True)
class Folded:
    """Where the elements of a value lie some of whose axes are several of another shape: heads that are repeated.

    Attributes:
        fine: the elements in that shape, in the same order.
        groups: of how many of its axes each axis of the value is made up.
    """

    fine: Strided
    groups: tuple[int, ...]

    @staticmethod
    def of(strided: Strided, shape: Sequence[int]) -> Folded | None:
        """``strided`` in a shape whose axes are products of neighbors; None where it is another."""
        sizes, groups = list(strided.shape), []
        for size in shape:
            product, count = 1, 0
            while sizes and (count == 0 or not is_same(product, size)):
                product, count = product * sizes.pop(0), count + 1
            if count == 0 or not is_same(product, size):
                return None
            groups.append(count)
        return None if sizes else Folded(strided, tuple(groups))

    def permuted(self, order: Sequence[int]) -> Folded:
        """The axes of the value in another order."""
        starts = [sum(self.groups[:axis]) for axis in range(len(self.groups))]
        fine = [starts[axis] + i for axis in order for i in range(self.groups[axis])]
        return Folded(self.fine.permuted(fine), tuple(self.groups[axis] for axis in order))

    def by(self, node: Node) -> Folded:
        """The same, as the result of one more node."""
        return replace(self, fine=self.fine.by(node))

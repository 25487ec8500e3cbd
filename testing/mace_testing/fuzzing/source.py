"""Draws numbers, shapes and arrays from hypothesis in the few forms that strategies need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from mace_testing.fuzzing import schema

Array = npt.NDArray[Any]
T = TypeVar("T")

EMPTY_ONE_IN = 24
"""How rarely a dimension is 0 where that is allowed."""


class DrawFunction(Protocol):
    """What ``hypothesis.strategies.composite`` hands in."""

    def __call__(self, strategy: Any) -> Any: ...


class Source:
    """Wraps hypothesis' draw function.  Everything shrinks towards small, plain and first."""

    def __init__(self, draw: DrawFunction) -> None:
        self._draw = draw

    # --- plain values -------------------------------------------------------------------------------------------------

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self._draw(st.integers(low, high)))

    def flag(self) -> bool:
        return bool(self._draw(st.booleans()))

    def rarely(self, one_in: int = 8) -> bool:
        return self.integer(0, one_in - 1) == one_in - 1

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def subset(self, count: int, *, least: int = 0) -> list[int]:
        """Some of 0 … count-1, in any order."""
        order: list[int] = self._draw(st.permutations(range(count)))
        return order[: self.integer(least, count)]

    def number(self, low: float, high: float, step: float = 0.25) -> float:
        """A multiple of ``step``."""
        return self.integer(round(low / step), round(high / step)) * step

    # --- operators ----------------------------------------------------------------------------------------------------

    def opset(self, op: str, first: int = schema.OLDEST_OPSET) -> int:
        """An opset that has the operator."""
        options = [opset for opset in schema.opsets(op) if opset >= first]
        return self.pick(options[::-1])

    def dtype(self, op: str, opset: int, position: int = 0, only: Sequence[npt.DTypeLike] = ()) -> np.dtype[Any]:
        """An element type that the schema allows; float32 every second time where it is among them."""
        options = [d for d in schema.dtypes(op, opset, position) if not only or d in only]
        if options[0] == np.float32 and self.flag():
            return np.dtype(np.float32)
        return np.dtype(self.pick(options))

    # --- shapes -------------------------------------------------------------------------------------------------------

    def dim(self, low: int = 1, high: int = 6) -> int:
        return self.integer(low, high)

    def shape(self, low: int = 0, high: int = 4, *, largest: int = 6, empty: bool = True) -> tuple[int, ...]:
        """``low`` to ``high`` dimensions of 1 to ``largest``; one dimension is rarely 0 where ``empty``."""
        rank = self.integer(low, high)
        found = [self.dim(1, largest) for _ in range(rank)]
        if rank and self.rarely(16):
            # long enough for whole vectors and a rest
            found[self.integer(0, rank - 1)] = self.integer(13, 70)
        if empty and rank and self.rarely(EMPTY_ONE_IN):
            found[self.integer(0, rank - 1)] = 0
        return tuple(found)

    def axis(self, rank: int) -> int:
        """An axis, from the front or from the back."""
        return self.integer(-rank, rank - 1)

    def axes(self, rank: int, *, least: int = 0, negative: bool = True) -> list[int]:
        """Different axes, each from the front or the back."""
        return [axis - rank if negative and self.flag() else axis for axis in self.subset(rank, least=least)]

    def broadcast(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape`` in one direction: leading dimensions dropped, some of size 1."""
        if self.flag():
            return tuple(shape)
        kept = shape[self.integer(0, len(shape)) :]
        return tuple(1 if self.flag() else dim for dim in kept)

    # --- arrays -------------------------------------------------------------------------------------------------------

    def random(self) -> np.random.Generator | None:
        """A seeded generator; None for the simplest example, whose arrays are ramps."""
        seed = self.integer(0, 2**16)
        return np.random.default_rng(seed) if seed else None

    def array(
        self, shape: Sequence[int], dtype: npt.DTypeLike, low: float = -4, high: float = 4, step: float = 0.25
    ) -> Array:
        """Multiples of ``step`` in [low, high], whole numbers for whole types: exact in every type, so sums are too."""
        dtype = np.dtype(dtype)
        if dtype == np.bool_:
            low, high, step = 0, 1, 1
        elif dtype.kind in "iu":
            step = max(1, round(step))
            low = max(low, 0) if dtype.kind == "u" else low
        first, last = int(np.ceil(low / step)), int(np.floor(high / step))
        random = self.random()
        count = int(np.prod(shape, dtype=np.int64))
        if random is None:
            drawn = first + np.arange(count) % (last - first + 1)
        else:
            drawn = random.integers(first, last + 1, count)
        return (drawn * step).astype(dtype).reshape(tuple(shape))

    def floats(self, shape: Sequence[int], dtype: npt.DTypeLike, low: float = -4, high: float = 4) -> Array:
        """Any floats in the range, evenly distributed."""
        random = self.random()
        count = int(np.prod(shape, dtype=np.int64))
        drawn = np.linspace(low, high, count) if random is None else random.uniform(low, high, count)
        return drawn.astype(dtype).reshape(tuple(shape))

    def distinct(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """No value twice (as far as the type has so many), in random order."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        random = self.random()
        order = np.arange(count) if random is None else random.permutation(count)
        if dtype.kind != "u":
            order = order - count // 3
        return order.astype(dtype).reshape(tuple(shape))

    def special(self, array: Array) -> Array:
        """Some elements replaced by NaN, infinities and -0 where the type has them."""
        random = self.random()
        if random is None or array.dtype.kind != "f" or not array.size:
            return array
        found = array.copy()
        for value in (np.nan, np.inf, -np.inf, -0.0):
            found.reshape(-1)[random.integers(0, array.size)] = value
        return found

    def extremes(self, array: Array) -> Array:
        """Some elements replaced by the ends of a whole type's range."""
        random = self.random()
        if random is None or array.dtype.kind not in "iu" or not array.size:
            return array
        info = np.iinfo(array.dtype)
        found = array.copy()
        for value in (info.min, info.max, info.max - 1, info.min + 1):
            found.reshape(-1)[random.integers(0, array.size)] = value
        return found

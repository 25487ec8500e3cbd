"""What leads from one turn of a Loop or a Scan to the next, and what the turns leave behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError
from mace_core.graph import Node
from mace_core.host.memory import require_host_memory
from mace_core.scheduler.values import RuntimeValue

RESERVED_BYTES = 1 << 26
"""Of a scan output whose length is known: what is allocated at once; more comes by doubling."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Which inputs of a body's next turn are results of this one.  All are positions among the body's inputs, what it
    captures behind them, and among its results.

    Attributes:
        counter: the input that is the number of the turn; -1: none.
        going: the input that is true in every turn; -1: none.
        condition: the result that ends the turns where it is false; -1: none does.
        carried: (input, result).
        scans: results that are gathered.
        rows: inputs that are a row of a source in each turn.
    """

    counter: int
    going: int
    condition: int
    carried: tuple[tuple[int, int], ...]
    scans: tuple[int, ...]
    rows: tuple[int, ...]


class Stack:
    """Arrays of one shape, one behind the other, in one array that grows by doubling."""

    def __init__(self, node: Node, expected: int | None) -> None:
        """``expected``: how many there will be, where that is known."""
        self._node = node
        self._expected = expected
        self.rows: npt.NDArray[Any] | None = None
        self.count = 0

    def append(self, item: RuntimeValue) -> None:
        """
        Raises:
            ModelError: if it is of another shape than those before.
        """
        item = np.asarray(item)
        rows = self.prepared(item.shape, item.dtype)
        if rows.shape[1:] != item.shape:
            shapes = sorted({tuple(rows.shape[1:]), tuple(item.shape)})
            raise ModelError(
                f"node '{self._node.name}' ({self._node.op_type}): the shape of a scan output changed between "
                f"iterations: {shapes}"
            )
        if self.count == len(rows):
            self.grow()
        rows[self.count] = item
        self.count += 1

    def prepared(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The array, made now where nothing has been appended yet."""
        if self.rows is None:
            most = max(RESERVED_BYTES // max(math.prod(shape) * dtype.itemsize, 1), 1)
            count = min(self._expected or 8, most)
            require_host_memory(count * math.prod(shape) * dtype.itemsize)
            self.rows = np.empty((count, *shape), dtype)
        return self.rows

    def grow(self) -> None:
        """Make room for as many again.  Who knows the address of the array has to ask for it anew."""
        assert self.rows is not None
        require_host_memory(2 * self.rows.nbytes)
        self.rows.resize((2 * max(len(self.rows), 1), *self.rows.shape[1:]), refcheck=False)

    def finish(self) -> npt.NDArray[Any]:
        """All of them as one array, which is not changed any more."""
        assert self.rows is not None
        if self.count < len(self.rows):
            self.rows.resize((self.count, *self.rows.shape[1:]), refcheck=False)
        return self.rows


class Turns:
    """The turns of one run of a node: what the next one is given, and what has come out so far.

    Attributes:
        step: how many have been.
        limit: how many there may be.
        going: whether the condition is still true.
        values: the inputs of the next turn; those of ``rows`` are filled in by `inputs`.
        stacks: of the results that are gathered.
        sources: what each of the ``rows`` is taken from.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        values: list[RuntimeValue],
        stacks: list[Stack],
        *,
        node: Node,
        limit: int,
        sources: Sequence[npt.NDArray[Any]] = (),
    ) -> None:
        self.recurrence = recurrence
        self.values = values
        self.stacks = stacks
        self.sources = sources
        self.node = node
        self.limit = limit
        self.step = 0
        self.going = True

    @property
    def is_over(self) -> bool:
        return not self.going or self.step >= self.limit

    def inputs(self) -> list[RuntimeValue]:
        """The inputs of the next turn."""
        for position, source in zip(self.recurrence.rows, self.sources, strict=True):
            self.values[position] = source[self.step, ...]
        return self.values

    def take(self, results: Sequence[RuntimeValue]) -> None:
        """Go on with what a turn computed."""
        recurrence = self.recurrence
        for position, result in recurrence.carried:
            self.values[position] = results[result]
        for stack, result in zip(self.stacks, recurrence.scans, strict=True):
            stack.append(results[result])
        if recurrence.condition >= 0:
            self.going = truth(results[recurrence.condition], self.node)
        self.passed(1)

    def passed(self, turns: int) -> None:
        """Count turns."""
        self.step += turns
        counter = self.recurrence.counter
        if counter >= 0:
            self.values[counter] = np.full(self.values[counter].shape, self.step, np.int64)

    def carried(self) -> list[RuntimeValue]:
        """The carried values as they are now."""
        return [self.values[position] for position, _ in self.recurrence.carried]


def truth(condition: RuntimeValue, node: Node) -> bool:
    """
    Raises:
        ModelError: if it is not one truth value.
    """
    if isinstance(condition, np.ndarray) and condition.size == 1:
        return bool(condition.item())
    flat = np.asarray(condition).reshape(-1)
    if flat.size != 1:
        raise ModelError(
            f"node '{node.name}' ({node.qualified_op}): its condition must be one truth value, not {flat.size} of them"
        )
    return bool(flat[0])

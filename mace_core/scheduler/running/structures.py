"""Plans that serve many signatures: which dimensions vary is seen from the signatures that come.

The first signature of a graph is planned as it is.  When another one comes, the sizes in which they differ become
symbols, and one plan is made for all that its guards admit.  Where none of the plans there are admits a signature, the
next one is made, with every size that ever varied as a symbol.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.graph import Graph, Value
from mace_core.scheduler.running.plans import GraphPlan, SizedPlan
from mace_core.symbolic import Trace, new_symbol
from mace_core.symbolic.trace import LARGEST_SIZE, SMALLEST_SIZE
from mace_core.tensor import Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor, as_objects

if TYPE_CHECKING:
    from mace_core.scheduler.running.runner import Planner

_log = logging.getLogger("mace")

MOST_STRUCTURES = 16
"""Of one family of signatures; what none of them admits is planned as it is."""

MOST_FAILURES = 2
"""After so many that could not be made, no more are tried."""

LONGEST_CONTENT = 64
"""Elements up to which the content of an input is looked at number by number."""


@dataclass(slots=True, eq=False)
class _Structure:
    """A plan, and which numbers of a signature its symbols are.

    Attributes:
        plan: of symbolic sizes.
        symbols: for each symbol the positions of the numbers that it stands for, which are equal.
        fixed: the other positions, and what numbers are there.
    """

    plan: GraphPlan
    symbols: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[int, int], ...]

    def sized(self, numbers: Sequence[int], counting: Any) -> SizedPlan | None:
        """The plan for a signature; None where it does not hold."""
        for position, number in self.fixed:
            if numbers[position] != number:
                return None
        values = []
        for first, *others in self.symbols:
            value = numbers[first]
            for other in others:
                if numbers[other] != value:
                    return None
            values.append(value)
        sizes = self.plan.plan.sizes
        found = None if sizes is None else sizes.admit(values)
        if found is None:
            return None
        with counting:
            self.plan.users += 1
        return SizedPlan(self.plan, found, counting)


@dataclass(slots=True, eq=False)
class _Family:
    """Signatures that differ in numbers alone."""

    first: tuple[int, ...]
    varied: set[int] = field(default_factory=set)
    structures: list[_Structure] = field(default_factory=list)
    failures: int = 0


class Structures:
    """The plans of symbolic sizes of one graph.  Called under the planner's lock."""

    def __init__(self, planner: Planner, graph: Graph, feeds: Sequence[Value], contents: Collection[Value]) -> None:
        """``contents``: feeds whose content decides shapes."""
        self._planner = planner
        self._graph = graph
        self._feeds = feeds
        self._contents = [feed for feed in feeds if feed in contents]
        self._families: dict[tuple[Any, ...], _Family] = {}

    @property
    def is_used(self) -> bool:
        """Whether there is any plan."""
        return any(family.structures for family in self._families.values())

    def admitted(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> SizedPlan | None:
        """A plan that holds for this signature, among those there are."""
        numbers, key = self._signature(types, fixed)
        family = self._families.get(key)
        return None if family is None else self._admitted(family, numbers)

    def _admitted(self, family: _Family, numbers: tuple[int, ...]) -> SizedPlan | None:
        for structure in family.structures:
            found = structure.sized(numbers, self._planner.counting)
            if found is not None:
                return found
        return None

    def find(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> SizedPlan | None:
        """A plan that holds for this signature, made now where sizes have varied; None where there is to be none."""
        numbers, key = self._signature(types, fixed)
        family = self._families.get(key)
        if family is None:
            self._families[key] = _Family(numbers)
            return None
        found = self._admitted(family, numbers)
        if found is not None:
            return found
        family.varied.update(i for i, (a, b) in enumerate(zip(family.first, numbers, strict=True)) if a != b)
        if family.failures >= MOST_FAILURES or len(family.structures) >= MOST_STRUCTURES:
            return None
        return self._make(family, numbers, types, fixed)

    def drop(self, uses_device: str | None) -> None:
        """Forget plans, or those that use a device; they are freed when nobody runs them any more."""
        for family in self._families.values():
            stale = [s for s in family.structures if uses_device is None or uses_device in s.plan.plan.devices]
            for structure in stale:
                family.structures.remove(structure)
                structure.plan.release()

    def __iter__(self) -> Iterator[GraphPlan]:
        """The plans there are."""
        return (structure.plan for family in self._families.values() for structure in family.structures)

    def _signature(
        self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]
    ) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """The numbers of a signature, sizes before contents, and all else that tells it from others."""
        numbers: list[int] = []
        key: list[Any] = []
        for feed in self._feeds:
            found = types.get(feed)
            if isinstance(found, TensorType) and found.is_concrete:
                key.append((found.dtype, len(found.shape or ())))
                numbers += found.concrete_shape
            else:
                key.append(found)
        for feed in self._contents:
            tensor = fixed.get(feed)
            if tensor is None:
                key.append(None)
            elif _is_numbers(tensor):
                key.append((tensor.dtype, tensor.shape))
                numbers += tensor.tolist()
            else:
                key.append((tensor.dtype, tensor.shape, tensor.numpy().tobytes()))
        return tuple(numbers), tuple(key)

    def _make(
        self,
        family: _Family,
        numbers: tuple[int, ...],
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
    ) -> SizedPlan | None:
        trace = Trace()
        try:
            symbols, symbolic_types, symbolic_fixed = self._with_symbols(trace, family, types, fixed)
            if not symbols:
                return None
            plan = self._planner.plan(self._graph, self._feeds, symbolic_types, symbolic_fixed, trace)
        except Exception as error:
            # What is wrong with the model shows when the signature is planned as it is; that also serves where
            # somebody cannot work with symbols.
            family.failures += 1
            label, shown = self._planner.label, error if _log.isEnabledFor(logging.DEBUG) else None
            _log.info("%s: no plan of symbolic sizes (%s: %s)", label, type(error).__name__, error, exc_info=shown)
            return None
        symbolic = {position for group in symbols for position in group}
        fixed_numbers = tuple((i, number) for i, number in enumerate(numbers) if i not in symbolic)
        structure = _Structure(plan, symbols, fixed_numbers)
        found = structure.sized(numbers, self._planner.counting)
        if found is None:
            family.failures += 1
            _log.info("%s: a plan of symbolic sizes does not hold for the sizes it was made for", self._planner.label)
            plan.release()
            return None
        family.structures.insert(0, structure)
        return found

    def _with_symbols(
        self, trace: Trace, family: _Family, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]
    ) -> tuple[tuple[tuple[int, ...], ...], dict[Value, ValueType], dict[Value, Tensor]]:
        """The positions of the numbers that become symbols, symbol by symbol, and the signature with these.

        Dimensions that the model gives one name, and that are equal now, are one symbol.
        """
        symbols: list[list[int]] = []
        named: dict[tuple[str, int], tuple[int, list[int]]] = {}
        symbolic_types, symbolic_fixed = dict(types), dict(fixed)
        position = 0
        for feed in self._feeds:
            found = types.get(feed)
            if not isinstance(found, TensorType) or not found.is_concrete:
                continue
            shape: list[int] = []
            for axis, size in enumerate(found.concrete_shape):
                if position in family.varied and SMALLEST_SIZE <= size <= LARGEST_SIZE:
                    name = _declared_name(feed, axis)
                    if (name, size) in named:
                        symbol, positions = named[name, size]
                        positions.append(position)
                    else:
                        symbol, positions = new_symbol(trace, name or f"{feed.name}.{axis}", size), [position]
                        symbols.append(positions)
                        if name:
                            named[name, size] = symbol, positions
                    shape.append(symbol)
                else:
                    shape.append(size)
                position += 1
            symbolic_types[feed] = TensorType(found.dtype, tuple(shape))
        for feed in self._contents:
            tensor = fixed.get(feed)
            if tensor is None or not _is_numbers(tensor):
                continue
            items: list[int] = []
            varies = False
            for index, item in enumerate(tensor.tolist()):
                if position in family.varied and abs(item) <= LARGEST_SIZE:
                    symbols.append([position])
                    low, high = (0, LARGEST_SIZE) if item >= 0 else (-LARGEST_SIZE, -1)
                    items.append(new_symbol(trace, f"{feed.name}[{index}]", item, low, high))
                    varies = True
                else:
                    items.append(item)
                position += 1
            if varies:
                symbolic_fixed[feed] = SymbolicTensor(tensor.dtype, as_objects(items, tensor.shape))
        return tuple(map(tuple, symbols)), symbolic_types, symbolic_fixed


def _is_numbers(tensor: Tensor) -> bool:
    """Whether a content is looked at number by number."""
    return tensor.dtype.numpy in (np.int64, np.int32) and tensor.size <= LONGEST_CONTENT


def _declared_name(feed: Value, axis: int) -> str:
    """What the model calls a dimension; "" where it has no name."""
    declared = feed.type.shape if isinstance(feed.type, TensorType) else None
    dim = declared[axis] if declared is not None and axis < len(declared) else None
    return dim if isinstance(dim, str) else ""

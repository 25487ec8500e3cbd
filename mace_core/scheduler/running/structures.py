"""Plans that serve many signatures: which dimensions vary is seen from the signatures that come.

The first signature of a graph is planned as it is.  When another one comes, the sizes in which they differ become
symbols, and one plan is made for all that its guards admit.  Where none of the plans there are admits a signature, the
next one is made, with every size that ever varied as a symbol.

What earlier processes made and saw is used before anything is made (`mace_core.scheduler.planning.stored_structures`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import Graph, Value
from mace_core.scheduler.planning.placement import NumbersNeededError
from mace_core.scheduler.planning.signatures import LONGEST_CONTENT, MOST_STRUCTURES, is_numbers
from mace_core.scheduler.running.patterns import Pattern, picker
from mace_core.scheduler.running.plans import GraphPlan, Place, PlanNumbers, SizedPlan
from mace_core.tensor import Tensor, TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.scheduler.growing import Growing
    from mace_core.scheduler.planning.sizes import StageValues
    from mace_core.scheduler.planning.structure_files import StoredFamily
    from mace_core.scheduler.running.planner import Planner

_log = logging.getLogger("mace")

MOST_FAILURES = 2
"""After so many that could not be made, no more are tried."""

MOST_REMEMBERED = 2
"""After so many further signatures that an earlier process planned in numbers, a plan for many is made."""

MOST_FAMILIES = 32
"""Of one graph: an input whose content is not looked at number by number makes one for each content."""


_NUMBERS = (np.dtype(np.int64), np.dtype(np.int32))

MOST_FORMS = 8
"""Of one graph, that are known by what is fed alone."""


class Form(NamedTuple):
    """A signature as it is read off what is fed: quicker than from types.

    Attributes:
        numbers: sizes before contents, as in `Structures`.
        key: element types, ranks, and contents that are no numbers.
    """

    numbers: tuple[int, ...]
    key: list[Any]

    @staticmethod
    def of(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype[Any]], contents: Sequence[Any] = ()) -> Form:
        """The form of arrays; ``contents``: those of them whose content decides shapes."""
        numbers = [size for shape in shapes for size in shape]
        key: list[Any] = [*dtypes, *map(len, shapes)]
        for array in contents:
            if array.size <= LONGEST_CONTENT and array.dtype in _NUMBERS:
                key.append(array.shape)
                numbers += array.reshape(-1).tolist()
            else:
                key += (array.shape, array.tobytes())
        return Form(tuple(numbers), key)


class Signature(NamedTuple):
    """What a plan is for.

    Attributes:
        numbers: sizes before contents.
        key: all else that tells it from others.
    """

    numbers: tuple[int, ...]
    key: tuple[Any, ...]


@dataclass(slots=True, eq=False)
class _Structure:
    """A plan of symbolic sizes, and which numbers of a signature its symbols are."""

    plan: GraphPlan
    numbers: PlanNumbers
    _pattern: Pattern = field(init=False)
    _values: Callable[[Sequence[int]], tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        symbols = self.numbers.symbols
        pairs = [(first, other) for first, *others in symbols for other in others]
        self._pattern = Pattern(self.numbers.fixed, pairs)
        self._values = picker([first for first, *_ in symbols])

    def sizes(self, numbers: Sequence[int]) -> StageValues | None:
        """The sizes of a signature; None where the plan does not hold for it."""
        sizes = self.plan.plan.sizes
        if sizes is None or not self._pattern.holds(numbers):
            return None
        return sizes.admit(self._values(numbers))

    def sized(self, numbers: Sequence[int], counting: Any) -> SizedPlan | None:
        """The plan for a signature; None where it does not hold."""
        found = self.sizes(numbers)
        if found is None:
            return None
        with counting:
            self.plan.users += 1
        return SizedPlan(self.plan, found, self.numbers, counting)


@dataclass(slots=True, eq=False)
class _Family:
    """Signatures that differ in numbers alone."""

    first: tuple[int, ...]
    varied: set[int] = field(default_factory=set)
    structures: list[_Structure] = field(default_factory=list)
    failures: int = 0
    remembered: int = 0  # signatures that were restored in numbers, after the first
    stored: StoredFamily | None = None
    is_looked_up: bool = False

    def differ(self, numbers: Sequence[int], other: Sequence[int]) -> None:
        """Two signatures have come: the numbers in which they differ vary."""
        self.varied.update(i for i, (a, b) in enumerate(zip(numbers, other, strict=True)) if a != b)


class Structures:
    """The plans of symbolic sizes of one graph.  Called under the planner's lock.

    Attributes:
        refusal: why the latest one could not be made, for explanations; "" where none failed.
    """

    def __init__(
        self,
        planner: Planner,
        graph: Graph,
        feeds: Sequence[Value],
        contents: Collection[Value],
        varying: Collection[Value] = (),
        growing: Growing | None = None,
    ) -> None:
        """``contents``: feeds whose content decides shapes; ``varying``: those of them that are known to change from
        run to run, so that nobody has to wait for a second signature to see it; ``growing``: so are the sizes of what
        grows, and how much room there is."""
        self._planner = planner
        self._graph = graph
        self._feeds = feeds
        self._contents = [feed for feed in feeds if feed in contents]
        self._varying = frozenset(varying)
        self._growing = growing
        self._sizes_varying = (
            set() if growing is None else {(pair.source, pair.axis) for pair in growing.pairs if pair.axis is not None}
        )
        if growing is not None:
            self._sizes_varying.add((growing.capacity, 0))
        self._families: OrderedDict[tuple[Any, ...], _Family] = OrderedDict()
        self._forms: list[tuple[list[Any], _Family]] = []
        self.refusal = ""

    @property
    def is_used(self) -> bool:
        """Whether there is any plan that `admitted` may find."""
        return bool(self._forms)

    def admitted(self, form: Form) -> SizedPlan | None:
        """A plan that holds for a signature of a form that `find` has met, among those there are."""
        for known, family in self._forms:
            if known == form.key:
                return self._admitted(family, form.numbers)
        return None

    def admits(self, signature: Signature) -> bool:
        """Whether there is a plan that holds for this signature."""
        family = self._families.get(signature.key)
        return family is not None and any(each.sizes(signature.numbers) is not None for each in family.structures)

    def _admitted(self, family: _Family, numbers: tuple[int, ...]) -> SizedPlan | None:
        for structure in family.structures:
            found = structure.sized(numbers, self._planner.counting)
            if found is not None:
                return found
        return None

    def find(
        self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor], form: Form | None = None
    ) -> SizedPlan | None:
        """A plan that holds for this signature, made now where sizes have varied; None where there is to be none."""
        numbers, key = self.signature(types, fixed)
        found = self._find(numbers, key, types, fixed)
        if form is not None and found is not None and form.numbers == numbers:
            self._forms = [(form.key, self._families[key]), *(kept for kept in self._forms if kept[0] != form.key)]
            del self._forms[MOST_FORMS:]
        return found

    def _find(
        self,
        numbers: tuple[int, ...],
        key: tuple[Any, ...],
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
    ) -> SizedPlan | None:
        family = self._families.get(key)
        is_new = family is None
        if family is None:
            family = self._families[key] = _Family(numbers)
            self._forget_families()
            family.varied.update(self._varying_positions(types, fixed))
            if self._planner.sizes_at_once:
                family.varied.update(range(len(numbers)))
        self._families.move_to_end(key)
        found = self._admitted(family, numbers)
        if found is not None:
            return found
        family.differ(family.first, numbers)
        # what an earlier process stored is quicker to restore than a plan for many is to make
        if is_new and self._is_remembered(types, fixed):
            return None
        found = self._restored(family, numbers, types, fixed)
        if found is not None or not family.varied:
            return found
        stored = 0 if family.stored is None else family.stored.count
        if family.failures >= MOST_FAILURES or max(len(family.structures), stored) >= MOST_STRUCTURES:
            return None
        if not is_new and family.remembered < MOST_REMEMBERED and self._is_remembered(types, fixed):
            family.remembered += 1
            return None
        if not is_new and self._growing is None and self._planner.is_packaged(self._graph, types, fixed):
            return None
        return self._make(family, numbers, types, fixed)

    def _is_remembered(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> bool:
        """Whether an earlier process planned this signature in numbers."""
        is_numeric = self._growing is None and not self._planner.sizes_at_once
        return is_numeric and self._planner.is_remembered(self._graph, types, fixed)

    def _forget_families(self) -> None:
        while len(self._families) > MOST_FAMILIES:
            _, stale = self._families.popitem(last=False)
            self._forms = [kept for kept in self._forms if kept[1] is not stale]
            for structure in stale.structures:
                structure.plan.release()

    def planned(self, signature: Signature) -> None:
        """A signature for which there was to be no plan of symbolic sizes has been planned in numbers."""
        numbers, family = signature.numbers, self._families.get(signature.key)
        if family is None or family.stored is None or family.stored.first is not None or not numbers:
            return
        self._planner.stored().note(family.stored, numbers)

    def _restored(
        self,
        family: _Family,
        numbers: tuple[int, ...],
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
    ) -> SizedPlan | None:
        """A plan that an earlier process stored, where one holds for this signature."""
        if not family.is_looked_up:
            family.is_looked_up = True
            family.stored = self._planner.stored_family(self._graph, types, fixed, self._growing)
            if family.stored is not None:
                family.stored.check(len(numbers))
                family.varied |= family.stored.varied
                if family.stored.failures:
                    family.failures, self.refusal = family.stored.failures, family.stored.refusal
        stored = family.stored
        if stored is None:
            return None
        if stored.first is not None:
            family.differ(stored.first, numbers)
        if len(family.structures) >= MOST_STRUCTURES:
            return None
        for slot, entry in stored.admitting(numbers):
            try:
                plan, read = self._planner.restored(self._graph, self._feeds, entry, numbers, self._growing)
            except Exception as error:  # whatever is wrong with what is stored: it is made again
                shown = error if _log.isEnabledFor(logging.DEBUG) else None
                text = f"{type(error).__name__}: {error}"
                _log.info("%s: a stored plan is not used (%s)", self._planner.label, text, exc_info=shown)
                stored.forget(slot)
                continue
            known = PlanNumbers(read.symbols, read.fixed, self._places(types, fixed))
            found = self._added(family, plan, known, numbers)
            if found is not None:
                return found
            _log.info("%s: a stored plan is not used (it does not hold for these sizes)", self._planner.label)
            stored.forget(slot)
        return None

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

    def signature(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> Signature:
        """Of concrete types, and of what is known of the feeds' contents."""
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
            elif is_numbers(tensor):
                key.append((tensor.dtype, tensor.shape))
                numbers += tensor.tolist()
            else:
                key.append((tensor.dtype, tensor.shape, tensor.numpy().tobytes()))
        return Signature(tuple(numbers), tuple(key))

    def _places(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> tuple[Place, ...]:
        """Where each number of a signature comes from."""
        found: list[Place] = []
        for index, feed in enumerate(self._feeds):
            type = types.get(feed)
            if isinstance(type, TensorType) and type.is_concrete:
                found += (Place(index, axis, False) for axis in range(len(type.concrete_shape)))
        for index, feed in enumerate(self._feeds):
            tensor = fixed.get(feed) if feed in self._contents else None
            if tensor is not None and is_numbers(tensor):
                found += (Place(index, item, True) for item in range(tensor.size))
        return tuple(found)

    def _varying_positions(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> list[int]:
        """The positions of the numbers that are known to change."""
        if not self._varying and not self._sizes_varying:
            return []
        return [
            number
            for number, (feed, at, is_content) in enumerate(self._places(types, fixed))
            if (self._feeds[feed] in self._varying if is_content else (self._feeds[feed], at) in self._sizes_varying)
        ]

    def _fits(self, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> bool:
        """Whether the model takes these shapes at all."""
        try:
            self._planner.resolve(self._graph, types, fixed)
        except ModelError:
            return False
        return True

    def _make(
        self,
        family: _Family,
        numbers: tuple[int, ...],
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
    ) -> SizedPlan | None:
        from mace_core.scheduler.running.tracing import traced

        try:
            start = traced(self._feeds, self._contents, types, fixed, family.varied)
            if not start.symbols:
                return None
            plan = self._planner.plan(self._graph, self._feeds, start.types, start.fixed, start.trace, self._growing)
        except Exception as error:
            # What is wrong with the model shows when the signature is planned as it is; that also serves where
            # somebody cannot work with symbols.
            if not isinstance(error, ModelError) or self._fits(types, fixed):
                family.failures += 1
                is_plain = isinstance(error, NumbersNeededError)
                self.refusal = str(error) if is_plain else f"{type(error).__name__}: {error}"
                if family.stored is not None:
                    stored = self._planner.stored()
                    stored.note_failure(family.stored, numbers, family.varied, error, self.refusal)
            label, shown = self._planner.label, error if _log.isEnabledFor(logging.DEBUG) else None
            _log.info("%s: no plan of symbolic sizes (%s: %s)", label, type(error).__name__, error, exc_info=shown)
            return None
        symbolic = {position for group in start.symbols for position in group}
        fixed_numbers = tuple((i, number) for i, number in enumerate(numbers) if i not in symbolic)
        known = PlanNumbers(start.symbols, fixed_numbers, self._places(types, fixed))
        found = self._added(family, plan, known, numbers)
        if found is None:
            family.failures += 1
            self.refusal = "a plan of symbolic sizes does not hold for the sizes it was made for"
            _log.info("%s: %s", self._planner.label, self.refusal)
        elif family.stored is not None:
            self._planner.stored().keep(family.stored, self._graph, plan.plan, numbers, known.symbols, known.fixed)
        return found

    def _added(
        self, family: _Family, plan: GraphPlan, known: PlanNumbers, numbers: tuple[int, ...]
    ) -> SizedPlan | None:
        """Keep a plan made for a signature; None, and it is released, where it does not hold for that."""
        structure = _Structure(plan, known)
        found = structure.sized(numbers, self._planner.counting)
        if found is None:
            plan.release()
            return None
        family.structures.insert(0, structure)
        return found

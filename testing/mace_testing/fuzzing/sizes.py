"""A model planned once with symbols for its sizes, beside sessions that are planned for each shape.

`SymbolicModel` runs a model whose first signature is planned with a symbol for each size of 2 and more, and says what
the plan holds for.  `check_other_sizes` runs it with other shapes and compares with a fresh session for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from mace_core.errors import MaceError
from mace_core.scheduler.planning.sizes import StageSizes
from mace_core.scheduler.running.plans import GraphPlan
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.session import Session
from mace_core.symbolic import Guard
from mace_testing.fuzzing.case import Array
from mace_testing.fuzzing.verdict import difference

Results = list[Any]


class SymbolicModel:
    """A session whose graphs are planned with symbols from their first signature on."""

    def __init__(self, model: onnx.ModelProto, provider: str = "cpu", *, cache: bool = False) -> None:
        """
        Args:
            model: with free input dimensions; see `free_dimensions`.
            provider: runs it.
            cache: use what is stored of it, and store what is made.

        Raises:
            MaceError: if the model is no good, or not for the provider.
        """
        self.session = Session(model, devices=[provider], strict=True, cache=cache)
        self.session._planner.sizes_at_once = True
        self._outputs = [output.name for output in model.graph.output]

    def __enter__(self) -> SymbolicModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def run(self, feeds: Mapping[str, Array]) -> Results:
        """The results in the order of the model's outputs."""
        found = self.session.run(dict(feeds))
        return [found[name] for name in self._outputs]

    @property
    def runners(self) -> list[GraphRunner]:
        """Of the model and of what is planned in later stages."""
        found = [self.session._runner]
        for runner in found:
            plans: list[Any] = [*runner.plans(), *runner._structures]
            rests = dict.fromkeys(plan.rest for plan in plans if plan.rest is not None)
            found += [rest for rest in rests if rest not in found]
        return found

    @property
    def plans(self) -> list[GraphPlan]:
        """The plans of symbolic sizes there are, the first that was made first."""
        return [plan for runner in self.runners for plan in reversed(list(runner._structures))]

    @property
    def sizes(self) -> list[StageSizes]:
        """Of every plan of symbolic sizes there is."""
        plans: Iterator[GraphPlan] = (plan for runner in self.runners for plan in runner._structures)
        return [plan.plan.sizes for plan in plans if plan.plan.sizes is not None]

    @property
    def failures(self) -> int:
        """How many plans of symbolic sizes could not be made."""
        families = (family for runner in self.runners for family in runner._structures._families.values())
        return sum(family.failures for family in families)

    @property
    def pins(self) -> list[str]:
        """Guards that leave one number to an expression of the sizes."""
        return [
            text for sizes in self.sizes for guard, text in zip(sizes.guards, sizes.texts, strict=True) if is_pin(guard)
        ]


def is_pin(guard: Guard) -> bool:
    """Whether a guard says that some expression of the symbols is one number."""
    return guard.relation == "==" and guard.outcome and sum(1 for monomial in guard.expression if monomial) == 1


def free_dimensions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which each input dimension has a name of its own, and outputs have no declared shape."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    constants = {tensor.name for tensor in free.graph.initializer}
    for number, value in enumerate(free.graph.input):
        if value.name in constants or not value.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"d{number}_{axis}"
    for output in free.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    del free.graph.value_info[:]
    return free


@dataclass
class SizeFindings:
    """What other shapes came to.

    Attributes:
        planned: whether a plan of symbolic sizes was made for the first shapes.
        admitted: other shapes that it served.
        tried: other shapes that the model takes.
        unplanned: shapes for which no plan of symbolic sizes could be made.
        pins: see `SymbolicModel.pins`, of the first shapes.
        faults: what differed from fresh sessions.
    """

    planned: bool = False
    admitted: int = 0
    tried: int = 0
    unplanned: int = 0
    pins: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


Change = Callable[[int], int]
"""Another size for a size."""


def changed_feeds(feeds: Mapping[str, Array], change: Mapping[int, int]) -> dict[str, Array]:
    """Arrays in which sizes are others: equal ones stay equal.  Elements repeat from the start."""
    found: dict[str, Array] = {}
    for name, array in feeds.items():
        shape = tuple(change.get(size, size) for size in array.shape)
        found[name] = array if shape == array.shape else _resized(array, shape)
    return found


def _resized(array: Array, shape: Sequence[int]) -> Array:
    for axis, size in enumerate(shape):
        if size != array.shape[axis]:
            array = array.take(np.arange(size) % array.shape[axis], axis)
    return array


def check_other_sizes(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    others: Sequence[Mapping[str, Array]],
    *,
    provider: str = "cpu",
    tolerance: float | None = None,
    off_by: int = 0,
    free: bool = True,
) -> SizeFindings:
    """Plan ``model`` with symbols at the shapes of ``feeds``, run it with these, with others and with these again.

    ``free``: every input dimension may vary, whatever the model declares.

    Every run must come to what a session says that is opened for it alone: results, or that it refuses.

    Raises:
        MaceError: if the model does not take ``feeds``.
    """
    findings = SizeFindings()
    model = free_dimensions(model) if free else model
    expected = fresh_results(model, feeds, provider)
    if isinstance(expected, MaceError):
        raise expected
    with SymbolicModel(model, provider) as symbolic:
        for number, given in enumerate([feeds, *others, feeds]):
            wanted = expected if given is feeds else fresh_results(model, given, provider)
            before, failures = len(symbolic.sizes), symbolic.failures
            found: Results | MaceError
            try:
                found = symbolic.run(given)
            except MaceError as error:
                found = error
            if number == 0:
                findings.planned, findings.pins = bool(symbolic.sizes), symbolic.pins
            elif given is not feeds and not isinstance(wanted, MaceError):
                findings.tried += 1
                findings.admitted += len(symbolic.sizes) == before and before > 0
            fault = _fault(found, wanted, tolerance, off_by)
            if fault:
                shapes = {name: array.shape for name, array in given.items()}
                findings.faults.append(f"planned at {_shapes(feeds)}, run at {shapes}: {fault}")
            if symbolic.failures > failures and not isinstance(wanted, MaceError):
                findings.unplanned += 1
    return findings


def fresh_results(model: onnx.ModelProto, feeds: Mapping[str, Array], provider: str) -> Results | MaceError:
    """What a session comes to that is planned with the numbers of ``feeds``."""
    try:
        with Session(model, devices=[provider], strict=True, cache=False) as session:
            found = session.run(dict(feeds))
    except MaceError as error:
        return error
    return [found[output.name] for output in model.graph.output]


def _fault(found: Results | MaceError, wanted: Results | MaceError, tolerance: float | None, off_by: int) -> str:
    if isinstance(found, MaceError) or isinstance(wanted, MaceError):
        if isinstance(found, MaceError) and isinstance(wanted, MaceError):
            return ""
        refused, other = (found, "a fresh session has a result") if isinstance(found, MaceError) else (wanted, "")
        return f"{other or 'a result, a fresh session says'}: {refused}"
    for index, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        if isinstance(theirs, np.ndarray) and theirs.dtype != object:
            text = difference(np.asarray(mine), theirs, tolerance, off_by)
            if text:
                return f"output {index}: {text}"
    return ""


def _shapes(feeds: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feeds.items()}

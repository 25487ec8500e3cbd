"""Runs that need no care: arrays, fed as they are, of shapes for which there are plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ProviderError
from mace_core.graph import Value
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.running.feeds import ShapeCheck, plain_inputs
from mace_core.scheduler.running.into import Into
from mace_core.scheduler.running.plans import AnyPlan
from mace_core.scheduler.running.results import owned
from mace_core.scheduler.running.session_runners import SessionRunners
from mace_core.scheduler.running.structures import Form
from mace_core.scheduler.values import RuntimeValue

_NEVER = CancelFlag()
"""For runs that nobody can cancel."""

_UNTOLD = RunContext(_NEVER)
"""For what nobody profiles."""

_PLAIN_FLAGS = 0x0001 | 0x0100
"""Row-major and aligned, as ``ndarray.flags.num`` has them."""


class QuickRuns:
    """Runs the whole model of a session where nothing has to be converted, checked in words or planned."""

    def __init__(self, runners: SessionRunners, inputs: Sequence[Value], outputs: Sequence[Value], label: str) -> None:
        """``label``: how messages call the model."""
        self._runners = runners
        self._runner, self._flags, self._failover = runners.whole, runners.flags, runners.failover
        self._outputs = [value.name for value in outputs]
        self._fed, self._results = inputs, outputs
        self._label = label
        found = plain_inputs(inputs) if len(set(self._outputs)) == len(self._outputs) else None
        self._inputs = None if found is None else [(value.name, dtype) for value, dtype in found]
        self._shape_check = ShapeCheck.of(inputs)

    def run(
        self, feeds: Mapping[str, Any], cancel: CancelFlag | None, into: Into | None = None
    ) -> dict[str, Any] | None:
        """One subgraph on host memory, fed contiguous arrays of a known signature; None where it is anything else.

        ``into``: arrays for outputs, which nobody else writes at the time.
        """
        expected = self._inputs
        if expected is None or not self._failover.is_calm:
            return None
        arrays: list[npt.NDArray[Any]] = []
        shapes: list[tuple[int, ...]] = []
        try:
            for name, dtype in expected:
                array = feeds[name]
                shapes.append(array.shape)  # read once, and before what it has to fit to
                if not isinstance(array, np.ndarray) or (array.dtype is not dtype and array.dtype != dtype):
                    return None
                if array.flags.num & _PLAIN_FLAGS != _PLAIN_FLAGS:
                    return None
                arrays.append(array)
            if len(feeds) != len(arrays):
                return None
        except Exception:  # of an object that is not a mapping, of whatever kind: the careful path says what is wrong
            return None
        runner = self._runner
        if runner.chains and into is None and (found := self._run_chain(arrays, shapes, cancel)) is not None:
            return found
        key: list[Any] = shapes
        flags: list[npt.NDArray[Any]] = []
        if self._flags.positions:
            key = list(shapes)
            flags = self._flags.frozen(arrays, key)
        plan = runner.find(tuple(key)) or self._admitted(shapes, key, flags)
        if plan is None:
            return None
        if into is not None:
            return self._run_into(into, plan, arrays, cancel)
        if not plan.is_single:
            return self._run_known(plan, arrays, shapes, cancel)
        try:
            results = plan.execute_single(arrays, cancel)
        except (ProviderError, MemoryError) as error:
            return self._after(error, arrays, shapes, cancel)
        finally:
            plan.release()
        return dict(zip(self._outputs, results, strict=True))

    def _run_chain(
        self, arrays: Sequence[npt.NDArray[Any]], shapes: Sequence[tuple[int, ...]], cancel: CancelFlag | None
    ) -> dict[str, Any] | None:
        """Stages that natively follow each other; None where no such plans hold for these shapes."""
        try:
            results = self._runner.run_chain(arrays, shapes, cancel)
        except (ProviderError, MemoryError) as error:
            return self._after(error, arrays, shapes, cancel)
        return None if results is None else dict(zip(self._outputs, results, strict=True))

    def _run_into(
        self, into: Into, plan: AnyPlan, arrays: Sequence[npt.NDArray[Any]], cancel: CancelFlag | None
    ) -> dict[str, Any] | None:
        """A run of a single step that writes arrays of the caller; None where it is none.  The plan is released."""
        targets: Mapping[Value, npt.NDArray[Any]] | None = None
        try:
            if not plan.is_single:
                return None
            targets = into.targets(self._results, zip([value.name for value in self._fed], arrays, strict=True))
            results = plan.execute_single(arrays, cancel, targets)
        except (ProviderError, MemoryError) as error:
            fed: list[RuntimeValue] = [array.view() for array in arrays]
            context = RunContext(cancel or _NEVER, targets=targets)
            found = self._failover.run(lambda runners: runners.whole.run(fed, context), error)
            results = [owned(result, [*fed, *into.arrays.values()]) for result in found]
        finally:
            plan.release()
        computed = dict(zip(self._outputs, results, strict=True))
        return {**computed, **into.filled(computed, _UNTOLD)}

    def _run_known(
        self,
        plan: AnyPlan,
        arrays: Sequence[npt.NDArray[Any]],
        shapes: Sequence[tuple[int, ...]],
        cancel: CancelFlag | None,
    ) -> dict[str, Any] | None:
        """A run of several steps or stages on arrays that fit the plan of the first, which is released."""
        fed = _views(arrays, shapes)
        if fed is None:
            plan.release()
            return None
        context = RunContext(cancel or _NEVER)
        plans = [plan]

        def run(runners: SessionRunners) -> list[RuntimeValue]:
            return runners.whole.run(fed, context, plans.pop() if plans and runners is self._runners else None)

        try:
            results = self._failover.run(run)
        finally:
            while plans:
                plans.pop().release()
        return {name: owned(result, fed) for name, result in zip(self._outputs, results, strict=True)}

    def _admitted(
        self, shapes: Sequence[tuple[int, ...]], key: Sequence[Any], flags: Sequence[npt.NDArray[Any]]
    ) -> AnyPlan | None:
        """A plan of symbolic sizes that holds for a signature which is new, and kept under ``key`` from then on; None
        where there is none yet, or the careful path has something to say of it."""
        runner, expected, check = self._runner, self._inputs, self._shape_check
        if expected is None or check is None or not runner.has_structures or not check.holds(shapes):
            return None
        dtypes = [dtype for _, dtype in expected]
        types = partial(runner.array_types, shapes, dtypes)
        return runner.admitted(tuple(key), Form.of(shapes, dtypes, flags), types)

    def _after(
        self,
        error: BaseException,
        arrays: Sequence[npt.NDArray[Any]],
        shapes: Sequence[tuple[int, ...]],
        cancel: CancelFlag | None,
    ) -> dict[str, Any] | None:
        """A run whose first attempt ended with ``error``."""
        fed = _views(arrays, shapes)
        if fed is None:
            return None
        context = RunContext(cancel or _NEVER)
        results = self._failover.run(lambda runners: runners.whole.run(fed, context), error)
        return {name: owned(result, fed) for name, result in zip(self._outputs, results, strict=True)}


def _views(arrays: Sequence[npt.NDArray[Any]], shapes: Sequence[tuple[int, ...]]) -> list[RuntimeValue] | None:
    """Views whose shapes stay as they are; None where an array has another shape already: another thread is at it."""
    fed: list[RuntimeValue] = [array.view() for array in arrays]
    return fed if [array.shape for array in fed] == shapes else None

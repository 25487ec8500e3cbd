"""Runs of a stream whose state keeps its shape: each reads the state in one half of a memory and writes the other half.

Nothing is allocated but the results, and of all addresses only those of feeds and results are new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.values import address_of

if TYPE_CHECKING:
    from mace_core.graph import Value
    from mace_core.scheduler.bound_state import BoundState
    from mace_core.scheduler.running.runner import GraphRunner

_PLAIN_FLAGS = 0x0001 | 0x0100
"""Row-major and aligned, as ``ndarray.flags.num`` has them."""

_LINE_BYTES = 64


class StraightRuns:
    """Runs with one set of shapes, of a plan that is one step on host memory; for one run at a time."""

    @classmethod
    def of(
        cls,
        runner: GraphRunner,
        states: Sequence[BoundState],
        others: Sequence[tuple[Value, np.dtype[Any]]],
        fed: Mapping[Value, npt.NDArray[Any]],
    ) -> StraightRuns | None:
        """Those that go on from what the states hold; None where runs need more care.

        Args:
            runner: computes all outputs of the model.
            others: the inputs that are not state, and their dtypes.
            fed: the arrays of these in the latest run.
        """
        outputs = runner.graph.outputs
        by_name = {value.name: at for at, value in enumerate(outputs)}
        if runner.chains or runner.has_contents or len(by_name) != len(outputs):
            return None
        if len({state.output for state in states}) != len(states):
            return None
        arrays = {**fed, **{state.source: state.value for state in states if state.value is not None}}
        if len(arrays) != len(runner.feeds) or not all(_is_plain(arrays[value]) for value in runner.feeds):
            return None
        key = tuple([arrays[value].shape for value in runner.feeds])
        plan = runner.find(key)
        if plan is None:
            return None
        try:
            if not plan.shared.is_straight or tuple(plan.plan.stage.outputs) != tuple(outputs):
                return None
            registers = [plan.plan.registers[register] for register in plan.plan.results]
            dtypes = [register.dtype.numpy for register in registers]
            shapes = plan.shared.result_shapes(plan.sizes)
        finally:
            plan.release()
        places = [by_name[state.output] for state in states]
        for state, place in zip(states, places, strict=True):
            assert state.value is not None
            if (shapes[place], dtypes[place]) != (state.value.shape, state.value.dtype):
                return None
        return cls(runner, key, states, others, arrays, places, list(zip(by_name, shapes, dtypes, strict=True)))

    def __init__(
        self,
        runner: GraphRunner,
        key: tuple[tuple[int, ...], ...],
        states: Sequence[BoundState],
        others: Sequence[tuple[Value, np.dtype[Any]]],
        arrays: Mapping[Value, npt.NDArray[Any]],
        places: Sequence[int],
        results: Sequence[tuple[str, tuple[int, ...], np.dtype[Any]]],
    ) -> None:
        """``places``: of the states among ``results``, which are (name, shape, dtype)."""
        self._runner, self._key = runner, key
        inputs = {value: position for position, value in enumerate(runner.feeds)}
        self._expected = [(value.name, dtype, arrays[value].shape, inputs[value]) for value, dtype in others]
        values = [state.value for state in states if state.value is not None]
        self._halves = [_copies(values), _copies(values)]
        self._half = 0
        at = {state.source: number for number, state in enumerate(states)}
        self._fed = [[0] * len(runner.feeds) for _ in range(2)]
        self._written = [[0] * len(results) for _ in range(2)]
        for number, half in enumerate(self._halves):
            for position, value in enumerate(runner.feeds):
                if value in at:
                    self._fed[number][position] = address_of(half[at[value]])
            for array, place in zip(half, places, strict=True):
                self._written[1 - number][place] = address_of(array)
        self._new = [(*result, place) for place, result in enumerate(results) if place not in places]

    @property
    def state(self) -> list[npt.NDArray[Any]]:
        """What the next run reads, in the order of the states; the run after that writes over it."""
        return self._halves[self._half]

    def run(self, feeds: Mapping[str, Any], cancel: CancelFlag | None) -> dict[str, npt.NDArray[Any]] | None:
        """The results that are not state; None where something is fed that needs more care, or the plan is gone.

        After an error the state is what it was.
        """
        if type(feeds) is not dict or len(feeds) != len(self._expected):
            return None
        half = self._half
        fed, written = self._fed[half], self._written[half]
        arrays = []  # held until the run is over: another thread may put the next ones into the same dict
        for name, dtype, shape, position in self._expected:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.flags.num & _PLAIN_FLAGS != _PLAIN_FLAGS:
                return None
            if array.dtype is not dtype and array.dtype != dtype:
                return None
            fed[position] = address_of(array)
            arrays.append(array)
        plan = self._runner.find(self._key)
        if plan is None:
            return None
        try:
            if not plan.shared.is_straight:  # planned anew, with other devices
                return None
            found = {}
            for name, shape, dtype, place in self._new:
                found[name] = result = np.empty(shape, dtype)
                written[place] = address_of(result)
            plan.execute_at(fed, written, cancel)
        finally:
            plan.release()
        self._half = 1 - half
        return found


def _is_plain(array: npt.NDArray[Any]) -> bool:
    return type(array) is np.ndarray and array.flags.num & _PLAIN_FLAGS == _PLAIN_FLAGS


def _copies(arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Copies that lie in one piece of memory, each on cache lines of its own."""
    places, total = [], 0
    for array in arrays:
        places.append(total)
        total += -(-array.nbytes // _LINE_BYTES) * _LINE_BYTES
    room = np.empty(total + _LINE_BYTES, np.uint8)
    first = -room.ctypes.data % _LINE_BYTES
    found = []
    for array, place in zip(arrays, places, strict=True):
        part = room[first + place : first + place + array.nbytes].view(array.dtype).reshape(array.shape)
        part[...] = array
        found.append(part)
    return found

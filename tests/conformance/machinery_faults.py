"""Faults put into the example vendor's queues, events, cancelling, profiles, blobs, memory and options."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "vendor_plugin"))

from acme_npu.backend import AcmeBackend, AcmeExecution, AcmeSubgraph
from acme_npu.memory import DeviceMemory
from acme_npu.program import Program
from acme_npu.provider import AcmeProvider
from acme_npu.queue import AcmeEvent, AcmeStream

from mace_core.errors import CancelledError
from mace_core.provider import Bindings, Event

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """One fault, the check that finds it, and what that says."""

    name: str
    apply: Callable[[Patch], None]
    check: str
    words: str


def stream(**methods: Any) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        for name, method in methods.items():
            patch.setattr(AcmeStream, name, method)

    return apply


def deaf_submit(self: AcmeStream, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
    return _submit(self, command, ())


def impatient_submit(self: AcmeStream, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
    """Waits for the first event alone, and only if it is its own."""
    return _submit(self, command, [event for event in wait[:1] if isinstance(event, AcmeEvent)])


def careless_submit(self: AcmeStream, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
    """Goes on when what it waits for has failed."""

    def all_the_same() -> None:
        for event in wait:
            with contextlib.suppress(Exception):
                event.wait()
        command()

    return _submit(self, all_the_same, ())


def quiet_synchronize(self: AcmeStream) -> None:
    with contextlib.suppress(Exception):
        _synchronize(self)


_submit, _synchronize, _wait, _run = AcmeStream.submit, AcmeStream.synchronize, AcmeEvent.wait, AcmeExecution.run


def quiet_events(patch: Patch) -> None:
    patch.setattr(AcmeEvent, "wait", lambda self: self._done.wait() and None)


def events_of_other_works(patch: Patch) -> None:
    """An event is done as soon as its work is queued."""

    def submit(self: AcmeStream, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
        _submit(self, command, wait)
        done = AcmeEvent()
        done.finish(None)
        return done

    patch.setattr(AcmeStream, "submit", submit)


def stays_broken(patch: Patch) -> None:
    """A queue that never forgets a failure."""

    def synchronize(self: AcmeStream) -> None:
        failure = self._failure
        try:
            _synchronize(self)
        finally:
            self._failure = failure

    patch.setattr(AcmeStream, "synchronize", synchronize)


class HeldBack:
    """A cancel flag as it is seen by who looks only when all is done."""

    is_set = False


def cancel_at_the_end(self: AcmeExecution, bindings: Bindings) -> None:
    cancel = bindings.cancel
    bindings.cancel = HeldBack()  # type: ignore[assignment]
    try:
        _run(self, bindings)
    finally:
        bindings.cancel = cancel
    if cancel.is_set:
        raise CancelledError("the run was cancelled")


def cancel_at_the_ends(self: AcmeExecution, bindings: Bindings) -> None:
    if bindings.cancel.is_set:
        raise CancelledError("the run was cancelled")
    cancel_at_the_end(self, bindings)


def never_cancels(self: AcmeExecution, bindings: Bindings) -> None:
    cancel = bindings.cancel
    bindings.cancel = HeldBack()  # type: ignore[assignment]
    try:
        _run(self, bindings)
    finally:
        bindings.cancel = cancel


def run_as(run: Callable[[AcmeExecution, Bindings], None]) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(AcmeExecution, "run", run)


def swallows_callbacks(self: AcmeExecution, bindings: Bindings) -> None:
    profile = bindings.profile

    def quiet(*span: Any) -> None:
        with contextlib.suppress(Exception):
            assert profile is not None
            profile(*span)

    bindings.profile = quiet if profile else None
    try:
        _run(self, bindings)
    finally:
        bindings.profile = profile


def broken_by_callbacks(self: AcmeExecution, bindings: Bindings) -> None:
    """An execution that is of no use any more once a callback has raised."""
    if getattr(self, "broken", False):
        return
    self.broken = bindings.profile is not None  # type: ignore[attr-defined]
    _run(self, bindings)
    self.broken = False  # type: ignore[attr-defined]


def dies_of_callbacks(patch: Patch) -> None:
    """The queue's thread ends with the error of a callback, and nobody is told of it."""

    def serve(self: AcmeStream) -> None:
        while (item := self._commands.get()) is not None:
            command, wait, event = item
            for earlier in wait:
                earlier.wait()
            try:
                command()
            except CancelledError as error:
                event.finish(error)
            except Exception:
                return
            else:
                event.finish(None)

    patch.setattr(AcmeStream, "_serve", serve)


def profile_with(change: Callable[..., tuple[Any, ...]]) -> Callable[[Patch], None]:
    def run(self: AcmeExecution, bindings: Bindings) -> None:
        profile = bindings.profile
        if profile is not None:
            bindings.profile = lambda *span: profile(*change(*span))  # type: ignore[assignment]
        try:
            _run(self, bindings)
        finally:
            bindings.profile = profile

    return run_as(run)


def blob(change: Callable[[Program], Program]) -> Callable[[Patch], None]:
    """What is written is not what was compiled."""
    right = Program.to_bytes
    return lambda patch: patch.setattr(Program, "to_bytes", lambda self: right(change(self)))


def constants_reversed(program: Program) -> Program:
    """The weights lie in the order in which they are read, their places in the order of registers."""
    return _with_constants(program, list(program.constants.values())[::-1])


def constants_sorted(program: Program) -> Program:
    return _with_constants(program, sorted(program.constants.values(), key=lambda array: float(array.sum())))


def _with_constants(program: Program, arrays: list[Any]) -> Program:
    by_shape: dict[Any, list[Any]] = {}
    for array in arrays:
        by_shape.setdefault((array.shape, array.dtype), []).append(array)
    constants = {register: by_shape[a.shape, a.dtype].pop(0) for register, a in program.constants.items()}
    return Program(program.input_count, constants, program.commands, program.outputs)


def outputs_reversed(program: Program) -> Program:
    return Program(program.input_count, program.constants, program.commands, program.outputs[::-1])


def settings_lost(program: Program) -> Program:
    from dataclasses import replace

    commands = tuple(replace(command, then=None) for command in program.commands)
    settings = [
        {**command.settings, "alpha": 1.0} if "alpha" in command.settings else command.settings for command in commands
    ]
    commands = tuple(replace(c, settings=s) for c, s in zip(commands, settings, strict=True))
    return Program(program.input_count, program.constants, commands, program.outputs)


def subgraphs_reversed(patch: Patch) -> None:
    right = AcmeBackend.serialize
    patch.setattr(AcmeBackend, "serialize", lambda self, compiled: right(self, compiled[::-1]))


def blobs_of_handles(patch: Patch) -> None:
    """A blob that holds where things lie instead of what they are: good where it was made, as long as that is open."""
    kept: dict[int, Program] = {}

    def serialize(self: AcmeBackend, compiled: Sequence[Any]) -> bytes:
        kept.update({id(self): [item.program for item in compiled]})
        return json.dumps(id(self)).encode()

    def deserialize(self: AcmeBackend, stored: bytes, subgraphs: Sequence[Any]) -> list[Any]:
        programs = kept[json.loads(stored)]
        if id(self) != json.loads(stored):
            programs = programs[::-1]
        return [AcmeSubgraph(program, self.memory) for program in programs]

    patch.setattr(AcmeBackend, "serialize", serialize)
    patch.setattr(AcmeBackend, "deserialize", deserialize)


def ignores_offsets(patch: Patch) -> None:
    right = AcmeExecution._array

    def array(self: AcmeExecution, tensor: Any) -> Any:
        from mace_core.provider import BoundTensor

        return right(self, BoundTensor(tensor.dtype, tensor.shape, tensor.buffer, 0))

    patch.setattr(AcmeExecution, "_array", array)


def writes_to_inputs(self: AcmeExecution, bindings: Bindings) -> None:
    _run(self, bindings)
    for tensor in bindings.inputs:
        self._array(tensor)[...] = 0


def writes_beyond(self: AcmeExecution, bindings: Bindings) -> None:
    _run(self, bindings)
    for tensor in bindings.outputs:
        if tensor is not None:
            block = self._compiled.memory.block(tensor.buffer)
            end = tensor.offset + self._array(tensor).nbytes
            block[end : end + 16] = 0


def refuses_memory_in_its_own_words(patch: Patch) -> None:
    def allocate(self: DeviceMemory, nbytes: int) -> Any:
        if nbytes > 1 << 40:
            raise MemoryError("no")
        return _allocate(self, nbytes)

    patch.setattr(DeviceMemory, "allocate", allocate)


_allocate = DeviceMemory.allocate


def takes_any_option(patch: Patch) -> None:
    patch.setattr(AcmeProvider, "open", lambda self, device, options: AcmeBackend(device, 1 << 30))


FAULTS = [
    Fault(
        "a queue that ignores wait",
        stream(submit=deaf_submit),
        "queued_work_waits_for_the_events_it_is_given",
        "did not wait for the event",
    ),
    Fault(
        "a queue that waits for its own events alone",
        stream(submit=impatient_submit),
        "queued_work_waits_for_the_events_it_is_given",
        "did not wait for the event",
    ),
    Fault(
        "an event that is done before its work",
        events_of_other_works,
        "queued_work_waits_for_the_events_it_is_given",
        "did not wait for the event|wrong results",
    ),
    Fault(
        "a synchronize that does not wait",
        stream(synchronize=lambda self: None),
        "synchronize_waits_for_what_is_queued",
        "synchronize came back",
    ),
    Fault(
        "events that swallow errors", quiet_events, "events_and_queues_tell_of_failures", "wait swallowed the failure"
    ),
    Fault(
        "a synchronize that swallows errors",
        stream(synchronize=quiet_synchronize),
        "events_and_queues_tell_of_failures",
        "synchronize swallowed the failure",
    ),
    Fault("a queue that never recovers", stays_broken, "events_and_queues_tell_of_failures", "cancelled"),
    Fault(
        "work that goes on after a failure",
        stream(submit=careless_submit),
        "nothing_runs_after_what_it_waits_for_has_failed",
        "work went on",
    ),
    Fault(
        "cancel seen only at the end",
        run_as(cancel_at_the_end),
        "a_run_is_cancelled_in_the_middle_not_at_the_end",
        "cancelled after a quarter",
    ),
    Fault(
        "cancel seen at both ends",
        run_as(cancel_at_the_ends),
        "a_run_is_cancelled_in_the_middle_not_at_the_end",
        "cancelled after a quarter",
    ),
    Fault("cancel never seen", run_as(never_cancels), "a_set_cancel_flag_stops_the_run", "DID NOT RAISE"),
    Fault(
        "profile callbacks whose errors are swallowed",
        run_as(swallows_callbacks),
        "a_profile_callback_that_raises_breaks_nothing",
        "did not come out of run",
    ),
    Fault(
        "an execution broken by a profile callback",
        run_as(broken_by_callbacks),
        "a_profile_callback_that_raises_breaks_nothing",
        "wrong results after a profile callback",
    ),
    Fault(
        "a queue that dies of a profile callback",
        dies_of_callbacks,
        "a_profile_callback_that_raises_breaks_nothing",
        "did not come back",
    ),
    Fault(
        "profiles of unknown nodes",
        profile_with(lambda name, nodes, start, end: (name, ("nobody",), start, end)),
        "profiled_runs_tell_their_steps",
        "names nodes that are not",
    ),
    Fault(
        "profiles of no nodes",
        profile_with(lambda name, nodes, start, end: (name, (), start, end)),
        "profiled_runs_tell_their_steps",
        "no step stands for",
    ),
    Fault(
        "profiles in another clock",
        profile_with(lambda name, nodes, start, end: (name, nodes, start + 10**15, end + 10**15)),
        "profiled_runs_tell_their_steps",
        "perf_counter_ns",
    ),
    Fault(
        "profiles that end before they begin",
        profile_with(lambda name, nodes, start, end: (name, nodes, end + 1, start)),
        "profiled_runs_tell_their_steps",
        "ends before it begins",
    ),
    Fault(
        "blobs with constants in another order",
        blob(constants_reversed),
        "blobs_restore_every_subgraph_with_its_own_constants",
        "compute something else: .*MatMul",
    ),
    Fault(
        "blobs with sorted constants",
        blob(constants_sorted),
        "blobs_restore_every_subgraph_with_its_own_constants",
        "compute something else",
    ),
    Fault(
        "blobs without settings",
        blob(settings_lost),
        "blobs_restore_every_subgraph_with_its_own_constants",
        "compute something else: .*Gemm",
    ),
    Fault(
        "blobs with subgraphs in another order",
        subgraphs_reversed,
        "blobs_restore_every_subgraph_with_its_own_constants",
        "",
    ),
    Fault("blobs that hold handles", blobs_of_handles, "blobs_restore_every_subgraph_with_its_own_constants", ""),
    Fault(
        "offsets ignored",
        ignores_offsets,
        "runs_stay_within_what_they_are_bound_to",
        "Relu.*at offsets in a larger buffer",
    ),
    Fault(
        "a run that writes to its inputs",
        run_as(writes_to_inputs),
        "runs_stay_within_what_they_are_bound_to",
        "Relu.*wrote to its input 0",
    ),
    Fault(
        "a run that writes beyond its outputs",
        run_as(writes_beyond),
        "runs_stay_within_what_they_are_bound_to",
        "Relu.*wrote to bytes behind",
    ),
    Fault("no memory, in other words", refuses_memory_in_its_own_words, "memory_that_is_not_there_is_refused", "^no$"),
    Fault("options of any kind", takes_any_option, "options_refuse_values_they_cannot_take", "DID NOT RAISE"),
]

"""From a session's call to a request in the queue of its device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from mace_core.errors import MaceError, UsageError
from mace_core.provider.execution import CancelFlag
from mace_core.requests.batching import Batcher, Batching, Shapes
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import DeviceQueue, queue_of
from mace_core.requests.request import Request, Run
from mace_core.requests.rows import REQUESTS, NotBatchableError, RowPlan, row_plan
from mace_core.scheduler.context import following_others
from mace_core.scheduler.planning.signatures import types_from_shapes
from mace_core.tensor import TensorType

if TYPE_CHECKING:
    from mace_core.graph import Value
    from mace_core.scheduler.running.into import Into
    from mace_core.session import Session


def ask(
    session: Session,
    feeds: Mapping[str, Any],
    outputs: Sequence[str] | None,
    priority: int,
    deadline: float | None,
    cancel: CancelFlag | None,
    wait: float | None,
    into: Mapping[str, Any] | None = None,
) -> RunFuture:
    """Queue a run; arguments as of `Session.run_async`."""
    if into is not None:
        return ask_into(session, session._careful.into(into), feeds, outputs, priority, deadline, cancel, wait)

    def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        with following_others():
            return session.run(feeds, outputs, cancel=cancel)

    return ask_for(session, run, feeds, outputs, priority, deadline, cancel, wait, session._batcher)


def ask_into(
    session: Session,
    into: Into,
    feeds: Mapping[str, Any],
    outputs: Sequence[str] | None,
    priority: int,
    deadline: float | None,
    cancel: CancelFlag | None,
    wait: float | None,
) -> RunFuture:
    """Queue a run that writes into arrays of the caller; they are kept from other runs until it is over."""

    def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        with following_others():
            return session.run_into(into, feeds, outputs, cancel=cancel)

    held = into.reserve()
    try:
        return ask_for(session, run, feeds, outputs, priority, deadline, cancel, wait, ended=held.end)
    except BaseException:
        held.end()
        raise


def ask_for(
    session: Session,
    run: Run,
    feeds: Mapping[str, Any],
    outputs: Sequence[str] | None,
    priority: int,
    deadline: float | None,
    cancel: CancelFlag | None,
    wait: float | None,
    batcher: Batcher | None = None,
    ended: Callable[[], None] | None = None,
) -> RunFuture:
    """Queue a call of ``run``, which belongs to the session; ``ended`` is called before the future is done."""
    label = session._model.label
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise UsageError(f"{label}: a priority is a whole number, not {priority!r}")
    for name, seconds in (("deadline", deadline), ("wait", wait)):
        if seconds is not None and (not isinstance(seconds, Real) or math.isnan(seconds) or seconds < 0):
            raise UsageError(f"{label}: {name} is a number of seconds, not {seconds!r}")

    until = None if deadline is None else time.monotonic() + deadline
    request = Request(session, label, run, feeds, outputs, priority, until, cancel or CancelFlag(), batcher)
    request.ended = ended
    plan = session._runner.last_plan
    request.devices = 1 if plan is None else max(1, len(plan.plan.busy_devices))
    return queue_for(session).submit(request, wait)


def queue_for(session: Session) -> DeviceQueue:
    """The queue in which the session's requests wait: that of its first device."""
    queue = session._queue = session._queue or queue_of(session._pool.devices[0].name)
    return queue


def batcher_for(session: Session, max_batch: int, max_delay: float) -> Batcher | None:
    """What puts requests of ``session`` together; None for batches of one row.

    Raises:
        UsageError: if the model does not treat rows apart.
    """
    limits = Batching(max_batch, max_delay)
    if max_batch == 1:
        return None
    model, graph, label = session._model, session._graph, session._model.label
    if session.state:
        raise UsageError(f"{label}: requests cannot be batched, since the model keeps state from run to run")
    joined: list[Value] = []
    shared: list[Value] = []
    for value in graph.inputs:
        shape = value.type.shape if isinstance(value.type, TensorType) else None
        (joined if shape and not isinstance(shape[0], int) else shared).append(value)
    if not joined:
        raise UsageError(
            f"{label}: requests cannot be batched, since no input's first axis is left free; export the model with a "
            f"free batch axis"
        )
    names = {value.name for value in joined}

    def plan_of(shapes: Shapes) -> RowPlan:
        try:
            found = []
            for count in REQUESTS:
                sizes = {name: (count, *rest) if name in names else rest for name, rest in shapes}
                found.append(model.resolve(graph, types_from_shapes(graph.inputs, sizes, label), {}))
        except MaceError as error:
            raise NotBatchableError(str(error)) from error
        return row_plan(graph, joined, found)

    batcher = Batcher(limits, [value.name for value in joined], [value.name for value in shared], plan_of)
    assumed = session.assume_shapes().shapes
    usual = [(name, tuple(assumed[name])[1:] if name in names else tuple(assumed[name])) for name in assumed]
    try:
        plan_of(tuple(usual))
    except NotBatchableError as error:
        raise UsageError(f"{label}: requests cannot be batched: {error}; run them one by one") from error
    return batcher

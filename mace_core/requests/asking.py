"""From a session's call to a request in the queue of its device."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.provider.execution import CancelFlag
from mace_core.requests.batch_axes import check_rows_are_apart, rows_shapes
from mace_core.requests.batching import Batcher, Batching
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import Request, queue_of
from mace_core.scheduler.planning.signatures import types_from_shapes

if TYPE_CHECKING:
    from mace_core.session import Session


def ask(
    session: Session,
    feeds: Mapping[str, Any],
    outputs: Sequence[str] | None,
    priority: int,
    deadline: float | None,
    cancel: CancelFlag | None,
    wait: float | None,
) -> RunFuture:
    """Queue a run; arguments as of `Session.run_async`."""
    label = session._model.label
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise UsageError(f"{label}: a priority is a whole number, not {priority!r}")
    for name, seconds in (("deadline", deadline), ("wait", wait)):
        if seconds is not None and (not isinstance(seconds, Real) or math.isnan(seconds) or seconds < 0):
            raise UsageError(f"{label}: {name} is a number of seconds, not {seconds!r}")

    def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        return session.run(feeds, outputs, cancel=cancel)

    until = None if deadline is None else time.monotonic() + deadline
    request = Request(
        session, label, run, feeds, outputs, priority, until, cancel or CancelFlag(), batcher=session._batcher
    )
    queue = session._queue = session._queue or queue_of(session._pool.devices[0].name)
    return queue.submit(request, wait)


def batcher_for(session: Session, max_batch: int, max_delay: float) -> Batcher | None:
    """What puts requests of ``session`` together; None for batches of one row.

    Raises:
        UsageError: if the model does not treat rows apart.
    """
    limits = Batching(max_batch, max_delay)
    if max_batch == 1:
        return None
    graph, label = session._graph, session._model.label
    shapes = rows_shapes(graph, session.assume_shapes().shapes, label)
    resolution = session._model.resolve(graph, types_from_shapes(graph.inputs, shapes, label), {})
    check_rows_are_apart(graph, resolution, label)
    return Batcher(limits, [value.name for value in graph.inputs], [value.name for value in graph.outputs])

"""Before memory is said to be exhausted: what the sessions of this process keep for later is given up."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from mace_core.host.memory import return_free_memory
from mace_core.scheduler.planning import notify

if TYPE_CHECKING:
    from mace_core.scheduler.running.session_runners import SessionRunners

_log = logging.getLogger("mace")

_T = TypeVar("_T")

_sessions: weakref.WeakSet[SessionRunners] = weakref.WeakSet()


def known(runners: SessionRunners) -> None:
    """A session was opened."""
    _sessions.add(runners)


def relieved(owner: SessionRunners, error: MemoryError, run: Callable[[], _T]) -> _T:
    """The result of ``run``, which failed for want of memory: once more each time that some was given up.

    Raises:
        MemoryError: ``error``, or what it ends with after that.
    """
    for _ in reliefs(owner, error):
        try:
            return run()
        except MemoryError as again:
            error = again
    raise error


def reliefs(owner: SessionRunners, error: MemoryError) -> Iterator[None]:
    """Gives up what is kept for later, and stops each time that there was some.

    First goes what ``owner`` keeps (plans that nothing is running, and what runs are given to work in), then what its
    devices keep (`Backend.trim`), then the same of the other sessions, and at last the plans of those that run nothing
    now, with the weights that were packed for them.  All of it is made again when it is needed.
    """
    if _is_hopeless(error):
        return
    others = [session for session in list(_sessions) if session is not owner]
    stages: tuple[tuple[str, Callable[[], int]], ...] = (
        ("what it kept for later", owner.give_up_kept),
        ("what its devices kept", owner.trim_devices),
        ("what other sessions kept", lambda: sum(each.give_up_kept() + each.trim_devices() for each in others)),
        ("what idle sessions had ready", lambda: sum(each.give_up_plans() for each in others)),
    )
    for what, give_up in stages:
        if not give_up():
            continue
        gc.collect()
        return_free_memory()
        _log.warning("%s: memory is exhausted; %s is given up and it is tried once more: %s", owner.label, what, error)
        notify.failed(owner.label, getattr(error, "device", None) or "", "relieved", str(error))
        yield


def _is_hopeless(error: MemoryError) -> bool:
    """Whether more is needed than the machine has altogether, as for a wrong size: nothing is given up for that."""
    wanted: Any = getattr(error, "needed_bytes", None) or getattr(error, "_total_size", None)  # NumPy's own error
    if not isinstance(wanted, int):
        return False
    import psutil

    return wanted > int(psutil.virtual_memory().total)

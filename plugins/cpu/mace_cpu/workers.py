"""How many threads a session's runs use, and on which processors: from its options and from what the system grants."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from numbers import Integral

from mace_core.errors import UsageError
from mace_core.native.machine import AFFINITIES, cgroup_quota, choose_processors, default_threads, usable_processors

_log = logging.getLogger("mace")


@dataclass(frozen=True, slots=True)
class Workers:
    """Threads for runs.

    Attributes:
        threads: that take part in a run, the calling one included.
        processors: those that they keep to; None: any.
        notes: sentences for the user about wishes that were not kept or are not wise.
    """

    threads: int
    processors: frozenset[int] | None = None
    notes: tuple[str, ...] = ()


LIBRARY_THREADS = 4
"""Among how many threads the work of a library is split where nobody says: the fast processors of a phone."""


def library_workers(threads: object) -> Workers:
    """The same for code that runs elsewhere: how many processors this machine has says nothing.

    Raises:
        UsageError: for a value that means nothing.
    """
    return Workers(_count_of(threads) or LIBRARY_THREADS)


def _count_of(threads: object) -> int:
    if isinstance(threads, bool) or not (threads is None or (isinstance(threads, Integral) and int(threads) >= 0)):
        raise UsageError(f"the cpu option 'threads' takes a whole number from 0 (automatic), not {threads!r}")
    return int(threads or 0)


def choose_workers(threads: object, affinity: object) -> Workers:
    """What the options ``threads`` (0 or None: as many as there are processors for) and ``affinity`` come to here.

    More threads than processors are started where they are asked for: results are right, runs are slower.

    Raises:
        UsageError: for values that mean nothing.
    """
    count = _count_of(threads)
    if not isinstance(affinity, str) or affinity not in AFFINITIES:
        raise UsageError(f"the cpu option 'affinity' takes one of {', '.join(AFFINITIES)}, not {affinity!r}")
    choice = choose_processors(str(affinity))
    count = count or default_threads(processors=choice.processors)
    notes = [choice.note, _too_many(count, choice.processors)]
    return Workers(count, choice.processors, tuple(filter(None, notes)))


def _too_many(threads: int, processors: frozenset[int] | None) -> str:
    """What is wrong with so many threads; "" if nothing is."""
    there = len(usable_processors() if processors is None else processors)
    quota = cgroup_quota()
    if threads > there:
        kind = "" if processors is None else " of the kind asked for"
        note = (
            f"{threads} threads are more than the {_count(there)}{kind} that this process may use: they take turns, "
            f"which makes runs slower than with {there}"
        )
    elif quota is not None and threads > math.ceil(quota):
        note = (
            f"{threads} threads are more than the {quota:g} processors that the control group of this process is "
            f"granted: the system halts them for a while when they have used that up"
        )
    else:
        return ""
    _log.warning("cpu: %s", note)
    return note


def _count(processors: int) -> str:
    return "1 processor" if processors == 1 else f"{processors} processors"

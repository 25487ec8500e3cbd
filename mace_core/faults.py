"""What a session does about devices that fail or hang: how many failures it bears, how long it waits and rests."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any

from mace_core.errors import UsageError

__all__ = ["FaultLimits"]

VARIABLE = "MACE_FAULT_LIMITS"


@dataclass(frozen=True, slots=True)
class FaultLimits:
    """When a device that fails in runs is rested, and for how long; how long a plugin is waited for.

    A plugin that does not come back in time is given up, named or not: the session goes on without it.  ``inf`` waits
    for ever, and calls it in the calling thread; a limit calls it in a thread of its own.

    Attributes:
        move: whether a run goes on elsewhere when a device fails; False: the error is raised, and no device rests.
        failures: so many failures and the device rests; four runs that end well make up for one.
        rest_seconds: the first rest.
        growth: each further rest is longer by this factor, until the device works well again.
        longest_rest_seconds: no rest is longer.
        import_seconds: a plugin has so long to be imported.
        probe_seconds: a provider has so long to look for its devices.
        open_seconds: a device has so long to be opened.
        compile_seconds: a device has so long to say what of a model it runs, and so long to compile it or to restore
            what it compiled.

    Raises:
        UsageError: for numbers that cannot be.
    """

    move: bool = True
    failures: int = 3
    rest_seconds: float = 1.0
    growth: float = 2.0
    longest_rest_seconds: float = 300.0
    import_seconds: float = 60.0
    probe_seconds: float = 30.0
    open_seconds: float = 120.0
    compile_seconds: float = 600.0

    def __post_init__(self) -> None:
        is_sound = (
            self.failures >= 1
            and math.isfinite(self.rest_seconds)
            and 0 <= self.rest_seconds <= self.longest_rest_seconds
            and self.growth >= 1
            and math.isfinite(self.growth)
        )
        if not is_sound:
            raise UsageError(
                f"{self} cannot be: a device fails once at least before it rests, rests are 0 s or more and at most "
                "the longest, and they do not become shorter"
            )
        for name in ("import_seconds", "probe_seconds", "open_seconds", "compile_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}, and has to be more than 0 ('inf': wait for ever)")

    @classmethod
    def from_environment(cls) -> FaultLimits:
        """What ``MACE_FAULT_LIMITS`` says, such as ``failures=5,rest_seconds=0.5``; the defaults for the rest.

        Raises:
            UsageError: if it cannot be read.
        """
        defaults: dict[str, Any] = {field.name: field.default for field in fields(cls)}
        found: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
            name, _, value = (piece.strip() for piece in part.partition("="))
            try:
                kind = type(defaults[name])
                found[name] = kind(float(value)) if kind is bool else kind(value)
            except (KeyError, ValueError):
                known = ", ".join(f"{name}={value:g}" for name, value in defaults.items())
                raise UsageError(f"{VARIABLE} has '{part}', which is none of: {known}") from None
        return cls(**found)


_applied: ContextVar[FaultLimits | None] = ContextVar("fault_limits", default=None)


@contextlib.contextmanager
def applied(limits: FaultLimits) -> Iterator[None]:
    """Plugins that are imported, probed and opened in the body have the times of ``limits``."""
    token = _applied.set(limits)
    try:
        yield
    finally:
        _applied.reset(token)


def limits_now() -> FaultLimits:
    """The limits of the session that is being opened; where none is, those of the environment.

    Raises:
        UsageError: if ``MACE_FAULT_LIMITS`` cannot be read.
    """
    return _applied.get() or FaultLimits.from_environment()

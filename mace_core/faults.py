"""What a session does about devices that fail: how many failures it bears, and how long a device rests then."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import Any

from mace_core.errors import UsageError

__all__ = ["FaultLimits"]

VARIABLE = "MACE_FAULT_LIMITS"


@dataclass(frozen=True, slots=True)
class FaultLimits:
    """When a device that fails in runs is rested, and for how long.

    Attributes:
        move: whether a run goes on elsewhere when a device fails; False: the error is raised, and no device rests.
        failures: so many failures and the device rests; four runs that end well make up for one.
        rest_seconds: the first rest.
        growth: each further rest is longer by this factor, until the device works well again.
        longest_rest_seconds: no rest is longer.

    Raises:
        UsageError: for numbers that cannot be.
    """

    move: bool = True
    failures: int = 3
    rest_seconds: float = 1.0
    growth: float = 2.0
    longest_rest_seconds: float = 300.0

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

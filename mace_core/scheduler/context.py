"""What one run carries along: its cancel flag and, when profiled, what it records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_core.provider.execution import CancelFlag

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile


@dataclass(slots=True, eq=False)
class RunContext:
    """One request, through all plans and bodies it touches."""

    cancel: CancelFlag = field(default_factory=CancelFlag)
    profile: Profile | None = None

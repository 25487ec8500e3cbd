"""What became of each plugin."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_core.discovery.entry_points import PROVIDER_GROUP


class PluginState(enum.Enum):
    """What became of a plugin."""

    OK = "ok"
    NOT_LOADED = "not loaded"
    DISABLED = "disabled"
    CONFLICT = "conflict"
    INCOMPATIBLE = "incompatible"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One row of `mace plugins`.

    Attributes:
        name: the provider's name; for other kinds of plugin, the entry point's.
        distribution, version: where it comes from; "" for one registered in the process.
        api_version: the contract it was written for; "" while that is not known.
        reason: for every state but ok and not loaded, why, and what to do.
        group: the entry-point group.
    """

    name: str
    distribution: str
    version: str
    api_version: str
    state: PluginState
    reason: str = ""
    group: str = PROVIDER_GROUP

"""The contract between the core and execution providers, and the registry that finds them.

What a vendor writes against is all here: `ExecutionProvider` -> `Device` -> `Backend` -> `CompiledSubgraph` ->
`Execution`.  Nothing here imports a provider.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mace_core.provider.api import API_VERSION, ApiVersion
from mace_core.provider.backend import (
    Backend,
    Capability,
    Claim,
    Compatibility,
    CompiledSubgraph,
    Cost,
    Rejection,
    ShapeSupport,
)
from mace_core.provider.buckets import Buckets
from mace_core.provider.detection import DetectionProvider
from mace_core.provider.device import Device, DeviceKind, Missing, ProbeResult
from mace_core.provider.execution import (
    Bindings,
    BoundTensor,
    CancelFlag,
    Event,
    Execution,
    FoundOutput,
    NativeStage,
    Stream,
    Turns,
)
from mace_core.provider.foreign import ForeignKind, ForeignMemory
from mace_core.provider.inventory import Inventory, find_device, inventory, probe
from mace_core.provider.lowerings import Lowerings
from mace_core.provider.memory import Allocator, Buffer, DataTransfer, HostAllocator
from mace_core.provider.plugin_status import PluginState, PluginStatus
from mace_core.provider.provider import ExecutionProvider
from mace_core.provider.registry import Registry, default_registry

if TYPE_CHECKING:
    from mace_core.provider.events import (
        CompileEvent,
        FaultEvent,
        GovernorEvent,
        GovernorState,
        PartitionEvent,
        RunProfile,
        Span,
    )
    from mace_core.provider.hook_specs import hookimpl
    from mace_core.provider.libraries import find_library, library_directories

__all__ = [
    "API_VERSION",
    "Allocator",
    "ApiVersion",
    "Backend",
    "Bindings",
    "BoundTensor",
    "Buckets",
    "Buffer",
    "CancelFlag",
    "Capability",
    "Claim",
    "Compatibility",
    "CompileEvent",
    "CompiledSubgraph",
    "Cost",
    "DataTransfer",
    "DetectionProvider",
    "Device",
    "DeviceKind",
    "Event",
    "Execution",
    "ExecutionProvider",
    "FaultEvent",
    "ForeignKind",
    "ForeignMemory",
    "FoundOutput",
    "GovernorEvent",
    "GovernorState",
    "HostAllocator",
    "Inventory",
    "Lowerings",
    "Missing",
    "NativeStage",
    "PartitionEvent",
    "PluginState",
    "PluginStatus",
    "ProbeResult",
    "Registry",
    "Rejection",
    "RunProfile",
    "ShapeSupport",
    "Span",
    "Stream",
    "Turns",
    "default_registry",
    "find_device",
    "find_library",
    "hookimpl",
    "inventory",
    "library_directories",
    "probe",
]


_ON_FIRST_USE = {
    "CompileEvent": "events",
    "FaultEvent": "events",
    "GovernorEvent": "events",
    "GovernorState": "events",
    "PartitionEvent": "events",
    "RunProfile": "events",
    "Span": "events",
    "find_library": "libraries",
    "hookimpl": "hook_specs",  # pluggy is imported only for plugins that use it
    "library_directories": "libraries",
}


def __getattr__(name: str) -> Any:
    module = _ON_FIRST_USE.get(name)
    if module is None:
        raise AttributeError(f"module 'mace_core.provider' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"mace_core.provider.{module}"), name)
    globals()[name] = value
    return value

"""Descriptions of hardware: plain frozen data, no handles."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from mace_core.tensor import DType, MemoryKind


class DeviceKind(enum.Enum):
    """The kind of processing unit."""

    CPU = "cpu"
    GPU = "gpu"
    DSP = "dsp"
    APU = "apu"
    NPU = "npu"


@dataclass(frozen=True, slots=True)
class Device:
    """One unit a provider can open.

    Attributes:
        provider: name of the provider (``opencl``).
        id: what follows the colon when a user names it (``opencl:0``, ``hexagon:v75``).
        kind: cpu, gpu, dsp, apu or npu.
        name: the marketing or driver name, for people.
        vendor: who made the hardware.
        memory_bytes: memory the device can use, 0 when unknown.
        dtypes: element types it computes in.
        memory_kinds: kinds its buffers can have; the first is its own.
        is_virtual: a simulator, an emulator or a stand-in: never chosen automatically, only by name.
        can_execute: False for a compile-only target (another SoC).
        default_threads: worker threads it uses unless told otherwise (CPUs), 0 where that means nothing.
        properties: further facts for `mace devices`, as text.
    """

    provider: str
    id: str
    kind: DeviceKind
    name: str
    vendor: str
    memory_bytes: int = 0
    dtypes: frozenset[DType] = frozenset()
    memory_kinds: tuple[MemoryKind, ...] = (MemoryKind.HOST,)
    is_virtual: bool = False
    can_execute: bool = True
    default_threads: int = 0
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def qualified_name(self) -> str:
        """``provider:id``, the name a user may always write."""
        return f"{self.provider}:{self.id}"


@dataclass(frozen=True, slots=True)
class Missing:
    """Hardware or a library that was looked for and is not there.

    Attributes:
        what: the thing ("libQnnHtp.so").
        reason: why it cannot be used, as a sentence ("not found in …").
        hint: what to do ("install …, or set MACE_QNN_LIB_DIR").
    """

    what: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a provider found: devices, and for what is not there, why not (what decides first).

    A result is cached between processes; it is stale when one of the files (drivers, libraries, their directories;
    absent ones too) that ``depends_on`` names changes, or one of the environment variables of ``environment``.
    """

    devices: tuple[Device, ...] = ()
    missing: tuple[Missing, ...] = ()
    depends_on: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()

"""The provider class: which Neuron Adapter is here, and opening it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from mace_apu import discovery
from mace_apu.options import PRECISIONS, Hints, choice, read_blocks, read_hints
from mace_apu.version import VERSION
from mace_core.errors import ProviderError, UsageError
from mace_core.provider import ApiVersion, Backend, Device, DeviceKind, ExecutionProvider, Missing, ProbeResult
from mace_core.tensor import DType

NATIVE_ID = "neuron"
STAND_IN_ID = "stand-in"

DTYPES = frozenset({DType.FLOAT32, DType.FLOAT16, DType.INT8, DType.UINT8, DType.INT32, DType.BOOL})
HINT = "it is part of the system of MediaTek devices; if it is elsewhere, set MACE_NEURON_LIB_DIR"


class _Options(NamedTuple):
    hints: Hints
    precision: str
    blocks: tuple[int, ...]
    shared: bool
    library: Path | None


class ApuProvider(ExecutionProvider):
    """MediaTek's APU through the Neuron Adapter of the system."""

    name: ClassVar[str] = "apu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 3)
    options: ClassVar[Mapping[str, str]] = {
        "performance": "what to be good at: latency (default: one answer soon), low_power, sustained (many answers) "
        "or boost (the highest clock)",
        "precision": "how float32 is computed: float16 (default) or float32",
        "winograd": "auto (default), off, 2 or 4: whether convolutions of 3x3 are computed by Winograd's algorithm, "
        "where the library has it as an extension, and in which blocks",
        "priority": "low, medium or high, beside other networks of the system; nothing is said by default",
        "boost": "how high the device may clock, from 0 to 100 percent; nothing is said by default",
        "optimization": "what the compiler is to aim at: normal, or low_latency, deep_fusion and batch joined by +",
        "l1_memory": "how many KiB of the APU's own memory the compiler may count on, or all",
        "compiler_options": "options of the vendor's compiler, as text",
        "creation_options": "options that a compilation is created with, as text",
        "shared_memory": "auto (default): inputs and outputs lie in memory that the library knows; or off",
        "library_dir": "folder of the Neuron Adapter, instead of the one found by itself",
    }
    probe_options: ClassVar[frozenset[str]] = frozenset({"library_dir"})
    policy_options: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "throughput": {"performance": "sustained"},
        "power": {"performance": "low_power"},
    }

    def probe(self) -> ProbeResult:
        return _describe(discovery.find_adapter())

    def probe_with(self, options: Mapping[str, object]) -> ProbeResult:
        library = self._read(options).library
        return self.probe() if library is None else _describe(library)

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        given = self._read(options)
        if device.id not in (NATIVE_ID, STAND_IN_ID):
            raise UsageError(f"the apu provider knows no device '{device.id}'")
        library = given.library or discovery.find_adapter()
        if library is None:
            raise ProviderError(
                f"{device.qualified_name} cannot be opened: no Neuron Adapter was found in {discovery.searched()}; "
                f"{HINT}",
                device=device.qualified_name,
            )
        from mace_apu.backend import ApuBackend  # loads the lowering only when a device is opened
        from mace_apu.neuron.handles import NeuronDevices
        from mace_apu.neuron.library import load

        loaded = load(library)
        if loaded.is_stand_in != (device.id == STAND_IN_ID):
            what = "the tests' stand-in" if loaded.is_stand_in else "no stand-in"
            raise ProviderError(
                f"{device.qualified_name} cannot be opened: {library} is {what}; list the devices again",
                device=device.qualified_name,
            )
        devices = NeuronDevices(loaded, device.qualified_name)
        relaxed = given.precision == "float16"
        return ApuBackend(device, devices, hints=given.hints, relaxed=relaxed, blocks=given.blocks, shared=given.shared)

    def _read(self, options: Mapping[str, object]) -> _Options:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(f"the apu provider has no option '{unknown[0]}'; it knows {', '.join(self.options)}")
        precision = choice(options, "precision", PRECISIONS)
        found = _Options(
            read_hints(options),
            precision,
            read_blocks(options, float16=precision == "float16"),
            choice(options, "shared_memory", ("auto", "off")) == "auto",
            None,
        )
        folder = options.get("library_dir")
        if folder is None:
            return found
        if not isinstance(folder, str | os.PathLike) or "\0" in os.fspath(folder):
            raise UsageError(f"the apu option 'library_dir' takes a folder, not {folder!r}")
        library = discovery.find_in(Path(folder))
        if library is None:
            raise UsageError(
                f"the apu option 'library_dir' does not fit: {folder} has none of {', '.join(discovery.ADAPTER_NAMES)}"
            )
        if (problem := discovery.why_unusable(library)) is not None:
            raise UsageError(f"the apu option 'library_dir' does not fit: {problem}")
        return found._replace(library=library)


def _describe(library: Path | None) -> ProbeResult:
    """The device a library brings, or why there is none."""
    if library is None:
        names = discovery.ADAPTER_NAMES
        reason = f"neither it nor {', '.join(names[1:])} was found in {discovery.searched()}"
        watched = tuple(str(folder / name) for folder in discovery.folders() for name in names)
        return ProbeResult((), (Missing(names[0], reason, HINT),), watched, discovery.ENVIRONMENT)
    watched = (str(library),)
    problem = discovery.why_unusable(library)
    if problem is not None:
        return ProbeResult((), (Missing(library.name, problem, HINT),), watched, discovery.ENVIRONMENT)
    stand_in = discovery.is_stand_in(library)
    device = Device(
        provider="apu",
        id=STAND_IN_ID if stand_in else NATIVE_ID,
        kind=DeviceKind.APU,
        name="Neuron Adapter stand-in on this CPU" if stand_in else "MediaTek APU",
        vendor="MACE's tests" if stand_in else "MediaTek",
        dtypes=DTYPES,
        is_virtual=stand_in,
        properties={"library": str(library)},
    )
    missing: tuple[Missing, ...] = ()
    if stand_in:
        missing = (
            Missing(
                "MediaTek APU",
                f"{library} is the stand-in that the tests build; it computes on this CPU",
                f"name 'apu:{STAND_IN_ID}' to use it; its speed means nothing",
            ),
        )
    return ProbeResult((device,), missing, watched, discovery.ENVIRONMENT)

"""What a ``runtime`` of MACE is here: devices to check results on, and devices to compile for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mace_core.errors import MaceError
from mace_core.provider.inventory import find_device, probe
from mace_core.provider.registry import default_registry

CPU, GPU, QUANTIZE = "cpu", "gpu", "quantize"

DEFAULT_THRESHOLDS: Mapping[str, float] = {
    "cpu": 0.999,
    "gpu": 0.995,
    "hexagon": 0.980,
    "hta": 0.980,
    "htp": 0.980,
    "apu": 0.980,
    "quantize": 0.980,
}
"""The least cosine similarity, as MACE has it."""

_PROVIDERS = {"cpu": ("cpu",), "gpu": ("opencl",), "cpu+gpu": ("cpu", "opencl"), "apu": ("apu",)}
_HEXAGON = ("dsp", "hta", "htp")
_THRESHOLD_OF = {"cpu": "cpu", "opencl": "gpu", "hexagon": "hexagon", "apu": "apu"}

EMULATED_DSP = "hexagon:v75"
"""Where results are checked if no SoC is named, or none that has an emulation."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A device that results are checked on.

    Attributes:
        devices: as for `Session`: the device itself first.
        threshold: which of the thresholds holds for it.
    """

    devices: tuple[str, ...]
    threshold: str

    @property
    def name(self) -> str:
        return self.devices[0]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a runtime asks for.

    Attributes:
        checked: devices of this machine to check results on.
        compiled: devices to compile for, which go into the package.
        notes: what there is none of here.
    """

    checked: tuple[Checked, ...]
    compiled: tuple[str, ...]
    notes: tuple[str, ...]


def choose(runtime: str, socs: Sequence[str], abis: Sequence[str], *, quantized: bool) -> Chosen:
    """The devices of a runtime.

    Args:
        socs: ``target_socs``, systems on chip to compile for.
        quantized: the threshold of quantized models holds.
    """
    chosen = (
        _hexagon(runtime, socs, quantized=quantized) if runtime in _HEXAGON else _of_provider(runtime, abis, quantized)
    )
    if chosen.checked or _absence(CPU):
        return chosen
    instead = Checked((CPU,), QUANTIZE if quantized else CPU)
    note = (
        f"results are checked on the CPU instead, which shows that the conversion is right, but nothing of '{runtime}'"
    )
    return Chosen((instead,), chosen.compiled, (*chosen.notes, note))


def _of_provider(runtime: str, abis: Sequence[str], quantized: bool) -> Chosen:
    checked, compiled, notes = [], [], []
    for provider in _PROVIDERS[runtime]:
        device, reason = _device_of(provider)
        if not device:
            notes.append(f"results are not checked on {provider}: {reason}")
            continue
        if reason:
            notes.append(f"results are checked on {device}, a stand-in: {reason}")
        checked.append(Checked((device,), QUANTIZE if quantized else _THRESHOLD_OF[provider]))
        if "host" in abis:
            compiled.append(device)
        elif provider != "cpu":
            notes.append(f"what {provider} compiles depends on the device: it does so there, at the first start")
    return Chosen(tuple(checked), tuple(compiled), tuple(notes))


def devices_of(runtime: str) -> tuple[list[str], list[str]]:
    """Devices to run on where a runtime is asked for, as for `Session`, and what there is none of here."""
    providers = ("hexagon",) if runtime in _HEXAGON else _PROVIDERS[runtime]
    found, notes = [], []
    for provider in sorted(providers, key=lambda name: name == "cpu"):  # an accelerator comes first
        reason = _absence(provider)
        if reason:
            notes.append(f"nothing runs on {provider}: {reason}")
        else:
            found.append(provider)
    return found or ["cpu"], notes


def _hexagon(runtime: str, socs: Sequence[str], *, quantized: bool) -> Chosen:
    notes, compiled = [], []
    for soc in socs:
        name = f"hexagon:{soc.lower()}"
        if soc.lower() == "all":
            notes.append("target_socs: 'all' asks devices that are plugged in; name the ones to compile for")
        elif reason := _absence(name, for_execution=False):
            notes.append(f"nothing is compiled for {soc}: {reason}")
        else:
            compiled.append(name)
    if not socs:
        notes.append("nothing is compiled for a Hexagon processor: target_socs names none (such as sm8650)")
    reason = _absence(EMULATED_DSP)
    if reason:
        return Chosen((), tuple(compiled), (*notes, f"results are not checked on a Hexagon processor: {reason}"))
    threshold = QUANTIZE if quantized else "hexagon" if runtime == "dsp" else runtime
    return Chosen((Checked((EMULATED_DSP,), threshold),), tuple(compiled), tuple(notes))


def _device_of(provider: str) -> tuple[str, str]:
    """The first device of a provider that runs something here, a real one if there is one; and why none is (real)."""
    reason = _absence(provider)
    if not reason:
        return provider, ""
    try:
        devices = probe(provider, default_registry()).devices
    except MaceError:
        return "", reason
    return next(((f"{provider}:{device.id}", reason) for device in devices if device.can_execute), ("", reason))


def _absence(device: str, *, for_execution: bool = True) -> str:
    """Why a device cannot be used here; "" where it can."""
    try:
        find_device(device, default_registry(), for_execution=for_execution)
    except MaceError as error:
        return str(error)
    return ""

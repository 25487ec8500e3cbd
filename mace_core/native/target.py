"""The processor that code is generated for."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mace_core.errors import UsageError
from mace_core.host.arm import arm_designs, arm_features, known_arm_features

_X86_SSE2 = ("cx8", "fxsr", "mmx", "sse", "sse2")
_X86_V2 = (*_X86_SSE2, "cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_X86_V3 = (*_X86_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_X86_V4 = (*_X86_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

_ARM_V8 = ("fp-armv8", "neon")


class _Mask(NamedTuple):
    """An instruction set to keep to: LLVM's processor of that kind, what that has, and what it is to have besides."""

    cpu: str
    features: tuple[str, ...]
    besides: tuple[str, ...] = ()


_X86_MASKS = {
    "baseline": _Mask("x86-64", _X86_SSE2),
    "sse2": _Mask("x86-64", _X86_SSE2),
    "sse4": _Mask("x86-64-v2", _X86_V2),
    "avx2": _Mask("x86-64-v3", _X86_V3),
    "avxvnni": _Mask("x86-64-v3", _X86_V3, ("avxvnni",)),
    "avx512": _Mask("x86-64-v4", _X86_V4),
    "avx512vnni": _Mask("x86-64-v4", _X86_V4, ("avx512vnni",)),
}
_ARM_MASKS = {
    "baseline": _Mask("generic", _ARM_V8),
    "neon": _Mask("generic", _ARM_V8),
    "fp16": _Mask("generic", _ARM_V8, ("fullfp16",)),
    "fp16fml": _Mask("generic", _ARM_V8, ("fp16fml", "fullfp16")),
    "dotprod": _Mask("generic", _ARM_V8, ("dotprod",)),
    "i8mm": _Mask("generic", _ARM_V8, ("dotprod", "i8mm")),
    "armv8.2": _Mask("generic", _ARM_V8, ("dotprod", "fullfp16", "lse", "rdm")),
    "armv8.6": _Mask("generic", _ARM_V8, ("bf16", "dotprod", "fp16fml", "fullfp16", "i8mm", "lse", "rcpc", "rdm")),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What generated code may use.

    Attributes:
        triple: LLVM's name of architecture, system and binary format.
        cpu: LLVM's name of the processor, for tuning.
        features: names of the instruction sets that may be used, as LLVM spells them ("avx512f", "neon").
        vector_bits: the width of vector that kernels should be written for: 512, 256 or 128.
        attributes: LLVM's feature string: features switched on and off on top of what ``cpu`` implies.
    """

    triple: str
    cpu: str
    features: frozenset[str]
    vector_bits: int
    attributes: str = field(default="", repr=False)

    def has(self, feature: str) -> bool:
        """Whether the target has this feature, by LLVM's name for it."""
        return feature in self.features

    @property
    def architecture(self) -> str:
        """ "x86_64", "aarch64", …"""
        name = self.triple.split("-", 1)[0]
        return {"amd64": "x86_64", "arm64": "aarch64", "armv7": "arm"}.get(name, name)

    @property
    def pointer_bits(self) -> int:
        """The width of an address.  Words of plans have 64 bits on every target."""
        return 32 if self.architecture == "arm" else 64

    @property
    def key(self) -> str:
        """Short and unique: part of the cache key of everything made for this target."""
        text = "|".join(
            (self.triple, self.cpu, self.attributes, ",".join(sorted(self.features)), str(self.vector_bits))
        )
        return f"{self.architecture}-{self.cpu}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def host_target(mask: str | None = None) -> Target:
    """The processor we run on, or less of it.

    Args:
        mask: the most that may be used: "baseline" ("sse2"), "sse4", "avx2", "avxvnni", "avx512" or "avx512vnni" on
            x86-64; "baseline" ("neon"), "fp16", "fp16fml", "dotprod", "i8mm", "armv8.2" or "armv8.6" on aarch64, the
            last two with what the processors of that generation have.  None: ``MACE_CPU_FEATURES``, else everything
            there is.

    Raises:
        UsageError: for a mask that is unknown or that this processor does not reach.
    """
    chosen = os.environ.get("MACE_CPU_FEATURES", "") if mask is None else mask
    return _host_target(chosen.strip().lower())


@functools.cache
def _host_target(mask: str) -> Target:
    host = _host()
    triple = host.triple
    present = host.features
    arm = triple.startswith(("aarch64", "arm64"))
    if not mask or mask == "native":
        if arm:
            present |= set(_ARM_V8)
        return make_target(triple, host.cpu, present, host.attributes)
    masks = (
        _ARM_MASKS
        if arm
        else _X86_MASKS
        if triple.startswith(("x86_64", "amd64"))
        else {"baseline": _Mask("generic", ())}
    )
    if mask not in masks:
        known = ", ".join(sorted(masks))
        raise UsageError(f"MACE_CPU_FEATURES (or the mask) '{mask}' is not known for {triple}; use one of: {known}")
    cpu, features, besides = masks[mask]
    needed = set(besides) if arm else {*features, *besides}
    missing = sorted(needed - present)
    if missing:
        raise UsageError(
            f"the mask '{mask}' needs {', '.join(missing)}, which this processor does not have; choose a lower one"
        )
    return make_target(triple, cpu, frozenset((*features, *besides)), ",".join(f"+{name}" for name in besides))


class _Host(NamedTuple):
    """What LLVM says of the processor we run on."""

    triple: str
    cpu: str
    features: frozenset[str]
    attributes: str


def _host() -> _Host:
    """What LLVM says of this processor, remembered where the system can tell it from another one."""
    from mace_core.caching.cache import CheckedCache

    processor = processor_text()
    if not processor:
        return _ask_llvm()
    found = arm_features()
    if found is not None:
        # the text is of one processor of several kinds, and with an emulator of another machine
        processor += "\n" + " ".join(sorted(found)) + f"\n{arm_designs()}"
    import llvmlite

    cache = CheckedCache("host", f"llvmlite{llvmlite.__version__}")
    stored = cache.get(processor)
    if stored is not None:
        triple, cpu, features, attributes = json.loads(stored)
        return _Host(triple, cpu, frozenset(features), attributes)
    host = _ask_llvm()
    cache.put(processor, json.dumps([host.triple, host.cpu, sorted(host.features), host.attributes]).encode())
    return host


def _ask_llvm() -> _Host:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    present = frozenset(name for name, on in features.items() if on)
    attributes = [features.flatten()]
    found = arm_features()
    if found is not None:  # LLVM looks for few of them, and takes the rest for what the name of the design implies
        absent = known_arm_features() - found
        present = (present | found) - absent
        attributes += [*(f"-{name}" for name in sorted(absent)), *(f"+{name}" for name in sorted(found))]
    return _Host(
        llvm.get_process_triple(), llvm.get_host_cpu_name(), present, ",".join(part for part in attributes if part)
    )


_CHANGING = ("processor", "cpu MHz", "bogomips", "BogoMIPS", "core id", "apicid", "initial apicid", "physical id")
_FIRST_BYTES = 8192


def processor_text(root: Path = Path("/")) -> str:
    """What Linux says of the first processor, without what differs from one to the next or from hour to hour; "" on
    other systems.

    Args:
        root: where ``proc`` is looked for.
    """
    try:
        with (root / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            first = file.read(_FIRST_BYTES).lstrip().partition("\n\n")[0]
    except OSError:
        return ""
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() not in _CHANGING]
    known = any(line.partition(":")[0].strip() in ("flags", "Features") for line in lines)
    return f"{os.uname().machine}\n" + "\n".join(lines) if known else ""


def foreign_target(architecture: str, cpu: str = "", features: tuple[str, ...] = ()) -> Target:
    """A processor of another architecture ("aarch64", "x86_64"), to generate code that is not run here.

    Args:
        cpu: LLVM's name of it; by default a plain one.
        features: what may be used beyond the first processors of that architecture, by LLVM's names.
    """
    attributes = ",".join(f"+{name}" for name in features)
    if architecture == "aarch64":
        present = frozenset((*_ARM_V8, *features))
        return make_target("aarch64-unknown-linux-gnu", cpu or "generic", present, attributes)
    if architecture == "x86_64":
        present = frozenset((*_X86_SSE2, *features))
        return make_target("x86_64-unknown-linux-gnu", cpu or "x86-64", present, attributes)
    raise UsageError(f"no foreign target '{architecture}'; use 'aarch64' or 'x86_64'")


def make_target(triple: str, cpu: str, features: frozenset[str], attributes: str) -> Target:
    """A `Target` whose vector width follows from its features."""
    bits = 128
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        bits = 512
        # LLVM tunes recent server processors to 256-bit vectors; inference loops are long enough for the full width
        attributes = ",".join(part for part in (attributes, "-prefer-256-bit") if part)
    elif "avx2" in features:
        bits = 256
    return Target(triple, cpu, features, bits, attributes)

"""What Linux says of an aarch64 processor: who made it, which design it is, and what it has beyond the first ARMv8."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import NamedTuple

_AT_HWCAP, _AT_HWCAP2 = 16, 26

_CAPABILITIES = {
    "lse": (1 << 8, 0),
    "fullfp16": (1 << 9 | 1 << 10, 0),
    "rdm": (1 << 12, 0),
    "complxnum": (1 << 14, 0),
    "rcpc": (1 << 15, 0),
    "sha3": (1 << 17, 0),
    "dotprod": (1 << 20, 0),
    "sve": (1 << 22, 0),
    "fp16fml": (1 << 23, 0),
    "sve2": (0, 1 << 1),
    "i8mm": (0, 1 << 13),
    "bf16": (0, 1 << 14),
    "cssc": (0, 1 << 34),
    "mops": (0, 1 << 43),
}
"""LLVM's name of a feature, and the bits of AT_HWCAP and AT_HWCAP2 that stand for it together.

Source: the kernel's arch/arm64/include/uapi/asm/hwcap.h.
"""

# fmt: off
_MAKERS = {
    0x41: "Arm", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA", 0x50: "APM",
    0x51: "Qualcomm", 0x53: "Samsung", 0x61: "Apple", 0x6D: "Microsoft", 0x70: "Phytium", 0xC0: "Ampere",
}
_DESIGNS = {
    0x41: {
        0xD02: "Cortex-A34", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD06: "Cortex-A65",
        0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
        0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD15: "Cortex-R82", 0xD40: "Neoverse-V1",
        0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD43: "Cortex-A65AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
        0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C",
        0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD83: "Neoverse-V3AE", 0xD84: "Neoverse-V3", 0xD85: "Cortex-X925",
        0xD87: "Cortex-A725", 0xD8E: "Neoverse-N3", 0xD8F: "Cortex-A320",
    },
    0x42: {0x100: "Brahma-B53", 0x516: "ThunderX2"},
    0x43: {
        0x0A0: "ThunderX", 0x0A1: "ThunderX-88XX", 0x0A2: "ThunderX-81XX", 0x0A3: "ThunderX-83XX",
        0x0AF: "ThunderX2-99XX", 0x0B0: "OcteonTX2", 0x0B8: "ThunderX3-T110",
    },
    0x46: {0x001: "A64FX"},
    0x48: {0xD01: "Kunpeng-920", 0xD40: "Cortex-A76"},
    0x4E: {0x000: "Denver", 0x003: "Denver 2", 0x004: "Carmel"},
    0x50: {0x000: "X-Gene"},
    0x51: {
        0x001: "Oryon", 0x201: "Kryo", 0x205: "Kryo", 0x211: "Kryo", 0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver",
        0x802: "Kryo 3xx Gold", 0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver",
        0xC00: "Falkor", 0xC01: "Saphira",
    },
    0x53: {0x001: "Exynos-M1", 0x002: "Exynos-M3", 0x003: "Exynos-M4", 0x004: "Exynos-M5"},
    0x61: {
        0x020: "Icestorm-A14", 0x021: "Firestorm-A14", 0x022: "Icestorm-M1", 0x023: "Firestorm-M1",
        0x024: "Icestorm-M1-Pro", 0x025: "Firestorm-M1-Pro", 0x028: "Icestorm-M1-Max", 0x029: "Firestorm-M1-Max",
        0x030: "Blizzard-A15", 0x031: "Avalanche-A15", 0x032: "Blizzard-M2", 0x033: "Avalanche-M2",
    },
    0x6D: {0xD49: "Cobalt-100"},
    0x70: {0x660: "FTC660", 0x661: "FTC661", 0x662: "FTC662", 0x663: "FTC663", 0x862: "FTC862"},
    0xC0: {0xAC3: "Ampere-1", 0xAC4: "Ampere-1A", 0xAC5: "Ampere-1B"},
}
# fmt: on
"""Names of designs by maker and part number of the main identification register.

Source: the kernel's arch/arm64/include/asm/cputype.h and util-linux's tables for ``lscpu``.
"""


class Design(NamedTuple):
    """One kind of processor in a machine, as its identification register has it.

    Attributes:
        implementer, part: who made it, and which of the maker's designs it is.
        processors: how many are of this kind.
    """

    implementer: int
    part: int
    processors: int

    @property
    def maker(self) -> str:
        return _MAKERS.get(self.implementer, f"maker 0x{self.implementer:02x}")

    @property
    def name(self) -> str:
        return _DESIGNS.get(self.implementer, {}).get(self.part, f"part 0x{self.part:03x}")


def arm_features() -> frozenset[str] | None:
    """LLVM's names of those features in `known_arm_features` that every processor here has and the kernel permits;
    None where the system does not tell.

    Where the processors differ, Linux tells what all have in common.
    """
    if platform.system() != "Linux" or platform.machine() not in ("aarch64", "arm64"):
        return None
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return features_of(getauxval(_AT_HWCAP), getauxval(_AT_HWCAP2))


def features_of(first: int, second: int) -> frozenset[str]:
    """The features that two words of the auxiliary vector, AT_HWCAP and AT_HWCAP2, stand for."""
    return frozenset(name for name, bits in _CAPABILITIES.items() if (first & bits[0], second & bits[1]) == bits)


def known_arm_features() -> frozenset[str]:
    """All that `arm_features` looks for."""
    return frozenset(_CAPABILITIES)


def arm_designs(root: Path = Path("/")) -> tuple[Design, ...]:
    """The kinds of processors that ``/proc/cpuinfo`` names, the fastest first; empty where it names none.

    Makers number little processors first, as a rule; where Linux tells capacities, these decide.

    Args:
        root: where ``proc`` and ``sys`` are looked for.
    """
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    found: dict[tuple[int, int], list[int]] = {}
    number = implementer = -1
    for line in text.splitlines():
        name, _, value = line.partition(":")
        name = name.strip()
        if name in ("processor", "CPU implementer", "CPU part"):
            try:
                value_read = int(value.strip(), 0)
            except ValueError:
                continue
            if name == "processor":
                number = value_read
            elif name == "CPU implementer":
                implementer = value_read
            elif implementer >= 0:
                found.setdefault((implementer, value_read), []).append(number)
    order = {kind: (_capacity(root, numbers[0]), place) for place, (kind, numbers) in enumerate(found.items())}
    return tuple(Design(*kind, len(found[kind])) for kind in sorted(found, key=order.__getitem__, reverse=True))


def describe_designs(designs: tuple[Design, ...]) -> str:
    """For people: "Arm Neoverse-N1", "Arm Cortex-A76 + Cortex-A55", "Qualcomm Kryo 4xx Gold + Arm Cortex-A55"."""
    parts, maker = [], ""
    for design in designs:
        parts.append(design.name if design.maker == maker else f"{design.maker} {design.name}")
        maker = design.maker
    return " + ".join(dict.fromkeys(parts))


def _capacity(root: Path, number: int) -> int:
    try:
        return int((root / f"sys/devices/system/cpu/cpu{number}/cpu_capacity").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0

"""The option ``precision``: in what numbers convolutions and products with constant weights multiply."""

from __future__ import annotations

import ctypes
import enum
import functools
import platform

from mace_core.errors import UsageError
from mace_core.native.target import Target, host_target
from mace_cpu.shared.quads import QuadUnit

PRECISIONS = ("float32", "bfloat16")

_X86_64_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


class Bfloat16Unit(enum.Enum):
    """What multiplies pairs of bfloat16 and sums them up in float32.

    The emulated ones compute the same with ordinary instructions, slowly: they are for tests of everything around the
    instructions on processors that lack them.
    """

    AMX = "amx"
    AVX512 = "avx512"
    NEON = "neon"
    EMULATED = "emulated"
    EMULATED_AMX = "amx-emulated"

    @property
    def has_tiles(self) -> bool:
        """Whether it multiplies tiles of 16 x 32 by 32 x 16 elements."""
        return self in (Bfloat16Unit.AMX, Bfloat16Unit.EMULATED_AMX)

    @property
    def missing(self) -> str:
        """What the unit needs that this processor's target may lack, as a clause; "" if that is nothing."""
        return _NEEDS[self][1]

    def is_in(self, target: Target) -> bool:
        """Whether ``target`` has the instructions, and this process may use them."""
        if not _NEEDS[self][0] <= target.features:
            return False
        if self.has_tiles and target.vector_bits < 512:
            return False
        return self is not Bfloat16Unit.AMX or _tiles_permitted()


_NEEDS: dict[Bfloat16Unit, tuple[frozenset[str], str]] = {
    Bfloat16Unit.AMX: (
        frozenset({"amx-tile", "amx-bf16", "avx512bf16"}),
        "AMX (amx_tile and amx_bf16, on Linux)",
    ),
    Bfloat16Unit.AVX512: (frozenset({"avx512bf16"}), "AVX512-BF16 (avx512_bf16)"),
    Bfloat16Unit.NEON: (frozenset({"neon", "bf16"}), "bfdot (the feature bf16 of ARMv8.6)"),
    Bfloat16Unit.EMULATED: (frozenset(), ""),
    Bfloat16Unit.EMULATED_AMX: (frozenset(), "512-bit vectors (avx512f)"),
}

_FEATURE_PREFIX = "bf16-"


def choose_instructions(features: str | None, precision: str) -> tuple[Target, Bfloat16Unit | None]:
    """The instruction set to generate for, and the unit for bfloat16 if that is the precision.

    Args:
        features: the most that may be used, as `host_target` takes it; "+bf16-amx", "+bf16-avx512", "+bf16-neon",
            "+bf16-emulated" or "+bf16-amx-emulated" at the end names the unit for bfloat16 instead of the best one
            there is.  "+int8-…" is for `choose_byte_tiles`.
        precision: "float32" or "bfloat16".

    Raises:
        UsageError: for an unknown name, or if the processor has no unit for bfloat16.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the cpu option 'precision' is one of {', '.join(PRECISIONS)}, not {precision!r}")
    features, _ = _split(features)
    mask, plus, wanted = (features or "").partition("+")
    try:
        target = host_target("native" if mask == "host" else mask or None)
    except UsageError as error:
        if not mask:
            raise
        raise UsageError(f"the cpu option 'features' is '{features}': {error}") from None
    units = [unit for unit in Bfloat16Unit if plus and wanted == _FEATURE_PREFIX + unit.value]
    if plus and not units:
        known = ", ".join(f"+{_FEATURE_PREFIX}{unit.value}" for unit in Bfloat16Unit)
        raise UsageError(f"the cpu option 'features' ends in '+{wanted}', which is none of {known}")
    if precision == "float32":
        if plus:
            raise UsageError(
                f"the cpu option 'features' names '+{wanted}', which matters with precision bfloat16 only; "
                "set that too, or leave it out"
            )
        return target, None
    candidates = units or best_units(target)
    for unit in candidates:
        if unit.is_in(target):
            return target, unit
    needs = " or ".join(unit.missing for unit in candidates)
    lack = "neither" if len(candidates) > 1 else "not"
    which = f"the instruction set chosen, '{mask}'," if mask not in ("", "host") else f"this processor ({target.cpu})"
    raise UsageError(
        f"the cpu option 'precision' is bfloat16, which needs {needs}; {which} has {lack}; "
        "leave the option at float32, or run on a processor that has it"
    )


def best_units(target: Target) -> list[Bfloat16Unit]:
    """The units for bfloat16 that processors of an architecture may have, the fastest first."""
    return [Bfloat16Unit.NEON] if target.architecture == "aarch64" else [Bfloat16Unit.AMX, Bfloat16Unit.AVX512]


def choose_byte_tiles(features: str | None, target: Target) -> QuadUnit | None:
    """What multiplies tiles of bytes; None where vectors do.

    Args:
        features: of the option; with "+int8-amx", "+int8-amx-emulated" or "+int8-vectors" in it, that is taken instead
            of the best there is.
        target: the instruction set chosen.

    Raises:
        UsageError: for an unknown name, or one that the processor does not have.
    """
    _, wanted = _split(features)
    has_unit = target.features >= _BYTE_TILES and target.vector_bits >= 512 and _tiles_permitted()
    if wanted is None:
        has_pairs = target.architecture == "aarch64" and target.features >= _PAIRED_ROWS
        return QuadUnit.AMX if has_unit else QuadUnit.MMLA if has_pairs else None
    if wanted not in _BYTE_UNITS:
        known = ", ".join(f"+{_BYTE_PREFIX}{name}" for name in _BYTE_UNITS)
        raise UsageError(f"the cpu option 'features' names '+{_BYTE_PREFIX}{wanted}', which is none of {known}")
    unit = _BYTE_UNITS[wanted]
    if (unit is QuadUnit.AMX and not has_unit) or (unit is not None and target.vector_bits < 512):
        raise UsageError(
            f"the cpu option 'features' names '+{_BYTE_PREFIX}{wanted}', which this processor or the instruction set "
            "chosen does not have; leave it out"
        )
    return unit


_BYTE_PREFIX = "int8-"
_BYTE_TILES = frozenset({"amx-tile", "amx-int8"})
_PAIRED_ROWS = frozenset({"dotprod", "i8mm"})
_BYTE_UNITS = {"vectors": None, "amx": QuadUnit.AMX, "amx-emulated": QuadUnit.AMX_EMULATED}


def _split(features: str | None) -> tuple[str | None, str | None]:
    """The features without what they say of bytes, and that."""
    first, *rest = (features or "").split("+")
    said = [part.removeprefix(_BYTE_PREFIX) for part in rest if part.startswith(_BYTE_PREFIX)]
    others = "+".join([first, *(part for part in rest if not part.startswith(_BYTE_PREFIX))])
    return others or None, said[-1] if said else None


@functools.cache
def _tiles_permitted() -> bool:
    """Ask Linux for the tile registers: they enlarge what it saves of a thread, so a process has to ask once.

    Source: the kernel's Documentation/arch/x86/xstate.rst.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    answer = ctypes.CDLL(None).syscall(
        ctypes.c_long(_X86_64_ARCH_PRCTL), ctypes.c_long(_ARCH_REQ_XCOMP_PERM), ctypes.c_long(_XFEATURE_XTILEDATA)
    )
    return bool(answer == 0)

"""The option ``precision``: in what numbers convolutions and products with constant weights multiply."""

from __future__ import annotations

import ctypes
import enum
import functools
import platform

from mace_core.errors import UsageError
from mace_core.native.target import Target, host_target

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
    Bfloat16Unit.EMULATED: (frozenset(), ""),
    Bfloat16Unit.EMULATED_AMX: (frozenset(), "512-bit vectors (avx512f)"),
}

_FEATURE_PREFIX = "bf16-"


def choose_instructions(features: str | None, precision: str) -> tuple[Target, Bfloat16Unit | None]:
    """The instruction set to generate for, and the unit for bfloat16 if that is the precision.

    Args:
        features: the most that may be used, as `host_target` takes it; "+bf16-amx", "+bf16-avx512", "+bf16-emulated" or
            "+bf16-amx-emulated" at the end names the unit for bfloat16 instead of the best one there is.
        precision: "float32" or "bfloat16".

    Raises:
        UsageError: for an unknown name, or if the processor has no unit for bfloat16.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the cpu option 'precision' is one of {', '.join(PRECISIONS)}, not {precision!r}")
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
    candidates = units or [Bfloat16Unit.AMX, Bfloat16Unit.AVX512]
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

"""The option ``precision``: in what numbers convolutions and products with constant weights multiply."""

from __future__ import annotations

import ctypes
import enum
import functools
import platform

from mace_core.errors import UsageError
from mace_core.native.target import Target, host_target
from mace_cpu.shared.quads import QuadUnit

PRECISIONS = ("float32", "bfloat16", "float16")

_X86_64_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


class PairUnit(enum.Enum):
    """What multiplies pairs of bfloat16 or float16, two of which fill a word of 32 bits.

    Sums are float32, but for `HALF`: that sums `HALF_STEPS` products in float16 before it adds to a sum in float32.

    The emulated ones compute the same as others with ordinary instructions, slowly: they are for tests of everything
    around the instructions on processors that lack them.
    """

    AMX = "amx"
    AVX512 = "avx512"
    NEON = "neon"
    EMULATED = "emulated"
    EMULATED_AMX = "amx-emulated"
    LONG_HALF = "fp16-fml"
    HALF = "fp16-blocks"
    EMULATED_HALF = "fp16-emulated"

    @property
    def precision(self) -> str:
        """The numbers that are multiplied: "bfloat16" or "float16"."""
        return "float16" if self in (PairUnit.LONG_HALF, PairUnit.HALF, PairUnit.EMULATED_HALF) else "bfloat16"

    @property
    def feature(self) -> str:
        """How the option ``features`` names it, behind a "+"."""
        return self.value if self.precision == "float16" else f"bf16-{self.value}"

    @property
    def note(self) -> str:
        """For people: "bfloat16 amx", "float16 fml"."""
        return f"{self.precision} {self.value.removeprefix('fp16-')}"

    @property
    def tag(self) -> str:
        """As part of a symbol."""
        return self.value.replace("-", "_")

    @property
    def has_tiles(self) -> bool:
        """Whether it multiplies tiles of 16 x 32 by 32 x 16 elements."""
        return self in (PairUnit.AMX, PairUnit.EMULATED_AMX)

    @property
    def takes_halves(self) -> bool:
        """Whether it multiplies one element of a row at a time: then the two of a word meet columns that lie apart."""
        return self in (PairUnit.LONG_HALF, PairUnit.HALF)

    @property
    def cost(self) -> float:
        """Of a multiply-add, beside one of float32, where `takes_halves`."""
        return (HALF_STEPS + ADDITIONS) / HALF_STEPS / 2 if self is PairUnit.HALF else 1.0

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
        return self is not PairUnit.AMX or _tiles_permitted()


HALF_STEPS = 16
"""Products that are summed in float16 before the sum is added to one in float32.

The rounding errors of so many are at most 16 units of 2 ** -11 of the sum of their sizes, as much as rounding both
factors to bfloat16 may cost.
"""

ADDITIONS = 4
"""Instructions that add eight sums of float16 to such in float32."""

_NEEDS: dict[PairUnit, tuple[frozenset[str], str]] = {
    PairUnit.AMX: (
        frozenset({"amx-tile", "amx-bf16", "avx512bf16"}),
        "AMX (amx_tile and amx_bf16, on Linux)",
    ),
    PairUnit.AVX512: (frozenset({"avx512bf16"}), "AVX512-BF16 (avx512_bf16)"),
    PairUnit.NEON: (frozenset({"neon", "bf16"}), "bfdot (the feature bf16 of ARMv8.6)"),
    PairUnit.EMULATED: (frozenset(), ""),
    PairUnit.EMULATED_AMX: (frozenset(), "512-bit vectors (avx512f)"),
    PairUnit.LONG_HALF: (frozenset({"neon", "fullfp16", "fp16fml"}), "fmlal (asimdfhm)"),
    PairUnit.HALF: (frozenset({"neon", "fullfp16"}), "arithmetic in float16 (fphp and asimdhp of ARMv8.2)"),
    PairUnit.EMULATED_HALF: (frozenset(), ""),
}


def choose_instructions(features: str | None, precision: str) -> tuple[Target, PairUnit | None]:
    """The instruction set to generate for, and the unit for pairs if the precision is not float32.

    Args:
        features: the most that may be used, as `host_target` takes it; a unit's name at the end ("+bf16-amx",
            "+fp16-blocks" …) chooses it instead of the best one there is.  "+int8-…" is for `choose_byte_tiles`.
        precision: one of `PRECISIONS`.

    Raises:
        UsageError: for an unknown name, or if the processor has no unit for the precision.
    """
    _check_precision(precision)
    features, _ = _split(features)
    mask, plus, wanted = (features or "").partition("+")
    try:
        target = host_target("native" if mask == "host" else mask or None)
    except UsageError as error:
        if not mask:
            raise
        raise UsageError(f"the cpu option 'features' is '{features}': {error}") from None
    units = [unit for unit in PairUnit if plus and wanted == unit.feature]
    if plus and not units:
        known = ", ".join(f"+{unit.feature}" for unit in PairUnit)
        raise UsageError(f"the cpu option 'features' ends in '+{wanted}', which is none of {known}")
    if units and units[0].precision != precision:
        raise UsageError(
            f"the cpu option 'features' names '+{wanted}', which matters with precision {units[0].precision} only; "
            "set that too, or leave it out"
        )
    which = f"the instruction set chosen, '{mask}'," if mask not in ("", "host") else f"this processor ({target.cpu})"
    return target, _find_unit(target, precision, units, which)


def unit_of(target: Target, name: str, precision: str) -> PairUnit | None:
    """The unit for pairs of a processor that code is generated for ahead of time; None for float32.

    Args:
        name: the target's, for messages.
        precision: one of `PRECISIONS`.

    Raises:
        UsageError: for an unknown precision, or if such processors need not have a unit for it.
    """
    _check_precision(precision)
    # the tiles of AMX have to be asked for by each process, which a library does not do for the program around it
    units = [unit for unit in best_units(target, precision) if not unit.has_tiles]
    return _find_unit(target, precision, units, f"the target '{name}'")


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"the cpu option 'precision' is one of {', '.join(PRECISIONS)}, not {precision!r}")


def _find_unit(target: Target, precision: str, units: list[PairUnit], which: str) -> PairUnit | None:
    """The first of ``units`` that the target has, or of the best ones if there are none named."""
    if precision == "float32":
        return None
    candidates = units or best_units(target, precision)
    for unit in candidates:
        if unit.is_in(target):
            return unit
    needs = " or ".join(unit.missing for unit in candidates)
    lack = "neither" if len(candidates) > 1 else "not"
    raise UsageError(
        f"the cpu option 'precision' is {precision}, which needs {needs}; {which} has {lack}; "
        "leave the option at float32, or run on a processor that has it"
    )


def best_units(target: Target, precision: str = "bfloat16") -> list[PairUnit]:
    """The units for a precision that processors of an architecture may have, the best first."""
    if precision == "float16":
        return [PairUnit.LONG_HALF, PairUnit.HALF]
    return [PairUnit.NEON] if target.architecture == "aarch64" else [PairUnit.AMX, PairUnit.AVX512]


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

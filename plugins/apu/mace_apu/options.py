"""Values of the provider's options, looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mace_apu.neuron.constants import Optimization, Priority
from mace_core.errors import UsageError

PERFORMANCE = ("latency", "low_power", "sustained", "boost")
PRECISIONS = ("float16", "float32")
ALL = "all"

_MOST_KIB = (1 << 32) - 1


@dataclass(frozen=True)
class Hints:
    """Values of the options.

    Attributes:
        performance: one of `PERFORMANCE`.
        priority: beside other networks of the system; None to say nothing.
        boost: how high the device may clock, in percent; None to say nothing.
        optimization: hints for the compiler; None to say nothing.
        l1_memory: how much of the APU's own memory the compiler may count on, in KiB; 0 for all, None to say nothing.
        compiler_options: of the vendor's compiler (``setOptimizationString``).
        creation_options: of the compilation (``createWithOptions``), as the vendor's programs are given them.
    """

    performance: str = "latency"
    priority: Priority | None = None
    boost: int | None = None
    optimization: Optimization | None = None
    l1_memory: int | None = None
    compiler_options: str = ""
    creation_options: str = ""

    @property
    def key(self) -> str:
        """Of what a compiled network depends on; the boost belongs to executions."""
        return (
            f"performance={self.performance}; priority={self.priority}; optimization={self.optimization}; "
            f"l1={self.l1_memory}; compiler={self.compiler_options}; creation={self.creation_options}"
        )


def read_hints(options: Mapping[str, object]) -> Hints:
    """What the library is to be told.

    Raises:
        UsageError: for a value that an option does not take.
    """
    priority = options.get("priority")
    names = tuple(each.name.lower() for each in Priority)
    return Hints(
        performance=choice(options, "performance", PERFORMANCE),
        priority=None if priority is None else Priority[choice(options, "priority", names).upper()],
        boost=_number(options, "boost", 100),
        optimization=_optimization(options),
        l1_memory=0 if options.get("l1_memory") == ALL else _number(options, "l1_memory", _MOST_KIB, f" or '{ALL}'"),
        compiler_options=_text(options, "compiler_options"),
        creation_options=_text(options, "creation_options"),
    )


def read_blocks(options: Mapping[str, object], *, float16: bool) -> tuple[int, ...]:
    """The blocks of Winograd's algorithm that may be used.

    By itself float16 has the small block only: in F(4x4, 3x3) the numbers in between are up to 100 times the picture's,
    and lose as much of their accuracy.

    Raises:
        UsageError: for another value than the option takes.
    """
    given = options.get("winograd", "auto")
    values: dict[object, tuple[int, ...]] = {"auto": (2,) if float16 else (2, 4), "off": (), "2": (2,), "4": (4,)}
    key = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else None
    if key not in values:
        raise UsageError(f"the apu option 'winograd' is auto, off, 2 or 4, not {given!r}")
    return values[key]


def choice(options: Mapping[str, object], name: str, values: tuple[str, ...]) -> str:
    """One of ``values``, the first by default.

    Raises:
        UsageError: if it is none of them.
    """
    given = options.get(name, values[0])
    if not isinstance(given, str) or given not in values:
        raise UsageError(f"the apu option '{name}' is one of {', '.join(values)}, not {given!r}")
    return given


def _number(options: Mapping[str, object], name: str, most: int, other: str = "") -> int | None:
    given = options.get(name)
    if given is None:
        return None
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        raise UsageError(f"the apu option '{name}' is a number from 0 to {most}{other}, not {given!r}")
    return number


def _text(options: Mapping[str, object], name: str) -> str:
    given = options.get(name, "")
    if not isinstance(given, str) or "\0" in given:
        raise UsageError(f"the apu option '{name}' is text, not {given!r}")
    return given.strip()


def _optimization(options: Mapping[str, object]) -> Optimization | None:
    given = options.get("optimization")
    if given is None:
        return None
    known = {str(each.name).lower(): each for each in Optimization} | {"normal": Optimization.NORMAL}
    parts = given.split("+") if isinstance(given, str) else []
    if not parts or any(part not in known for part in parts):
        raise UsageError(f"the apu option 'optimization' is {', '.join(known)} or several joined by +, not {given!r}")
    found = Optimization.NORMAL
    for part in parts:
        found |= known[part]
    return found

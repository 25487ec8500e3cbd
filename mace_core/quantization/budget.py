"""Size budget: in how many bits each constant is stored, so that a file is as small as asked for and loses least.

Each constant can be stored at several levels: in float, in 8 bits, in 4. Going down saves bytes and adds noise; the
noises of constants add up, nearly. All begin in float, and whichever saves most for its noise goes down next, until the
file is small enough (the greedy solution of the multiple-choice knapsack problem; Sinha and Zoltners, 1979). Then those
that fit in after all go up again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mace_core.errors import UsageError
from mace_core.presentation.sizes import format_bytes

FLOAT = "float"

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_ATTEMPTS = 8
"""What surrounds the weights (scales, nodes) is learned from what was written before, and settles at once."""


@dataclass(slots=True)
class Budget:
    """A size that was asked for, and what it came to.

    Attributes:
        limit: bytes that the file may have.
        size: bytes that it has.
        levels: of each node with constants: "float", "int8" …
    """

    limit: int
    size: int = 0
    levels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A constant that can be stored at several levels.

    Attributes:
        nodes: that read it.
        levels: what they are called, the most exact first.
        sizes: bytes at each level.
        noises: what each level does to the results: noise as a part of them, in power.
    """

    nodes: tuple[str, ...]
    levels: tuple[str, ...]
    sizes: tuple[int, ...]
    noises: tuple[float, ...]


def parse_size(text: str, whole: int) -> int:
    """Bytes that "12MB", "1.5 GiB", "800000" or "40%" (of ``whole``) say.

    Raises:
        UsageError: if the text says no size above zero.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(%|[kmg]?i?b|)\s*", text, re.IGNORECASE)
    unit = found[2].lower() if found is not None else ""
    if found is None or (unit != "%" and unit not in _UNITS):
        raise UsageError(f"'{text}' is no size; give for example 12MB, 1.5GiB or 40% (of the model's)")
    size = int(float(found[1]) * (whole / 100 if unit == "%" else _UNITS[unit]))
    if size < 1:
        raise UsageError(f"'{text}' leaves no room for a model")
    return size


def choose_levels(constants: Sequence[Stored], limit: int) -> list[int] | None:
    """The level of each constant, so that together they take at most ``limit`` bytes; None if the lowest take more."""
    chosen = [0] * len(constants)
    total = sum(one.sizes[0] for one in constants)
    while total > limit:
        steps = [
            ((one.noises[to] - one.noises[at]) / (one.sizes[at] - one.sizes[to]), -one.sizes[at], number, to)
            for number, (one, at) in enumerate(zip(constants, chosen, strict=True))
            for to in range(at + 1, len(one.sizes))
            if one.sizes[to] < one.sizes[at]
        ]
        if not steps:
            return None
        _, _, number, to = min(steps)
        total -= constants[number].sizes[chosen[number]] - constants[number].sizes[to]
        chosen[number] = to
    return _raised(constants, chosen, limit - total)


def _raised(constants: Sequence[Stored], chosen: list[int], room: int) -> list[int]:
    """Put back up what fits into the room that is left, the noisiest first."""
    while True:
        steps = [
            (one.noises[at] - one.noises[to], number, to)
            for number, (one, at) in enumerate(zip(constants, chosen, strict=True))
            for to in range(at)
            if one.sizes[to] - one.sizes[at] <= room
        ]
        if not steps:
            return chosen
        _, number, to = max(steps)
        room -= constants[number].sizes[to] - constants[number].sizes[chosen[number]]
        chosen[number] = to


def fit(
    constants: Sequence[Stored], budget: Budget, make: Callable[[Mapping[str, str]], int], surroundings: int
) -> bool:
    """Choose levels until what is made with them fits; the last that was made does, where this returns True.

    Args:
        budget: its limit is kept to; gets the levels and the size.
        make: makes the model with the levels of all nodes; returns its size.
        surroundings: bytes beside the constants, as far as they are known.
    """
    for _ in range(_ATTEMPTS):
        chosen = choose_levels(constants, budget.limit - surroundings)
        if chosen is None:
            return False
        pairs = list(zip(constants, chosen, strict=True))
        budget.levels = {node: one.levels[level] for one, level in pairs for node in one.nodes}
        budget.size = make(budget.levels)
        if budget.size <= budget.limit:
            return True
        surroundings = budget.size - sum(one.sizes[level] for one, level in pairs)
    return False


def check_limit(limit: int, least: int, most: int, scheme: str) -> None:
    """
    Args:
        least, most: bytes with all constants at their lowest levels, and with all in float.

    Raises:
        UsageError: if there is nothing to choose.
    """
    if least > limit:
        others = "" if scheme == "int4-weight" else ", or take the scheme int4-weight"
        raise UsageError(
            f"the scheme {scheme} makes the model {format_bytes(least)} ({least:,} bytes) at the least, more than the "
            f"{format_bytes(limit)} ({limit:,} bytes) asked for: allow more{others}"
        )
    if most <= limit:
        raise UsageError(
            f"the model has {format_bytes(most)} in float, no more than the {format_bytes(limit)} asked for: nothing "
            "has to be quantized"
        )
